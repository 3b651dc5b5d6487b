//! Addresses that are asked for when they are needed, for a proxy that does not hold all (ztunnel.md §1.7).
//!
//! Whoever needs something asks, waits for the answer (within the client's own limit) and then reads the snapshot as always:
//! what did not come in time is treated as what does not exist, and refused or passed by as the contract says for that.

use super::State;
use crate::route::{self, Source};
use inpod::WorkloadInfo;
use model::Mesh;
use std::{net::SocketAddr, sync::OnceLock};
use xds::client::Demand;

/// Rounds of asking: an address, its service, that one's waypoint, the waypoint's gateway.
const ROUNDS: usize = 4;

/// How to ask, and as which cluster.
#[derive(Debug, Default)]
pub(crate) struct Demands(OnceLock<(Demand, String)>);

impl State {
    /// From now on, what is missing is asked of the control plane.
    pub(crate) fn ask_on_demand(&self, demand: Demand, cluster: String) {
        // Set once, at the start.
        let _ = self.demands.0.set((demand, cluster));
    }

    /// Asks for the workload of a local pod, by the uid that the control plane gives pods.
    pub(super) async fn demand_local(&self, info: &WorkloadInfo) {
        if let Some((_, cluster)) = self.demands.0.get() {
            let uid = format!("{cluster}//Pod/{}/{}", info.namespace, info.name);
            self.demand(&|mesh| mesh.workload_by_uid(&uid).is_none().then(|| uid.clone()).into_iter().collect()).await;
        }
    }

    /// Asks for everything that a decision about `destination` needs.
    pub(crate) async fn demand_way(&self, source: Source<'_>, destination: SocketAddr) {
        if self.demands.0.get().is_some() {
            self.demand(&|mesh| route::wanted(mesh, source, destination)).await;
        }
    }

    async fn demand(&self, wanted: &(dyn Fn(&Mesh) -> Vec<String> + Send + Sync)) {
        let Some((demand, _)) = self.demands.0.get() else { return };
        let mut asked = Vec::new();
        for _ in 0..ROUNDS {
            let missing: Vec<_> = wanted(&self.mesh()).into_iter().filter(|name| !asked.contains(name)).collect();
            if missing.is_empty() {
                return;
            }
            for outcome in futures_util::future::join_all(missing.iter().map(|name| demand.fetch(name))).await {
                if let Err(error) = outcome {
                    tracing::warn!(?missing, "asking the control plane: {error}");
                }
            }
            asked.extend(missing);
        }
    }
}
