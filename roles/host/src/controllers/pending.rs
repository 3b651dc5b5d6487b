//! What a controller has just done and not yet seen.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long an unseen deed is believed in. A write that succeeded is seen long before; past this, something took it back.
const BELIEVED: Duration = Duration::from_secs(5);

/// Deeds by key, until they are seen.
#[derive(Debug)]
pub(super) struct Pending<K> {
    done: HashMap<K, Instant>,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self { done: HashMap::new() }
    }
}

impl<K: Eq + Hash> Pending<K> {
    pub(super) fn add(&mut self, key: K) {
        self.done.insert(key, Instant::now());
    }

    /// Forgets the deeds that are seen or too old; tells whether others remain.
    pub(super) fn settle(&mut self, seen: impl Fn(&K) -> bool) -> bool {
        self.done.retain(|key, at| !seen(key) && at.elapsed() < BELIEVED);
        !self.done.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.done.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_remembered_until_it_is_seen() {
        let mut pending = Pending::default();
        pending.add("a");
        pending.add("b");
        assert!(pending.settle(|key| *key == "a"));
        assert_eq!(pending.keys().collect::<Vec<_>>(), [&"b"]);
        assert!(!pending.settle(|_| true));
    }
}
