//! What every pod and every connection shares.

use crate::{config::Config, connections::Connections, dns::Resolver, neighbours::Neighbours, state::State};
use identity::{Certificates, revocation::Revocations};
use inpod::WorkloadInfo;
use model::Str;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// Pods that are served, with their connections on each thread.
pub(crate) type Pods = BTreeMap<Str, (WorkloadInfo, Vec<Arc<Connections>>)>;

/// The proxy as a whole.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Settings.
    pub config: Config,
    /// The mesh.
    pub state: Arc<State>,
    /// Certificates.
    pub certificates: Certificates,
    /// Certificates that are no longer believed.
    pub revocations: Revocations,
    /// Metrics.
    pub metrics: telemetry::metrics::proxy::Proxy,
    /// Whom to ask for names that the mesh does not know.
    pub resolver: Resolver,
    /// For the dump and for scrapes.
    pub pods: Mutex<Pods>,
    /// For connections within the node.
    pub neighbours: Neighbours,
}

impl Proxy {
    /// Brings the byte counts of open connections up to date.
    pub(crate) fn count_bytes(&self) {
        let connections: Vec<_> = self.pods.lock().values().flat_map(|(_, shards)| shards.clone()).collect();
        connections.iter().for_each(|connections| connections.count_bytes());
    }
}
