//! The pods that this proxy serves, by who they are: a connection between two of them need not leave the process.

use crate::pod::Shard;
use inpod::WorkloadInfo;
use model::Str;
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

/// Served pods with their shards, one for each thread.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(RwLock<HashMap<(Str, Str), Neighbour>>);

#[derive(Debug)]
struct Neighbour {
    uid: Str,
    shards: Vec<Weak<Shard>>,
}

impl Neighbours {
    /// A pod is served from now on.
    pub(crate) fn add(&self, uid: Str, info: &WorkloadInfo, shards: &[Arc<Shard>]) {
        let shards = shards.iter().map(Arc::downgrade).collect();
        self.0.write().insert((info.namespace.clone(), info.name.clone()), Neighbour { uid, shards });
    }

    /// A pod is served no longer. One of the same name that came meanwhile stays.
    pub(crate) fn remove(&self, uid: &Str) {
        self.0.write().retain(|_, neighbour| neighbour.uid != *uid);
    }

    /// A pod's shard on a thread.
    pub(crate) fn find(&self, namespace: &Str, name: &Str, thread: usize) -> Option<Arc<Shard>> {
        self.0.read().get(&(namespace.clone(), name.clone()))?.shards.get(thread)?.upgrade()
    }
}
