//! The recent past of one kind.

use super::Key;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many changes of one kind are remembered.
const LONGEST: usize = 4096;

/// One object before and after.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// What is remembered after a revision.
#[derive(Debug)]
pub(crate) enum Past {
    Changes(Vec<Change>),
    /// The revision lies before everything that is remembered.
    Gone {
        oldest: u64,
    },
}

#[derive(Debug)]
pub(super) struct History {
    floor: u64,
    changes: VecDeque<Change>,
}

impl History {
    pub(super) fn new(floor: u64) -> Self {
        Self { floor, changes: VecDeque::new() }
    }

    pub(super) fn push(&mut self, change: Change) {
        if self.changes.len() == LONGEST
            && let Some(oldest) = self.changes.pop_front()
        {
            self.floor = oldest.revision;
        }
        self.changes.push_back(change);
    }

    pub(super) fn after(&self, revision: u64, most: usize) -> Past {
        if revision < self.floor {
            return Past::Gone { oldest: self.floor };
        }
        let start = self.changes.partition_point(|change| change.revision <= revision);
        Past::Changes(self.changes.range(start..).take(most).cloned().collect())
    }
}
