//! Tunnels to addresses that became somebody else's: cut, so that nobody speaks to a pod that is gone or through a connection
//! that was made to another one.

use crate::{pod::Shard, state::State};
use model::NetworkAddress;
use std::sync::{Arc, Weak};
use tokio::sync::broadcast::error::RecvError;

/// Cuts a shard's stale tunnels as the mesh changes, until the shard is gone.
pub(crate) async fn cut(shard: Weak<Shard>, state: Arc<State>) {
    let mut departures = state.departures();
    loop {
        let departed = departures.recv().await;
        let Some(shard) = shard.upgrade() else { return };
        match departed {
            Ok(departed) => departed.iter().for_each(|address| shard.pool.cut_destination(*address)),
            // More changed than could be told one by one: whatever leads to nobody is stale.
            Err(RecvError::Lagged(_)) => {
                let mesh = state.mesh();
                let network = &shard.pod.proxy.config.network;
                for address in shard.pool.destinations() {
                    let place = NetworkAddress { network: network.clone(), address };
                    if mesh.workload_by_address(&place).is_none() {
                        shard.pool.cut_destination(address);
                    }
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}
