//! The recent past of one kind.

use super::Key;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many changes of one kind are remembered.
const LONGEST: usize = 4096;
/// How large they are together at most, roughly, in bytes.
const LARGEST: usize = 32 * 1024 * 1024;

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
    changes: VecDeque<(usize, Change)>,
    size: usize,
}

impl History {
    pub(super) fn new(floor: u64) -> Self {
        Self { floor, changes: VecDeque::new(), size: 0 }
    }

    pub(super) fn push(&mut self, change: Change) {
        // The state before is the state after of an earlier change: it counts once.
        let size = change.after.as_deref().map_or(0, weight);
        self.size += size;
        self.changes.push_back((size, change));
        while self.changes.len() > LONGEST || (self.size > LARGEST && self.changes.len() > 1) {
            let Some((size, oldest)) = self.changes.pop_front() else { return };
            self.size -= size;
            self.floor = oldest.revision;
        }
    }

    pub(super) fn after(&self, revision: u64, most: usize) -> Past {
        if revision < self.floor {
            return Past::Gone { oldest: self.floor };
        }
        let start = self.changes.partition_point(|(_, change)| change.revision <= revision);
        Past::Changes(self.changes.range(start..).take(most).map(|(_, change)| change.clone()).collect())
    }
}

/// Roughly how many bytes a value takes.
fn weight(value: &Value) -> usize {
    const NODE: usize = 32;
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(elements) => elements.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| NODE + name.len() + weight(value)).sum(),
        _ => 0,
    }
}
