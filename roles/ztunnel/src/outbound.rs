//! Connections that leave a pod (15001): original destination, one decision, a way there, bytes, one record.

use crate::{
    certificates::identity_of,
    connections::Shown,
    dialer,
    flow::{self, Beginning, Session},
    listener::local_address,
    pod::Shard,
    route::{self, Chooser, Hop, Route, Source, Tunnel},
    telling,
};
use hbone::{ConnectRequest, Key, Opened, TunnelStream};
use identity::tls::TlsStream;
use linux::socket;
use model::{Identity, Reason, Workload, well_known};
use rand::RngExt;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use telemetry::access::Direction;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{self, Instant},
};

/// How long DNS may take to resolve a destination that has a name instead of an address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection for which a way was found.
#[derive(Debug)]
struct Planned {
    workload: Arc<Workload>,
    identity: Identity,
    route: Route,
    hop: SocketAddr,
}

/// Handles one captured connection.
pub(crate) async fn handle(shard: Arc<Shard>, mut client: TcpStream, source: SocketAddr) {
    let since = Instant::now();
    let destination = match original_destination(&client) {
        Ok(destination) => destination,
        Err(error) => {
            tracing::debug!(%source, "the connection ended before its destination was known: {error}");
            return;
        }
    };
    let planned = match plan(&shard, source, destination, &client).await {
        Ok(planned) => planned,
        Err((local, reason)) => {
            let traffic = &shard.pod.proxy.metrics.traffic;
            flow::fail_early(traffic, Direction::Outbound, source, destination, local.as_deref(), reason);
            return;
        }
    };
    let session = begin(&shard, &planned, source, destination, since);
    let carried = carry(&shard, &session, &planned, source, &mut client);
    let reason = tokio::select! {
        biased;
        reason = session.cut() => reason,
        reason = shard.pod.ended() => reason,
        reason = carried => reason,
    };
    session.finish(reason);
}

fn original_destination(client: &TcpStream) -> io::Result<SocketAddr> {
    socket::original_dst(client)
}

/// Finds the way: waits for the local workload, decides, resolves a name.
async fn plan(
    shard: &Shard,
    source: SocketAddr,
    destination: SocketAddr,
    client: &TcpStream,
) -> Result<Planned, (Option<Arc<Workload>>, Reason)> {
    let proxy = &shard.pod.proxy;
    // A connection to the capture port itself was not captured; following it would lead back here for ever.
    if destination.port() == well_known::OUTBOUND_PORT && destination == local_address(client) {
        return Err((None, Reason::SelfCall));
    }
    let workload = proxy.state.await_local_workload(&shard.pod.info).await;
    let workload = workload.ok_or((None, Reason::WorkloadUnknown))?;
    let route = {
        let illegal_ports = proxy.config.illegal_ports();
        let standpoint = Source { workload: &workload, network: &proxy.config.network, illegal_ports: &illegal_ports };
        let mut below = |limit: u64| rand::rng().random_range(0..limit);
        let mut chooser = Chooser::new(&mut below, Some(source.ip()));
        route::decide(&proxy.state.mesh(), standpoint, destination, &mut chooser)
    };
    let route = route.map_err(|reason| (Some(workload.clone()), reason))?;
    let hop = resolve(&route.hop).await.map_err(|reason| (Some(workload.clone()), reason))?;
    let identity = identity_of(&workload, &shard.pod.info);
    Ok(Planned { workload, identity, route, hop })
}

/// The address of the next hop; a name is asked of the system's resolver and one of its addresses taken by chance.
async fn resolve(hop: &Hop) -> Result<SocketAddr, Reason> {
    let (hostname, port, prefer_v6) = match hop {
        Hop::Address(address) => return Ok(*address),
        Hop::Name { hostname, port, prefer_v6 } => (&**hostname, *port, *prefer_v6),
    };
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

fn begin(shard: &Shard, planned: &Planned, source: SocketAddr, destination: SocketAddr, since: Instant) -> Session {
    let Planned { workload, identity, route, hop } = planned;
    let protocol = match route.tunnel {
        Tunnel::Plain => "TCP",
        Tunnel::Hbone { .. } => "HBONE",
        Tunnel::DoubleHbone { .. } => "DOUBLEHBONE",
    };
    let (record, labels) = telling::outbound(workload, identity, route, source, *hop);
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

/// Connects to the next hop and moves bytes.
async fn carry(
    shard: &Shard,
    session: &Session,
    planned: &Planned,
    source: SocketAddr,
    client: &mut TcpStream,
) -> Reason {
    let proxy = &shard.pod.proxy;
    match &planned.route.tunnel {
        Tunnel::Plain => match shard.pod.sockets.connect(planned.hop, None).await {
            Ok(mut server) => session.relay(client, &mut server).await,
            Err(error) => refuse(client, Reason::ConnectFailed(error.to_string())),
        },
        Tunnel::Hbone { authority, expected } => {
            let request = request(planned, source, authority.clone(), None);
            match open(shard, planned, source, expected, &request).await {
                Ok(mut tunnel) => session.relay(client, &mut tunnel).await,
                Err(reason) => refuse(client, reason),
            }
        }
        Tunnel::DoubleHbone { authority, gateway, expected } => {
            let outer = request(planned, source, authority.clone(), None);
            let network = Some(proxy.config.network.to_string());
            let inner = request(planned, source, authority.clone(), network);
            match open_double(shard, planned, source, (gateway, &outer), (expected, &inner)).await {
                Ok(mut tunnel) => session.relay(client, &mut tunnel).await,
                Err(reason) => refuse(client, reason),
            }
        }
    }
}

/// A connection that could not be carried is reset: the client must not take it for one that was served.
fn refuse(client: &mut TcpStream, reason: Reason) -> Reason {
    flow::Abort::abort(client);
    reason
}

fn request(
    planned: &Planned,
    source: SocketAddr,
    authority: hbone::Authority,
    forwarded_network: Option<String>,
) -> ConnectRequest {
    ConnectRequest {
        authority,
        baggage: hbone::Baggage::of(&planned.workload).header(),
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

async fn open(
    shard: &Shard,
    planned: &Planned,
    source: SocketAddr,
    expected: &[Identity],
    request: &ConnectRequest,
) -> Result<TunnelStream, Reason> {
    let Opened { stream, .. } = shard.pool.open(&key(planned, source, expected), request).await?;
    Ok(stream)
}

/// A tunnel to the gateway, and within it TLS and a tunnel to the workload behind.
async fn open_double(
    shard: &Shard,
    planned: &Planned,
    source: SocketAddr,
    (gateway, outer): (&[Identity], &ConnectRequest),
    (expected, inner): (&[Identity], &ConnectRequest),
) -> Result<TunnelStream, Reason> {
    let through = open(shard, planned, source, gateway, outer).await?;
    let secured: TlsStream<TunnelStream> =
        dialer::secure(&shard.pod.proxy, &key(planned, source, expected), through).await?;
    let Opened { stream, .. } = hbone::connect_once(secured, inner).await?;
    Ok(stream)
}
