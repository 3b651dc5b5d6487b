//! The changes of a store, as one follower reads them.
//!
//! A follower that is slow sees the latest state of each object instead of every step, so what it has not read yet is
//! never more than one entry per object.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use api::Resource;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::{ObjectKey, Rejected, Store};

/// What happened to an object.
#[derive(Debug)]
pub enum Change<T> {
    /// It was created or changed.
    Applied(Arc<T>),
    /// It is gone; this is what was known of it last.
    Deleted(Arc<T>),
    /// It cannot be read. If it was known before, that knowledge still stands.
    Rejected(Arc<Rejected>),
    /// It is gone, and could never be read.
    Withdrawn(ObjectKey),
    /// Everything that exists has been seen. Comes once.
    Synced,
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied(object) => Self::Applied(object.clone()),
            Self::Deleted(object) => Self::Deleted(object.clone()),
            Self::Rejected(rejected) => Self::Rejected(rejected.clone()),
            Self::Withdrawn(key) => Self::Withdrawn(key.clone()),
            Self::Synced => Self::Synced,
        }
    }
}

/// The changes of a store, for one follower.
pub struct Changes<T> {
    queue: Arc<Queue<T>>,
    store: Store<T>,
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<T: Resource> Changes<T> {
    pub(crate) fn new(queue: Arc<Queue<T>>, store: Store<T>) -> Self {
        Self { queue, store }
    }

    /// Waits for the next change. Dropping the wait loses nothing.
    pub async fn next(&mut self) -> Change<T> {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            self.queue.filled.notified().await;
        }
    }

    /// The next change, when there is one.
    pub fn try_next(&mut self) -> Option<Change<T>> {
        self.queue.pop()
    }

    /// The store whose changes these are.
    pub fn store(&self) -> &Store<T> {
        &self.store
    }
}

/// Changes that one follower has not read: in order of first mention, each object at most once.
pub(crate) struct Queue<T> {
    pending: Mutex<Pending<T>>,
    filled: Notify,
}

struct Pending<T> {
    order: VecDeque<Option<ObjectKey>>,
    changes: HashMap<Option<ObjectKey>, Unread<T>>,
}

/// What a follower has not read of one object: first what is known of it, then that it cannot be read any more.
struct Unread<T> {
    known: Option<Change<T>>,
    rejected: Option<Arc<Rejected>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let pending = Pending { order: VecDeque::new(), changes: HashMap::new() };
        Self { pending: Mutex::new(pending), filled: Notify::new() }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&self, key: Option<ObjectKey>, change: Change<T>) {
        let mut pending = self.pending.lock();
        let Pending { order, changes } = &mut *pending;
        let unread = changes.entry(key.clone()).or_insert_with(|| {
            order.push_back(key);
            Unread { known: None, rejected: None }
        });
        match change {
            Change::Rejected(rejected) => unread.rejected = Some(rejected),
            known => *unread = Unread { known: Some(known), rejected: None },
        }
        self.filled.notify_one();
    }

    fn pop(&self) -> Option<Change<T>> {
        let mut pending = self.pending.lock();
        let key = pending.order.pop_front()?;
        let unread = pending.changes.remove(&key)?;
        let Some(known) = unread.known else { return unread.rejected.map(Change::Rejected) };
        if unread.rejected.is_some() {
            pending.changes.insert(key.clone(), Unread { known: None, ..unread });
            pending.order.push_front(key);
        }
        Some(known)
    }
}
