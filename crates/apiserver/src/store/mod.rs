//! Every object, the order in which they changed, and the recent past that watches read from.
//!
//! Reads come from memory. Writes go one after the other through [`Store::write`]: a closure stages changes against a consistent
//! view, they are made durable in one transaction of the [`Backend`], and only then become visible. Each change takes the next
//! value of one revision counter. A watch is a cursor into a bounded history, so that no watcher can hold a writer up: one that
//! falls behind the history is told that its place is gone.

mod disk;
mod history;
mod transaction;

pub(crate) use disk::Disk;
pub(crate) use history::{Change, Past};
pub(crate) use transaction::Transaction;

use crate::object::Object;
use crate::status::{Result, Status};
use history::History;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Where an object lives: its kind (`group/plural`), namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Arc<str>,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(kind: &Arc<str>, namespace: &str, name: &str) -> Self {
        Self { kind: Arc::clone(kind), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// What makes changes outlive the process.
pub(crate) trait Backend: Send + std::fmt::Debug {
    /// Everything kept so far, and the revision reached.
    fn load(&mut self) -> std::result::Result<(u64, Vec<(Key, Value)>), DurabilityError>;
    /// Keeps all of these changes or none of them.
    fn commit(&mut self, revision: u64, changes: &[Change]) -> std::result::Result<(), DurabilityError>;
}

/// The state could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {source}; check that the folder is writable, has room, and that no other server uses it")]
pub struct DurabilityError {
    pub(crate) doing: &'static str,
    pub(crate) path: String,
    #[source]
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}

/// An object that lifecycle rules may have to act on.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    pub(crate) key: Key,
    pub(crate) uid: String,
    /// The uids of its owners.
    pub(crate) owners: Vec<String>,
    /// It is gone; otherwise it is on its way out, or names an owner that does not exist.
    pub(crate) gone: bool,
}

impl Attention {
    fn of(key: &Key, value: &Value, gone: bool) -> Self {
        let owners = owners(value).map(str::to_owned).collect();
        Self { key: key.clone(), uid: value.uid().to_owned(), owners, gone }
    }
}

#[derive(Debug)]
struct Collection {
    objects: BTreeMap<(String, String), Arc<Value>>,
    history: History,
    changed: watch::Sender<u64>,
}

impl Collection {
    fn new(floor: u64) -> Self {
        Self { objects: BTreeMap::new(), history: History::new(floor), changed: watch::Sender::new(floor) }
    }
}

#[derive(Debug, Default)]
struct Index {
    revision: u64,
    floor: u64,
    collections: HashMap<Arc<str>, Collection>,
    uids: HashMap<String, Key>,
    dependents: HashMap<String, BTreeSet<Key>>,
}

/// All objects.
#[derive(Debug)]
pub(crate) struct Store {
    writer: Mutex<Option<Box<dyn Backend>>>,
    index: RwLock<Index>,
    attention: mpsc::UnboundedSender<Attention>,
}

impl Store {
    /// A store, and the stream of objects that lifecycle rules must look at.
    pub(crate) fn open(
        backend: Option<Box<dyn Backend>>,
    ) -> std::result::Result<(Self, mpsc::UnboundedReceiver<Attention>), DurabilityError> {
        let (attention, inbox) = mpsc::unbounded_channel();
        let mut backend = backend;
        let (revision, objects) = match &mut backend {
            Some(backend) => backend.load()?,
            None => (first_revision(), Vec::new()),
        };
        let mut index = Index { revision, floor: revision, ..Index::default() };
        let mut pending = Vec::new();
        for (key, value) in objects {
            let value = Arc::new(value);
            index.link(&key, None, Some(&value));
            if value.is_terminating() || !value.list("/metadata/ownerReferences").is_empty() {
                pending.push(Attention::of(&key, &value, false));
            }
            index.collection(&key.kind).objects.insert((key.namespace, key.name), value);
        }
        for item in pending {
            attention.send(item).ok();
        }
        Ok((Self { writer: Mutex::new(backend), index: RwLock::new(index), attention }, inbox))
    }

    /// Runs `change` against a consistent view and keeps what it staged; nothing is kept when it fails or when `dry_run`.
    pub(crate) fn write<T>(&self, dry_run: bool, change: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut writer = self.writer.lock();
        let mut transaction = Transaction::new(self);
        let outcome = change(&mut transaction)?;
        let changes = transaction.into_changes();
        if dry_run || changes.is_empty() {
            return Ok(outcome);
        }
        let revision = changes.last().map_or(0, |change| change.revision);
        if let Some(backend) = writer.as_mut() {
            backend.commit(revision, &changes).map_err(Status::internal)?;
        }
        self.publish(changes);
        Ok(outcome)
    }

    fn publish(&self, changes: Vec<Change>) {
        let mut index = self.index.write();
        for change in changes {
            index.revision = change.revision;
            index.link(&change.key, change.before.as_ref(), change.after.as_ref());
            if let Some(item) = index.attention(&change) {
                self.attention.send(item).ok();
            }
            let collection = index.collection(&change.key.kind);
            let place = (change.key.namespace.clone(), change.key.name.clone());
            match &change.after {
                Some(value) => collection.objects.insert(place, Arc::clone(value)),
                None => collection.objects.remove(&place),
            };
            let revision = change.revision;
            collection.history.push(change);
            collection.changed.send_replace(revision);
        }
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> u64 {
        self.index.read().revision
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        let index = self.index.read();
        index.collections.get(&key.kind)?.objects.get(&(key.namespace.clone(), key.name.clone())).cloned()
    }

    /// The objects of a kind, in one namespace or in all, with the revision they stand at.
    pub(crate) fn list(&self, kind: &Arc<str>, namespace: Option<&str>) -> (Vec<Arc<Value>>, u64) {
        let index = self.index.read();
        let objects = index.collections.get(kind).map(|collection| match namespace {
            None => collection.objects.values().cloned().collect(),
            Some(namespace) => collection
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((in_namespace, _), _)| in_namespace == namespace)
                .map(|(_, value)| Arc::clone(value))
                .collect(),
        });
        (objects.unwrap_or_default(), index.revision)
    }

    /// The objects of a namespace, whatever their kind.
    pub(crate) fn contents(&self, namespace: &str) -> Vec<(Key, Arc<Value>)> {
        let index = self.index.read();
        let mut contents = Vec::new();
        for (kind, collection) in &index.collections {
            for ((_, name), value) in collection
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((in_namespace, _), _)| in_namespace == namespace)
            {
                contents.push((Key::new(kind, namespace, name), Arc::clone(value)));
            }
        }
        contents
    }

    /// The objects that name this owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<Key> {
        self.index.read().dependents.get(uid).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether an object with this uid exists.
    pub(crate) fn has_uid(&self, uid: &str) -> bool {
        self.index.read().uids.contains_key(uid)
    }

    /// Where the object with this uid lives.
    pub(crate) fn place_of(&self, uid: &str) -> Option<Key> {
        self.index.read().uids.get(uid).cloned()
    }

    /// The changes of a kind after a revision, oldest first, at most `most` of them.
    pub(crate) fn after(&self, kind: &Arc<str>, revision: u64, most: usize) -> Past {
        let index = self.index.read();
        match index.collections.get(kind) {
            Some(collection) => collection.history.after(revision, most),
            None if revision < index.floor => Past::Gone { oldest: index.floor },
            None => Past::Changes(Vec::new()),
        }
    }

    /// Tells when a kind changes.
    pub(crate) fn subscribe(&self, kind: &Arc<str>) -> watch::Receiver<u64> {
        self.index.write().collection(kind).changed.subscribe()
    }
}

impl Index {
    fn collection(&mut self, kind: &Arc<str>) -> &mut Collection {
        let floor = self.floor;
        self.collections.entry(Arc::clone(kind)).or_insert_with(|| Collection::new(floor))
    }

    fn link(&mut self, key: &Key, before: Option<&Arc<Value>>, after: Option<&Arc<Value>>) {
        if let Some(before) = before {
            if after.is_none_or(|after| after.uid() != before.uid()) {
                self.uids.remove(before.uid());
            }
            for uid in owners(before) {
                if let Some(keys) = self.dependents.get_mut(uid) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.dependents.remove(uid);
                    }
                }
            }
        }
        if let Some(after) = after {
            self.uids.insert(after.uid().to_owned(), key.clone());
            for uid in owners(after) {
                self.dependents.entry(uid.to_owned()).or_default().insert(key.clone());
            }
        }
    }

    fn attention(&self, change: &Change) -> Option<Attention> {
        let item = |value: &Value, gone| Attention::of(&change.key, value, gone);
        match (&change.before, &change.after) {
            (Some(before), None) => Some(item(before, true)),
            (_, Some(after)) if after.is_terminating() => Some(item(after, false)),
            (None, Some(after)) if owners(after).any(|uid| !self.uids.contains_key(uid)) => Some(item(after, false)),
            _ => None,
        }
    }
}

fn owners(value: &Value) -> impl Iterator<Item = &str> {
    value.list("/metadata/ownerReferences").iter().map(|reference| reference.text("/uid"))
}

/// Revisions of a store in memory start at the clock, so that a client of an earlier life is told that its place in the past
/// is gone rather than being served from the wrong one.
fn first_revision() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(1)
}

#[cfg(test)]
mod tests;
