//! A connection between two pods that this proxy both serves: straight from one to the other, with everything that a tunnel would
//! have brought about except its bytes.
//!
//! Both pods have to hold a valid certificate of one trust domain, the destination judges by its policies, both sides keep
//! their record and count. Whatever would not be the same is left to a tunnel ([`join`] gives `None`).

use super::{
    target::Refusal,
    tunnel::{self, Connection, Said},
};
use crate::{
    certificates::{certificate, identity_of},
    flow::{self, Session, abort},
    pod::Shard,
    quota,
};
use hbone::Authority;
use model::{Identity, Reason, Workload, well_known};
use runtime::drain;
use std::{net::SocketAddr, sync::Arc};
use telemetry::access::Direction;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::Instant};

/// What the request of a tunnel would have said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Where to.
    pub authority: &'a Authority,
    /// The service that the client addressed.
    pub forwarded_host: Option<&'a str>,
    /// The client.
    pub source: SocketAddr,
    /// The address that a tunnel would have gone to.
    pub hop: SocketAddr,
}

/// The destination's end of such a connection.
#[derive(Debug)]
pub(crate) struct Joined {
    shard: Arc<Shard>,
    session: Session,
    application: TcpStream,
    _place: OwnedSemaphorePermit,
    _guard: drain::Guard,
}

/// Brings a connection from a pod with `identity` to the pod `far`, if this proxy serves that, too.
pub(crate) async fn join(
    origin: &Shard,
    identity: &Identity,
    far: &Workload,
    asked: Asked<'_>,
) -> Option<Result<Joined, Reason>> {
    let since = Instant::now();
    let shard = neighbour(origin, identity, far, asked.hop).await?;
    let place = match shard.pod.quotas.stream() {
        Ok(place) => place,
        Err(limit) => {
            quota::refuse(&shard.pod, limit, Direction::Inbound, asked.source, asked.hop);
            return Some(Err(Reason::TunnelRefused(503)));
        }
    };
    let guard = shard.pod.drain.guard();
    let connection = Connection {
        shard: shard.clone(),
        source: asked.source,
        local: asked.hop,
        peer: identity.clone(),
        chain: Vec::new(),
    };
    let admissible = match tunnel::admissible(&connection, Ok(asked.authority.clone())).await {
        Ok(admissible) => admissible,
        Err((workload, Refusal { status, reason })) => {
            let traffic = &shard.pod.proxy.metrics.traffic;
            let workload = workload.as_deref();
            flow::fail_early(traffic, Direction::Inbound, asked.source, asked.hop, workload, reason);
            return Some(Err(Reason::TunnelRefused(status)));
        }
    };
    let said = Said { forwarded_host: asked.forwarded_host, ..Said::default() };
    let session = tunnel::begin(&connection, &said, &admissible, since);
    let reached = async {
        let mut application = tunnel::reach(&connection, &admissible).await?;
        let introduced = tunnel::introduce(&connection, &admissible, &mut application).await;
        introduced.map(|()| application).map_err(|reason| Refusal::new(503, reason))
    };
    let reached = tokio::select! {
        biased;
        reason = session.cut() => Err(Refusal::new(503, reason)),
        reason = shard.pod.ended() => Err(Refusal::new(503, reason)),
        reached = reached => reached,
    };
    Some(match reached {
        Ok(application) => Ok(Joined { shard, session, application, _place: place, _guard: guard }),
        Err(Refusal { status, reason }) => {
            session.finish(reason);
            Err(Reason::TunnelRefused(status))
        }
    })
}

/// The served pod behind `hop`, if it and the caller could come together in a tunnel.
async fn neighbour(origin: &Shard, identity: &Identity, far: &Workload, hop: SocketAddr) -> Option<Arc<Shard>> {
    let proxy = &origin.pod.proxy;
    let config = &proxy.config;
    // Revoked certificates are found in handshakes.
    if config.tunnels.same_node || config.certificates.revocation_list.is_some() {
        return None;
    }
    if hop.port() != well_known::HBONE_PORT || !far.addresses.contains(&hop.ip()) {
        return None;
    }
    let shard = proxy.neighbours.find(&far.namespace, &far.name, origin.thread)?;
    let workload = proxy.state.local_workload(&shard.pod.info)?;
    let own = identity_of(&workload, &shard.pod.info);
    if workload.uid != far.uid || own.trust_domain != identity.trust_domain || shard.pod.drain.is_draining() {
        return None;
    }
    for proven in [identity, &own] {
        let held = certificate(&proxy.certificates, proven).await.ok()?;
        if !held.is_valid() {
            return None;
        }
    }
    Some(shard)
}

impl Joined {
    /// Moves bytes until the connection ends, or has to; gives what the client's side is told.
    pub(crate) async fn carry(self: Box<Self>, client_side: &Session, client: &TcpStream) -> Reason {
        let relayed = client_side.relay_sockets(Some(&self.session), client, &self.application);
        let cut = tokio::select! {
            biased;
            reason = self.session.cut() => reason,
            reason = self.shard.pod.ended() => reason,
            reason = relayed => {
                self.session.finish(reason.clone());
                return reason;
            }
        };
        abort(client);
        self.session.finish(cut);
        Reason::Reset
    }
}
