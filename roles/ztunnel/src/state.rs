//! The one place that holds the mesh: the snapshot in use, who replaces it, who waits for it to change.
//!
//! Readers take the snapshot without a lock. Writers (the xDS client, the local file) put the next one in place, then wake
//! whoever waits. A change that may alter a verdict on open connections is announced apart from the rest.

mod apply;
mod local;

pub(crate) use apply::XdsSink;
pub(crate) use local::{read as read_local, read_file as read_local_file};

use arc_swap::ArcSwap;
use inpod::WorkloadInfo;
use model::{Change, Mesh, Str, Workload};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};

/// How long a connection waits for the workload or policy that it needs.
pub(crate) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The mesh as this proxy knows it.
#[derive(Debug)]
pub(crate) struct State {
    mesh: ArcSwap<Mesh>,
    writer: Mutex<()>,
    /// Counts snapshots.
    changed: watch::Sender<u64>,
    /// Counts changes that may alter a verdict: of policies, and of local workloads.
    verdicts: watch::Sender<u64>,
    node: Option<Str>,
}

impl State {
    /// An empty mesh, seen from `node`.
    pub(crate) fn new(node: Option<Str>) -> Self {
        Self {
            mesh: ArcSwap::from_pointee(Mesh::new()),
            writer: Mutex::new(()),
            changed: watch::Sender::new(0),
            verdicts: watch::Sender::new(0),
            node,
        }
    }

    /// The snapshot in use.
    pub(crate) fn mesh(&self) -> arc_swap::Guard<Arc<Mesh>> {
        self.mesh.load()
    }

    /// Puts the next snapshot in place.
    pub(crate) fn apply(&self, changes: Vec<Change>) {
        let concerns_verdicts = changes.iter().any(|change| self.concerns_verdicts(change));
        {
            let _only_writer = self.writer.lock();
            self.mesh.store(Arc::new(self.mesh.load().apply(changes)));
        }
        self.changed.send_modify(|count| *count += 1);
        if concerns_verdicts {
            self.verdicts.send_modify(|count| *count += 1);
        }
    }

    /// Whether open connections have to be judged again.
    fn concerns_verdicts(&self, change: &Change) -> bool {
        match change {
            Change::Policy(_) | Change::RemovePolicy(_) => true,
            Change::Workload(workload) => {
                let local = self.is_local(workload);
                let before = self.mesh.load();
                let before = before.workload_by_uid(&workload.uid);
                local && before.is_some_and(|before| before.authorization_policies != workload.authorization_policies)
            }
            Change::Service(_) | Change::RemoveAddress(_) => false,
        }
    }

    /// Whether a workload runs on this node.
    pub(crate) fn is_local(&self, workload: &Workload) -> bool {
        self.node.as_ref().is_none_or(|node| *node == workload.node)
    }

    /// Sees every change that may alter a verdict.
    pub(crate) fn verdict_changes(&self) -> watch::Receiver<u64> {
        self.verdicts.subscribe()
    }

    /// The workload of a local pod, if it is known.
    pub(crate) fn local_workload(&self, info: &WorkloadInfo) -> Option<Arc<Workload>> {
        let mesh = self.mesh();
        mesh.local_workload(self.node.as_deref(), &info.namespace, &info.name, &info.service_account).cloned()
    }

    /// The workload of a local pod, awaited for as long as a connection may wait.
    pub(crate) async fn await_local_workload(&self, info: &WorkloadInfo) -> Option<Arc<Workload>> {
        self.wait_for(|_| self.local_workload(info)).await
    }

    /// What `find` finds in the first snapshot in which it finds something, within [`ARRIVAL_TIMEOUT`].
    pub(crate) async fn wait_for<T>(&self, find: impl Fn(&Mesh) -> Option<T>) -> Option<T> {
        if let Some(found) = find(&self.mesh()) {
            return Some(found);
        }
        let mut changed = self.changed.subscribe();
        let arrival = async {
            loop {
                // Seen before the snapshot is read, so that nothing put in place in between is missed.
                changed.borrow_and_update();
                if let Some(found) = find(&self.mesh()) {
                    return Some(found);
                }
                changed.changed().await.ok()?;
            }
        };
        time::timeout(ARRIVAL_TIMEOUT, arrival).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> WorkloadInfo {
        WorkloadInfo { name: "pod".into(), namespace: "ns".into(), service_account: "default".into() }
    }

    fn workload(node: &str) -> Workload {
        Workload {
            uid: "u".into(),
            name: "pod".into(),
            namespace: "ns".into(),
            node: node.into(),
            ..Workload::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_for_its_workload_and_then_gives_up() {
        let state = Arc::new(State::new(Some("n1".into())));
        let begun = time::Instant::now();
        assert_eq!(state.await_local_workload(&info()).await, None);
        assert_eq!(begun.elapsed(), ARRIVAL_TIMEOUT);

        let waiting = tokio::spawn({
            let state = state.clone();
            async move { state.await_local_workload(&info()).await }
        });
        tokio::task::yield_now().await;
        state.apply(vec![Change::Workload(Arc::new(workload("n2")))]);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a workload of another node is not local");
        state.apply(vec![Change::Workload(Arc::new(workload("n1")))]);
        assert!(waiting.await.unwrap().is_some());
    }

    #[test]
    fn verdicts_may_change_with_policies_and_with_a_local_workloads_list_of_them() {
        let state = State::new(Some("n1".into()));
        let mut verdicts = state.verdict_changes();
        let mut apply = |change| {
            state.apply(vec![change]);
            verdicts.has_changed().unwrap_or(false) && {
                verdicts.mark_unchanged();
                true
            }
        };
        assert!(!apply(Change::Workload(Arc::new(workload("n1")))));
        let mut selected = workload("n1");
        selected.authorization_policies = vec!["ns/p".into()];
        assert!(apply(Change::Workload(Arc::new(selected.clone()))));
        assert!(!apply(Change::Workload(Arc::new(selected))));
        assert!(apply(Change::RemovePolicy("ns/p".into())));
    }
}
