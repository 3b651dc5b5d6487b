//! Connections that leave a pod: one decision, a way there, bytes, one record.
//!
//! [`handle`] serves what was captured on 15001. [`connect`] is everything up to the moment when bytes can flow, for those who
//! have to tell their client of it first.

use crate::{
    certificates::identity_of,
    connections::Shown,
    dialer::{self, Peer},
    flow::{self, Beginning, Session, abort},
    inbound::{self, Joined},
    listener::local_address,
    pod::Shard,
    route::{self, Chooser, Hop, Route, Source, Tunnel},
    telling::{self, Behind},
};
use hbone::{Authority, Baggage, ConnectRequest, Key, Opened, TunnelStream};
use linux::socket;
use model::{Identity, Reason, Workload, well_known};
use rand::RngExt;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use telemetry::access::Direction;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{self, Instant},
};

/// How long DNS may take to resolve a destination that has a name instead of an address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Tunnels over connections whose peer turns out to be revoked, until the connection is given up.
const TRIES: usize = 2;

/// A connection for which a way was found.
#[derive(Debug)]
struct Planned {
    workload: Arc<Workload>,
    identity: Identity,
    route: Route,
    hop: SocketAddr,
}

/// The far end of an open connection.
enum Far {
    Plain(TcpStream),
    Tunnel(TunnelStream),
    /// Another pod of this node, in this process.
    Local(Box<Joined>),
}

/// What was opened, and who is at its other end.
struct Reached {
    far: Far,
    peer: Peer,
    /// The workload behind a network's gateway.
    behind: Option<Behind>,
}

/// A connection over which bytes can flow.
pub(crate) struct Connected {
    session: Session,
    far: Far,
    peer: Peer,
}

/// Handles one captured connection. One that could not be carried is reset: the client must not take it for one that was
/// served.
pub(crate) async fn handle(shard: Arc<Shard>, client: TcpStream, source: SocketAddr) {
    let since = Instant::now();
    let destination = match socket::original_dst(&client) {
        Ok(destination) => destination,
        Err(error) => {
            tracing::debug!(%source, "the connection ended before its destination was known: {error}");
            return;
        }
    };
    // A connection to the capture port itself was not captured; following it would lead back here for ever.
    if destination.port() == well_known::OUTBOUND_PORT && destination == local_address(&client) {
        fail(&shard, source, destination, None, Reason::SelfCall);
        return abort(&client);
    }
    match connect(&shard, source, destination, since).await {
        Ok(connected) => connected.carry(&shard, client).await,
        Err(_) => abort(&client),
    }
}

fn fail(shard: &Shard, source: SocketAddr, destination: SocketAddr, local: Option<&Workload>, reason: Reason) {
    let traffic = &shard.pod.proxy.metrics.traffic;
    flow::fail_early(traffic, Direction::Outbound, source, destination, local, reason);
}

/// Finds the way and goes it. A failure is counted and recorded here.
pub(crate) async fn connect(
    shard: &Shard,
    source: SocketAddr,
    destination: SocketAddr,
    since: Instant,
) -> Result<Connected, Reason> {
    let planned = match plan(shard, source, destination).await {
        Ok(planned) => planned,
        Err((local, reason)) => {
            fail(shard, source, destination, local.as_deref(), reason.clone());
            return Err(reason);
        }
    };
    let begin = |behind: Option<&Behind>| begin(shard, &planned, behind, source, destination, since);
    // Who is behind a network's gateway shows only at the end of the way; everybody else is named before it.
    let mut session = match planned.route.tunnel {
        Tunnel::DoubleHbone { .. } => None,
        Tunnel::Plain | Tunnel::Hbone { .. } => Some(begin(None)),
    };
    let reached = tokio::select! {
        biased;
        reason = shard.pod.ended() => Err(reason),
        reached = reach(shard, &planned, source) => reached,
    };
    match reached {
        Ok(Reached { far, peer, behind }) => {
            let session = session.take().unwrap_or_else(|| begin(behind.as_ref()));
            Ok(Connected { session, far, peer })
        }
        Err(reason) => {
            session.take().unwrap_or_else(|| begin(None)).finish(reason.clone());
            Err(reason)
        }
    }
}

impl Connected {
    /// Moves bytes until the connection ends, or has to.
    pub(crate) async fn carry(self, shard: &Shard, client: TcpStream) {
        let Self { session, far, peer } = self;
        let client = Arc::new(client);
        let relayed = async {
            match far {
                Far::Plain(server) => session.relay_sockets(None, &client, &server).await,
                Far::Tunnel(mut tunnel) => session.relay_tunnel(client.clone(), &mut tunnel).await,
                Far::Local(joined) => joined.carry(&session, &client).await,
            }
        };
        let reason = tokio::select! {
            biased;
            reason = session.cut() => reason,
            reason = shard.pod.ended() => reason,
            () = peer.revoked(&shard.pod.proxy.revocations) => Reason::CertificateRevoked,
            reason = relayed => reason,
        };
        if reason == Reason::CertificateRevoked {
            shard.pod.proxy.metrics.revocation_rejections.add(&["source"]);
            abort(&client);
        }
        session.finish(reason);
    }
}

/// Finds the way: waits for the local workload, decides, resolves a name.
async fn plan(
    shard: &Shard,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<Planned, (Option<Arc<Workload>>, Reason)> {
    let proxy = &shard.pod.proxy;
    let workload = proxy.state.await_local_workload(&shard.pod.info).await;
    let workload = workload.ok_or((None, Reason::WorkloadUnknown))?;
    let illegal_ports = proxy.config.illegal_ports();
    let standpoint = Source { workload: &workload, network: &proxy.config.network, illegal_ports };
    proxy.state.demand_way(standpoint, destination).await;
    let affinity = &shard.pod.affinity;
    let route = {
        let mut below = |limit: u64| rand::rng().random_range(0..limit);
        let kept = |service: &_, timeout| affinity.kept(service, source.ip(), timeout, Instant::now());
        let mut chooser = Chooser::new(&mut below, Some(source.ip())).keeping(&kept);
        route::decide(&proxy.state.mesh(), standpoint, destination, &mut chooser)
    };
    let route = route.map_err(|reason| (Some(workload.clone()), reason))?;
    if let (Some(service), Some(chosen)) = (&route.service, &route.workload)
        && service.session_affinity.is_some()
    {
        affinity.keep(service.key(), source.ip(), chosen.uid.clone(), Instant::now());
    }
    let hop = resolve(shard, &workload, &route.hop).await.map_err(|reason| (Some(workload.clone()), reason))?;
    let identity = identity_of(&workload, &shard.pod.info);
    Ok(Planned { workload, identity, route, hop })
}

/// The address of the next hop; a name is asked of the system's resolver and one of its addresses taken by chance.
async fn resolve(shard: &Shard, workload: &Workload, hop: &Hop) -> Result<SocketAddr, Reason> {
    let (hostname, port, prefer_v6) = match hop {
        Hop::Address(address) => return Ok(*address),
        Hop::Name { hostname, port, prefer_v6 } => (&**hostname, *port, *prefer_v6),
    };
    shard.pod.proxy.metrics.on_demand_dns(workload, hostname);
    let found = match time::timeout(RESOLVE_TIMEOUT, lookup_host((hostname, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(Reason::DnsFailed(format!("{hostname}: {error}"))),
        Err(_) => return Err(Reason::DnsFailed(format!("{hostname}: no answer within {RESOLVE_TIMEOUT:?}"))),
    };
    let preferred: Vec<_> = found.iter().filter(|address| address.is_ipv6() == prefer_v6).collect();
    let choice = if preferred.is_empty() { found.iter().collect() } else { preferred };
    match choice.len() {
        0 => Err(Reason::DnsFailed(format!("no ip addresses were resolved for workload {hostname}"))),
        count => Ok(*choice[rand::rng().random_range(0..count)]),
    }
}

fn begin(
    shard: &Shard,
    planned: &Planned,
    behind: Option<&Behind>,
    source: SocketAddr,
    destination: SocketAddr,
    since: Instant,
) -> Session {
    let Planned { workload, identity, route, hop } = planned;
    let protocol = match route.tunnel {
        Tunnel::Plain => "TCP",
        Tunnel::Hbone { .. } => "HBONE",
        Tunnel::DoubleHbone { .. } => "DOUBLEHBONE",
    };
    let (mut record, mut labels) = telling::outbound(workload, identity, route, source, *hop);
    if let Some(behind) = behind {
        telling::arrived_at(&mut record, &mut labels, behind);
    }
    let shown = Shown {
        direction: Direction::Outbound,
        source,
        original: Some(destination.to_string().into()),
        actual: hop.to_string(),
        protocol,
    };
    let beginning = Beginning { record, labels, shown, judged: None, since };
    Session::begin(&shard.pod.proxy.metrics.traffic, &shard.connections, beginning)
}

/// Connects to the next hop, and through it as far as the way leads.
async fn reach(shard: &Shard, planned: &Planned, source: SocketAddr) -> Result<Reached, Reason> {
    match &planned.route.tunnel {
        Tunnel::Plain => {
            let connected = shard.pod.sockets.connect(planned.hop, None).await;
            let server = connected.map_err(|error| Reason::ConnectFailed(error.to_string()))?;
            Ok(Reached { far: Far::Plain(server), peer: Peer::nobody(), behind: None })
        }
        Tunnel::Hbone { authority, expected } => {
            if let Some(joined) = join(shard, planned, source, authority, expected).await {
                return Ok(Reached { far: Far::Local(Box::new(joined?)), peer: Peer::nobody(), behind: None });
            }
            let request = request(planned, source, authority.clone(), None);
            let Opened { stream, peer, .. } = open(shard, planned, source, expected, &request).await?;
            Ok(Reached { far: Far::Tunnel(stream), peer, behind: None })
        }
        Tunnel::DoubleHbone { authority, gateway, expected } => {
            let outer = request(planned, source, authority.clone(), None);
            let network = Some(shard.pod.proxy.config.network.to_string());
            let inner = request(planned, source, authority.clone(), network);
            let Opened { stream, peer, .. } = open(shard, planned, source, gateway, &outer).await?;
            let key = key(planned, source, expected);
            let (secured, inner_peer) = dialer::secure(&shard.pod.proxy, &key, stream).await?;
            let Opened { stream, headers, .. } = hbone::connect_once(secured, &inner).await?;
            let behind = Behind { identity: inner_peer.identity.clone(), baggage: Baggage::from_headers(&headers) };
            Ok(Reached { far: Far::Tunnel(stream), peer: peer.and(inner_peer), behind: Some(behind) })
        }
    }
}

/// The way to a pod that this proxy serves too, if nobody could tell it from a tunnel.
async fn join(
    shard: &Shard,
    planned: &Planned,
    source: SocketAddr,
    authority: &Authority,
    expected: &[Identity],
) -> Option<Result<Joined, Reason>> {
    let far = planned.route.workload.as_deref()?;
    if !expected.contains(&far.identity()) {
        return None;
    }
    let forwarded_host = planned.route.service.as_ref().map(|service| &*service.hostname);
    let asked = inbound::Asked { authority, forwarded_host, source, hop: planned.hop };
    inbound::join(shard, &planned.identity, far, asked).await
}

fn request(
    planned: &Planned,
    source: SocketAddr,
    authority: Authority,
    forwarded_network: Option<String>,
) -> ConnectRequest {
    ConnectRequest {
        authority,
        baggage: Baggage::of(&planned.workload).header(),
        forwarded_for: source,
        forwarded_host: planned.route.service.as_ref().map(|service| service.hostname.to_string()),
        traceparent: Some(hbone::traceparent()),
        forwarded_network,
    }
}

fn key(planned: &Planned, source: SocketAddr, expected: &[Identity]) -> Key {
    Key {
        source: planned.identity.clone(),
        expected: expected.into(),
        destination: planned.hop,
        source_ip: source.ip(),
    }
}

/// A tunnel over a connection of the pool. One that was made before its peer was revoked is cut and made anew, so that the
/// handshake refuses it.
async fn open(
    shard: &Shard,
    planned: &Planned,
    source: SocketAddr,
    expected: &[Identity],
    request: &ConnectRequest,
) -> Result<Opened<Peer>, Reason> {
    let key = key(planned, source, expected);
    for _ in 0..TRIES {
        let opened = shard.pool.open(&key, request).await?;
        if !opened.peer.is_revoked(&shard.pod.proxy.revocations) {
            return Ok(opened);
        }
        shard.pool.cut_destination(planned.hop.ip());
    }
    Err(Reason::CertificateRevoked)
}
