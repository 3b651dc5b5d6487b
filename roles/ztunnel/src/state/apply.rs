//! The xDS client's end here: a batch of wire resources becomes the next snapshot, certificates follow local workloads.

use super::State;
use crate::{certificates::Prefetch, observe::XdsObserver};
use model::Change;
use std::sync::Arc;
use xds::{
    client::{self, Batch, Event, Rejection, Sink},
    wds::Address,
};

/// Applies what the control plane sends.
#[derive(Debug)]
pub(crate) struct XdsSink {
    state: Arc<State>,
    prefetch: Prefetch,
    observer: XdsObserver,
}

impl XdsSink {
    /// A sink that fills `state`.
    pub(crate) fn new(state: Arc<State>, prefetch: Prefetch, observer: XdsObserver) -> Self {
        Self { state, prefetch, observer }
    }
}

impl Sink for XdsSink {
    fn apply(&mut self, batch: Batch) -> Vec<Rejection> {
        let changes = changes(batch);
        let before = self.state.mesh().clone();
        self.state.apply(changes);
        self.prefetch.follow(&before, &self.state.mesh());
        Vec::new()
    }

    fn observe(&mut self, event: Event<'_>) {
        self.observer.observe(&event);
    }
}

/// What one batch means for the mesh.
pub(crate) fn changes(batch: Batch) -> Vec<Change> {
    match batch {
        Batch::Addresses(list) => list.into_iter().map(address_change).collect(),
        Batch::Authorizations(list) => list
            .into_iter()
            .map(|change| match change {
                client::Change::Upsert(policy) => Change::Policy(Arc::new(policy)),
                client::Change::Remove(key) => Change::RemovePolicy(key),
            })
            .collect(),
    }
}

fn address_change(change: client::Change<Address>) -> Change {
    match change {
        client::Change::Upsert(Address::Workload(workload)) => Change::Workload(workload.into()),
        client::Change::Upsert(Address::Service(service)) => Change::Service(service.into()),
        client::Change::Remove(name) => Change::RemoveAddress(name),
    }
}
