//! Changes staged against a consistent view of the store.

use super::{Change, Key, Store};
use crate::object::Object;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// One write in the making: it sees its own changes, and nobody else does yet.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    store: &'a Store,
    revision: u64,
    overlay: HashMap<Key, Option<Arc<Value>>>,
    changes: Vec<Change>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, revision: store.revision(), overlay: HashMap::new(), changes: Vec::new() }
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// One object as this transaction sees it.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        match self.overlay.get(key) {
            Some(staged) => staged.clone(),
            None => self.store.get(key),
        }
    }

    /// The objects of a kind as this transaction sees them.
    pub(crate) fn list(&self, kind: &Arc<str>) -> Vec<Arc<Value>> {
        let (mut objects, _) = self.store.list(kind, None);
        for (key, staged) in self.overlay.iter().filter(|(key, _)| key.kind == *kind) {
            objects.retain(|object| (object.namespace(), object.name()) != (key.namespace.as_str(), key.name.as_str()));
            objects.extend(staged.clone());
        }
        objects
    }

    /// Stages an object under the next revision and returns it as it will be seen.
    pub(crate) fn put(&mut self, key: Key, mut value: Value) -> Arc<Value> {
        self.revision += 1;
        value.metadata_mut().insert("resourceVersion".into(), self.revision.to_string().into());
        let value = Arc::new(value);
        self.stage(key, Some(Arc::clone(&value)));
        value
    }

    /// Stages the removal of an object and returns its last state.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Arc<Value>> {
        let last = self.get(&key)?;
        self.revision += 1;
        self.stage(key, None);
        Some(last)
    }

    fn stage(&mut self, key: Key, after: Option<Arc<Value>>) {
        let before = self.get(&key);
        self.overlay.insert(key.clone(), after.clone());
        self.changes.push(Change { revision: self.revision, key, before, after });
    }
}
