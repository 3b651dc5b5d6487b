//! Everything a control plane has to say at one moment, and where its parts say it.

use super::{Collection, Resource};
use model::Str;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{sync::watch, time::Instant};

/// Everything there is to say, by type. Types are pushed in the order in which they stand here.
#[derive(Debug, Clone)]
pub struct Snapshot {
    types: Vec<(&'static str, Option<Collection>)>,
    /// Since when the oldest change waited that is new in it.
    since: Instant,
}

impl Snapshot {
    /// A snapshot of these types.
    pub fn new(types: impl IntoIterator<Item = (&'static str, Collection)>) -> Self {
        let types = types.into_iter().map(|(type_url, collection)| (type_url, Some(collection))).collect();
        Self { types, since: Instant::now() }
    }

    /// The resources of a type, if it is served at all and known already.
    pub fn get(&self, type_url: &str) -> Option<&Collection> {
        self.types.iter().find(|(known, _)| *known == type_url).and_then(|(_, collection)| collection.as_ref())
    }

    /// Whether a type is served, but what there is of it is not known yet.
    pub fn is_awaited(&self, type_url: &str) -> bool {
        self.types.iter().any(|(known, collection)| *known == type_url && collection.is_none())
    }

    /// The types in push order.
    pub fn types(&self) -> impl Iterator<Item = (&'static str, &Collection)> {
        self.types.iter().filter_map(|(type_url, collection)| Some((*type_url, collection.as_ref()?)))
    }

    /// Grows with every change of any type.
    pub fn revision(&self) -> u64 {
        self.types().map(|(_, collection)| collection.revision()).sum()
    }

    /// Since when the oldest change waited that is new in it.
    pub fn since(&self) -> Instant {
        self.since
    }
}

/// Where the parts of a control plane put what they have to say, each for its own types. Clones share it.
///
/// A type is *known* once something, or nothing, was published of it. Proxies are served once all types of [`Catalog::new`]
/// are; a type that was [added](Catalog::add) holds nobody up but those who ask for it.
#[derive(Debug, Clone)]
pub struct Catalog {
    held: Arc<Mutex<Held>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
}

#[derive(Debug, Default)]
struct Held {
    types: Vec<(&'static str, Option<Collection>)>,
    /// Types without which nobody is served.
    required: Vec<&'static str>,
}

/// Changes of one type's resources by name; `None` for those that are gone.
pub type TypeChanges = (&'static str, Vec<(Str, Option<Resource>)>);

impl Catalog {
    /// A catalog of these types, in push order.
    pub fn new(required: &[&'static str]) -> Self {
        let types = required.iter().map(|type_url| (*type_url, None)).collect();
        let held = Held { types, required: required.to_vec() };
        Self { held: Arc::new(Mutex::new(held)), snapshots: watch::Sender::new(None) }
    }

    /// Serves a further type, pushed after those before it. Proxies that ask for it wait until something is published.
    pub fn add(&self, type_url: &'static str) {
        self.held.lock().types.push((type_url, None));
    }

    /// What there is to say, once everything that is required is known.
    pub fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshots.subscribe()
    }

    /// Publishes changes of one type; the first time, even of none, makes the type known.
    pub fn publish(&self, type_url: &'static str, changes: impl IntoIterator<Item = (Str, Option<Resource>)>) {
        self.publish_together([(type_url, changes.into_iter().collect())], Instant::now());
    }

    /// Publishes changes that belong together; the oldest of them has waited since `since`.
    pub fn publish_together(&self, changes: impl IntoIterator<Item = TypeChanges>, since: Instant) {
        let mut held = self.held.lock();
        let mut differs = false;
        for (type_url, changes) in changes {
            let Some((_, collection)) = held.types.iter_mut().find(|(known, _)| *known == type_url) else {
                tracing::error!(type_url, "what was published of a type that is not registered is lost");
                continue;
            };
            let before = collection.as_ref().map(Collection::revision);
            let next = collection.take().unwrap_or_default().with(changes);
            differs |= before != Some(next.revision());
            *collection = Some(next);
        }
        let is_known = |type_url: &&str| held.types.iter().any(|(known, held)| known == type_url && held.is_some());
        if differs && held.required.iter().all(is_known) {
            let snapshot = Snapshot { types: held.types.clone(), since };
            tracing::debug!(revision = snapshot.revision(), "publishing");
            self.snapshots.send_replace(Some(Arc::new(snapshot)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_served_before_all_that_is_required_is_known() {
        let catalog = Catalog::new(&["a", "b"]);
        catalog.add("c");
        let snapshots = catalog.snapshots();
        catalog.publish("a", [("x".into(), Some(Resource::new("x", vec![1])))]);
        assert!(snapshots.borrow().is_none());
        catalog.publish("b", []);
        let first = snapshots.borrow().clone().unwrap();
        assert_eq!((first.revision(), first.is_awaited("c"), first.is_awaited("unheard.of")), (1, true, false));
        catalog.publish("c", []);
        let second = snapshots.borrow().clone().unwrap();
        assert!(!second.is_awaited("c") && second.get("c").is_some_and(Collection::is_empty));
        // What changes nothing is not published.
        catalog.publish("a", [("y".into(), None)]);
        assert!(Arc::ptr_eq(&second, snapshots.borrow().as_ref().unwrap()));
    }
}
