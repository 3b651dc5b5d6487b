//! From a key to the names of resources that go with it, cheap to change a little: shards that copies share.

use model::Str;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Into how many parts tables are cut: a change copies the parts it touches, a copy of the whole the pointers to them.
pub(super) const SHARDS: usize = 1024;

pub(super) fn shard_of(key: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}

/// Key → names, ascending.
#[derive(Debug, Clone)]
pub(super) struct Names {
    shards: Vec<Arc<HashMap<Str, Vec<Str>>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS] }
    }
}

impl Names {
    /// Adds a name; the key as it is held, to be shared.
    pub(super) fn insert(&mut self, key: &Str, name: &Str) -> Str {
        let shard = Arc::make_mut(&mut self.shards[shard_of(key)]);
        if let Some((held, names)) = shard.get_key_value(key) {
            let held = held.clone();
            if let Err(place) = names.binary_search(name)
                && let Some(names) = shard.get_mut(key)
            {
                names.insert(place, name.clone());
            }
            return held;
        }
        shard.insert(key.clone(), vec![name.clone()]);
        key.clone()
    }

    /// Takes a name away.
    pub(super) fn remove(&mut self, key: &str, name: &Str) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(key)]);
        let Some(names) = shard.get_mut(key) else { return };
        if let Ok(place) = names.binary_search(name) {
            names.remove(place);
        }
        if names.is_empty() {
            shard.remove(key);
        }
    }

    /// The names of a key.
    pub(super) fn get(&self, key: &str) -> &[Str] {
        self.shards[shard_of(key)].get(key).map_or(&[], Vec::as_slice)
    }
}
