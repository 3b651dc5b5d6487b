//! The one place that holds the mesh: the snapshot in use, who replaces it, who waits for it to change.
//!
//! Readers take the snapshot without a lock. Writers (the xDS client, the local file) put the next one in place, then wake
//! whoever waits. A change that may alter a verdict on open connections is announced apart from the rest.

mod apply;
mod demand;
mod local;

pub(crate) use apply::{XdsSink, changes};
pub(crate) use local::{read as read_local, read_file as read_local_file};

use arc_swap::ArcSwap;
use demand::Demands;
use inpod::WorkloadInfo;
use model::{Change, Mesh, NetworkMode, Str, Workload};
use parking_lot::Mutex;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{broadcast, watch},
    time,
};

/// How long a connection waits for the workload or policy that it needs.
pub(crate) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Announcements of departed addresses that a slow listener may have before it.
const DEPARTURES: usize = 256;

/// The mesh as this proxy knows it.
#[derive(Debug)]
pub(crate) struct State {
    mesh: ArcSwap<Mesh>,
    writer: Mutex<()>,
    /// Counts snapshots.
    changed: watch::Sender<u64>,
    /// Counts changes that may alter a verdict: of policies, and of local workloads.
    verdicts: watch::Sender<u64>,
    /// Addresses of this network that are no longer who they were.
    departures: broadcast::Sender<Arc<[IpAddr]>>,
    demands: Demands,
    node: Option<Str>,
    network: Str,
}

impl State {
    /// An empty mesh, seen from `node` in `network`.
    pub(crate) fn new(node: Option<Str>, network: Str) -> Self {
        Self {
            mesh: ArcSwap::from_pointee(Mesh::new()),
            writer: Mutex::new(()),
            changed: watch::Sender::new(0),
            verdicts: watch::Sender::new(0),
            departures: broadcast::Sender::new(DEPARTURES),
            demands: Demands::default(),
            node,
            network,
        }
    }

    /// The snapshot in use.
    pub(crate) fn mesh(&self) -> arc_swap::Guard<Arc<Mesh>> {
        self.mesh.load()
    }

    /// Puts the next snapshot in place.
    pub(crate) fn apply(&self, changes: Vec<Change>) {
        let concerns_verdicts = changes.iter().any(|change| self.concerns_verdicts(change));
        let departed = {
            let _only_writer = self.writer.lock();
            let before = self.mesh.load_full();
            let touched = touched(&before, &changes);
            self.mesh.store(Arc::new(before.apply(changes)));
            departed(&touched, &self.mesh.load(), &self.network)
        };
        if !departed.is_empty() {
            // Nobody listens while no pod is served.
            let _ = self.departures.send(departed);
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

    /// Sees every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sees every change that may alter a verdict.
    pub(crate) fn verdict_changes(&self) -> watch::Receiver<u64> {
        self.verdicts.subscribe()
    }

    /// Sees every address of this network that is no longer who it was.
    pub(crate) fn departures(&self) -> broadcast::Receiver<Arc<[IpAddr]>> {
        self.departures.subscribe()
    }

    /// The workload of a local pod, if it is known.
    pub(crate) fn local_workload(&self, info: &WorkloadInfo) -> Option<Arc<Workload>> {
        let mesh = self.mesh();
        mesh.local_workload(self.node.as_deref(), &info.namespace, &info.name, &info.service_account).cloned()
    }

    /// The workload of a local pod, awaited for as long as a connection may wait.
    pub(crate) async fn await_local_workload(&self, info: &WorkloadInfo) -> Option<Arc<Workload>> {
        if let Some(workload) = self.local_workload(info) {
            return Some(workload);
        }
        self.demand_local(info).await;
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

/// The workloads that changes replace or remove.
fn touched(before: &Mesh, changes: &[Change]) -> Vec<Arc<Workload>> {
    let uids = changes.iter().filter_map(|change| match change {
        Change::Workload(workload) => Some(&workload.uid),
        Change::RemoveAddress(name) => Some(name),
        Change::Service(_) | Change::Policy(_) | Change::RemovePolicy(_) => None,
    });
    uids.filter_map(|uid| before.workload_by_uid(uid).cloned()).collect()
}

/// Their addresses where now nobody, another workload, or one of another identity is: what speaks to them speaks to the wrong
/// one.
fn departed(touched: &[Arc<Workload>], after: &Mesh, network: &Str) -> Arc<[IpAddr]> {
    let own = touched
        .iter()
        .filter(|workload| workload.network == *network && workload.network_mode == NetworkMode::Standard);
    let gone = own.flat_map(|old| {
        old.network_addresses().filter(|address| {
            let same = |new: &Arc<Workload>| new.uid == old.uid && new.identity() == old.identity();
            !after.workloads_at(address).iter().any(same)
        })
    });
    gone.map(|address| address.address).collect::<BTreeSet<_>>().into_iter().collect()
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
        let state = Arc::new(State::new(Some("n1".into()), "".into()));
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
        let state = State::new(Some("n1".into()), "".into());
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

    #[tokio::test]
    async fn an_address_departs_when_its_workload_goes_or_becomes_another() {
        let state = State::new(None, "".into());
        let mut departures = state.departures();
        let at = |uid: &str, account: &str, address: &str| {
            Change::Workload(Arc::new(Workload {
                uid: uid.into(),
                service_account: account.into(),
                addresses: vec![address.parse().unwrap()],
                ..Workload::default()
            }))
        };
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let mut after = |changes: Vec<Change>| {
            state.apply(changes);
            departures.try_recv().map(|departed| departed.to_vec()).unwrap_or_default()
        };
        assert!(after(vec![at("a", "sa", "10.0.0.1")]).is_empty(), "it came");
        assert!(after(vec![at("a", "sa", "10.0.0.1")]).is_empty(), "nothing changed");
        assert_eq!(after(vec![at("a", "other", "10.0.0.1")]), [one], "another identity");
        assert_eq!(after(vec![at("a", "other", "10.0.0.2")]), [one], "another address");
        assert!(after(vec![at("b", "sa", "10.0.0.2")]).is_empty(), "two share an address");
        assert_eq!(after(vec![Change::RemoveAddress("a".into()), at("c", "other", "10.0.0.2")]).len(), 1, "reused");
        assert_eq!(after(vec![Change::RemoveAddress("b".into())]).len(), 1, "gone");
    }
}
