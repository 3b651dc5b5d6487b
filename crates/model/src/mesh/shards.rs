//! A hash map that is cheap to copy and to change a little.
//!
//! The entries lie in 256 parts behind reference counts. A clone shares all of them; a change copies the one part it touches.
//! With 100 000 entries that is about 400 entries per change, and a batch copies each part at most once.

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};
use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

const SHARDS: usize = 256;

type Shard<K, V> = HashTable<(K, V)>;

/// The map.
#[derive(Debug, Clone)]
pub(super) struct Sharded<K, V> {
    hasher: DefaultHashBuilder,
    shards: Arc<Vec<Arc<Shard<K, V>>>>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), shards: Arc::new(vec![Arc::default(); SHARDS]), len: 0 }
    }
}

/// The table inside a shard uses the lowest and the highest bits of the hash; these are the ones between.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl<K: Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        self.shards[shard_of(hash)].find(hash, |(held, _)| held.borrow() == key).map(|(_, value)| value)
    }

    /// Puts an entry in, in place of one with the same key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.slot(key, || value);
    }

    /// The value of a key, made first if there is none.
    pub(super) fn slot(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let hash = self.hasher.hash_one(&key);
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard_of(hash)]);
        let entry = match shard.entry(hash, |(held, _)| *held == key, |(held, _)| self.hasher.hash_one(held)) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => {
                self.len += 1;
                entry.insert((key, make()))
            }
        };
        &mut entry.into_mut().1
    }

    /// Takes an entry out.
    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // Looked up first: what is not there must not cost a copy.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard_of(hash)]);
        let entry = shard.find_entry(hash, |(held, _)| held.borrow() == key).ok()?;
        self.len -= 1;
        Some(entry.remove().0.1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(key, value)| (key, value))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many of the other's shards are the same memory, to see what a change copied.
    #[cfg(test)]
    pub(super) fn shared_with(&self, other: &Self) -> usize {
        self.shards.iter().zip(other.shards.iter()).filter(|(mine, theirs)| Arc::ptr_eq(mine, theirs)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_shard() {
        let mut map = Sharded::default();
        for key in 0..10_000_u32 {
            map.insert(key, key);
        }
        let mut next = map.clone();
        next.insert(7, 8);
        assert_eq!(next.shared_with(&map), SHARDS - 1);
        assert_eq!((map.get(&7), next.get(&7)), (Some(&7), Some(&8)));
        assert_eq!(next.remove(&7), Some(8));
        assert_eq!(next.remove(&7), None);
        assert_eq!((map.len(), next.len(), next.iter().count()), (10_000, 9_999, 9_999));
    }
}
