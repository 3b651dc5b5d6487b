//! What is known of the objects of a scope: looked up at once, followed change by change.
//!
//! One writer (the watch) and any number of readers, each of whom may follow the [`Changes`].

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};

use api::{ParseError, Resource};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

use crate::changes::{Change, Changes, Queue};

/// Namespace and name; the namespace of a cluster-scoped object is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// The key of this name in this namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<T: Resource>(object: &T) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// An object that does not have its kind's shape. What was known of it before stays in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which object.
    pub key: ObjectKey,
    /// What is wrong with it.
    pub error: ParseError,
    /// The object as it was written.
    pub value: Value,
}

/// The objects of a scope, kept up to date while any clone is held.
pub struct Store<T> {
    shared: Arc<Shared<T>>,
    // Ends the watch with the last handle.
    watch: Arc<AbortOnDrop>,
}

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), watch: self.watch.clone() }
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("objects", &self.shared.state.read().objects.len()).finish_non_exhaustive()
    }
}

pub(crate) struct Shared<T> {
    state: RwLock<State<T>>,
    version: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

struct State<T> {
    objects: HashMap<ObjectKey, Arc<T>>,
    rejected: HashMap<ObjectKey, Arc<Rejected>>,
    followers: Vec<Weak<Queue<T>>>,
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A store that is followed for as long as somebody else holds it.
pub(crate) struct WeakStore<T> {
    shared: Weak<Shared<T>>,
    watch: Weak<AbortOnDrop>,
}

/// Any kind's [`WeakStore`].
pub(crate) trait Watched: Any + Send + Sync {
    /// Whether somebody holds the store.
    fn is_held(&self) -> bool;
}

impl<T: Resource> Watched for WeakStore<T> {
    fn is_held(&self) -> bool {
        self.watch.strong_count() > 0
    }
}

impl<T> WeakStore<T> {
    pub(crate) fn upgrade(&self) -> Option<Store<T>> {
        Some(Store { shared: self.shared.upgrade()?, watch: self.watch.upgrade()? })
    }
}

impl<T: Resource> Store<T> {
    pub(crate) fn downgrade(&self) -> WeakStore<T> {
        WeakStore { shared: Arc::downgrade(&self.shared), watch: Arc::downgrade(&self.watch) }
    }

    pub(crate) fn new(shared: Arc<Shared<T>>, watch: tokio::task::AbortHandle) -> Self {
        Self { shared, watch: Arc::new(AbortOnDrop(watch)) }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.shared.state.read().objects.get(&ObjectKey::new(namespace, name)).cloned()
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.shared.state.read().objects.values().cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.state.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects that cannot be read.
    pub fn rejected(&self) -> Vec<Arc<Rejected>> {
        self.shared.state.read().rejected.values().cloned().collect()
    }

    /// Whether everything that exists has been seen.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits until everything that exists has been seen.
    pub async fn synced(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// A counter that moves with every change: for those who look at the whole again whenever anything changed.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Everything from now on, beginning with what is there.
    pub fn changes(&self) -> Changes<T> {
        let queue = Arc::new(Queue::default());
        let mut state = self.shared.state.write();
        for object in state.objects.values() {
            queue.push(Some(ObjectKey::of(&**object)), Change::Applied(object.clone()));
        }
        for rejected in state.rejected.values() {
            queue.push(Some(rejected.key.clone()), Change::Rejected(rejected.clone()));
        }
        // The writer sets this while it holds the state, so the queue gets `Synced` exactly once.
        if *self.shared.synced.borrow() {
            queue.push(None, Change::Synced);
        }
        state.followers.push(Arc::downgrade(&queue));
        Changes::new(queue, self.clone())
    }
}

impl<T: Resource> Shared<T> {
    pub(crate) fn new() -> Self {
        let state = State { objects: HashMap::new(), rejected: HashMap::new(), followers: Vec::new() };
        Self { state: RwLock::new(state), version: watch::Sender::new(0), synced: watch::Sender::new(false) }
    }

    /// An object was created or changed; the same version again is no change.
    pub(crate) fn apply(&self, key: ObjectKey, object: Arc<T>) {
        let mut state = self.state.write();
        state.rejected.remove(&key);
        let version = &object.metadata().resource_version;
        if state
            .objects
            .get(&key)
            .is_some_and(|known| !version.is_empty() && known.metadata().resource_version == *version)
        {
            return;
        }
        state.objects.insert(key.clone(), object.clone());
        state.tell(&Some(key), &Change::Applied(object));
        self.moved();
    }

    /// An object is gone.
    pub(crate) fn delete(&self, key: &ObjectKey) {
        let mut state = self.state.write();
        let unreadable = state.rejected.remove(key).is_some();
        if let Some(object) = state.objects.remove(key) {
            state.tell(&Some(key.clone()), &Change::Deleted(object));
        } else if unreadable {
            state.tell(&Some(key.clone()), &Change::Withdrawn(key.clone()));
        } else {
            return;
        }
        self.moved();
    }

    /// An object cannot be read.
    pub(crate) fn reject(&self, rejected: Rejected) {
        let mut state = self.state.write();
        if state.rejected.get(&rejected.key).is_some_and(|known| **known == rejected) {
            return;
        }
        let rejected = Arc::new(rejected);
        state.rejected.insert(rejected.key.clone(), rejected.clone());
        state.tell(&Some(rejected.key.clone()), &Change::Rejected(rejected));
        self.moved();
    }

    /// Everything that exists has been seen: what is not among `seen` is gone.
    pub(crate) fn sync(&self, seen: &HashSet<ObjectKey>) {
        let gone: Vec<_> = {
            let state = self.state.read();
            state.objects.keys().chain(state.rejected.keys()).filter(|key| !seen.contains(key)).cloned().collect()
        };
        gone.iter().for_each(|key| self.delete(key));
        let mut state = self.state.write();
        if !self.synced.send_replace(true) {
            state.tell(&None, &Change::Synced);
            self.moved();
        }
    }

    fn moved(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

impl<T> State<T> {
    fn tell(&mut self, key: &Option<ObjectKey>, change: &Change<T>) {
        self.followers.retain(|follower| {
            let follower = follower.upgrade();
            follower.inspect(|queue| queue.push(key.clone(), change.clone())).is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use api::{ConfigMap, ObjectMeta};

    use super::*;

    fn store() -> (Arc<Shared<ConfigMap>>, Store<ConfigMap>) {
        let shared = Arc::new(Shared::new());
        let watch = tokio::spawn(std::future::pending::<()>()).abort_handle();
        (shared.clone(), Store::new(shared, watch))
    }

    fn object(name: &str, version: &str) -> (ObjectKey, Arc<ConfigMap>) {
        let metadata = ObjectMeta { resource_version: version.into(), ..ObjectMeta::named("a", name) };
        (ObjectKey::new("a", name), Arc::new(ConfigMap { metadata, ..ConfigMap::default() }))
    }

    fn told(changes: &mut Changes<ConfigMap>) -> Vec<String> {
        std::iter::from_fn(|| changes.try_next())
            .map(|change| match change {
                Change::Applied(object) => format!("+{}@{}", object.metadata.name, object.metadata.resource_version),
                Change::Deleted(object) => format!("-{}", object.metadata.name),
                Change::Rejected(rejected) => format!("!{}", rejected.key.name),
                Change::Withdrawn(key) => format!("?{}", key.name),
                Change::Synced => "synced".to_owned(),
            })
            .collect()
    }

    fn apply(shared: &Shared<ConfigMap>, name: &str, version: &str) {
        let (key, object) = object(name, version);
        shared.apply(key, object);
    }

    fn rejected(name: &str) -> Rejected {
        let value = serde_json::json!({"data": 1});
        let error = ConfigMap::from_value(value.clone()).unwrap_err();
        Rejected { key: ObjectKey::new("a", name), error, value }
    }

    #[tokio::test]
    async fn a_follower_sees_what_is_there_then_what_changes() {
        let (shared, store) = store();
        apply(&shared, "x", "1");
        let mut changes = store.changes();
        assert_eq!(told(&mut changes), ["+x@1"]);
        apply(&shared, "x", "1");
        apply(&shared, "y", "2");
        shared.sync(&HashSet::from([ObjectKey::new("a", "y")]));
        assert_eq!(told(&mut changes), ["+y@2", "-x", "synced"]);
        assert_eq!((store.len(), store.is_synced()), (1, true));
        assert_eq!(told(&mut store.changes()), ["+y@2", "synced"]);
        shared.sync(&HashSet::from([ObjectKey::new("a", "y")]));
        assert_eq!(told(&mut changes), [""; 0]);
    }

    #[tokio::test]
    async fn a_slow_follower_sees_the_latest_state_of_each_object() {
        let (shared, store) = store();
        let mut changes = store.changes();
        apply(&shared, "x", "1");
        apply(&shared, "y", "2");
        apply(&shared, "x", "3");
        shared.delete(&ObjectKey::new("a", "y"));
        assert_eq!(told(&mut changes), ["+x@3", "-y"]);
    }

    #[tokio::test]
    async fn an_unreadable_object_is_reported_and_what_was_known_stands() {
        let (shared, store) = store();
        let mut changes = store.changes();
        apply(&shared, "x", "1");
        assert_eq!(told(&mut changes), ["+x@1"]);
        shared.reject(rejected("x"));
        shared.reject(rejected("z"));
        assert_eq!(told(&mut changes), ["!x", "!z"]);
        assert_eq!((store.len(), store.rejected().len()), (1, 2));
        shared.delete(&ObjectKey::new("a", "z"));
        apply(&shared, "x", "2");
        assert_eq!(told(&mut changes), ["?z", "+x@2"]);
        assert_eq!(store.rejected().len(), 0);
    }

    #[tokio::test]
    async fn a_slow_follower_hears_of_what_cannot_be_read_after_what_was_known() {
        let (shared, store) = store();
        let mut changes = store.changes();
        apply(&shared, "x", "1");
        shared.reject(rejected("x"));
        assert_eq!(told(&mut store.changes()), ["+x@1", "!x"]);
        assert_eq!(told(&mut changes), ["+x@1", "!x"]);
        shared.delete(&ObjectKey::new("a", "x"));
        shared.reject(rejected("x"));
        assert_eq!(told(&mut changes), ["-x", "!x"]);
        shared.reject(rejected("y"));
        apply(&shared, "y", "2");
        assert_eq!(told(&mut changes), ["+y@2"]);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_change() {
        let (shared, store) = store();
        let mut changes = store.changes();
        let waiting = tokio::spawn(async move { changes.next().await });
        apply(&shared, "x", "1");
        assert!(matches!(waiting.await.unwrap(), Change::Applied(_)));
    }
}
