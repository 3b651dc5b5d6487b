//! Tunnels on 15008: TLS as the waypoint, then stream after stream, each for what its authority means.

use crate::{
    dialer::Dialer,
    dispatch::{self, Own, Target},
    proxy::Proxy,
    tcp,
};
use hbone::{Baggage, Incoming, ServerOptions};
use http::{HeaderMap, StatusCode};
use identity::tls;
use l7::http::{Connection, Pool, Spoken, serve, sniff};
use model::{AppProtocol, Identity};
use runtime::drain;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use telemetry::metrics::traffic::Party;
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};

/// Pause after an accept that failed for want of resources.
const PAUSE: Duration = Duration::from_millis(50);
/// Streams of one tunnel connection at a time.
const MAX_STREAMS: u32 = 1024;
/// How long a tunnel waits for what it is for, when that has not arrived yet.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What one thread serves with.
pub(crate) struct Shard {
    pub(crate) proxy: Arc<Proxy>,
    /// HTTP connections to endpoints.
    pub(crate) pool: Arc<Pool<Dialer>>,
    /// Streams that are not HTTP.
    pub(crate) dialer: Dialer,
    pub(crate) drain: drain::Watch,
}

/// Accepts until the drain begins.
pub(crate) async fn accept(shard: Arc<Shard>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shard.drain.draining() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let guard = shard.drain.guard();
                let shard = shard.clone();
                runtime::task::spawn("tunnel connection", async move {
                    tunnels(shard, stream, peer).await;
                    drop(guard);
                });
            }
            Err(error) => {
                tracing::warn!("accepting a connection: {error}");
                time::sleep(PAUSE).await;
            }
        }
    }
}

async fn tunnels(shard: Arc<Shard>, stream: TcpStream, peer: SocketAddr) {
    let source = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let secured = async {
        linux::socket::tune(&stream, Some(linux::socket::Keepalive::default()), None).map_err(|e| e.to_string())?;
        let certificate = shard.proxy.certificate().await?;
        let stream = time::timeout(tls::HANDSHAKE_TIMEOUT, certificate.acceptor().accept(stream)).await;
        let stream = stream.map_err(|_| "no handshake in time".to_owned())?.map_err(|e| format!("tls: {e}"))?;
        let identity = tls::peer(stream.get_ref().1).map_err(|e| e.to_string())?;
        Ok::<_, String>((stream, identity))
    };
    let (stream, identity) = match secured.await {
        Ok(secured) => secured,
        Err(why) => {
            tracing::warn!(%source, "a connection came to nothing: {why}");
            return;
        }
    };
    let options = ServerOptions { max_streams: MAX_STREAMS, ..ServerOptions::default() };
    let drain = shard.drain.clone();
    let identity = Arc::new(identity);
    let served = hbone::serve(stream, options, drain, move |incoming| {
        request(shard.clone(), identity.clone(), source, incoming)
    });
    if let Err(error) = served.await {
        tracing::debug!(%source, "tunnel connection ended: {error}");
    }
}

/// One CONNECT.
async fn request(shard: Arc<Shard>, identity: Arc<Identity>, source: SocketAddr, incoming: Incoming) {
    let authority = match incoming.authority() {
        Ok(authority) => authority,
        Err(error) => {
            tracing::debug!(%source, "tunnel refused: {error}");
            return incoming.reject(StatusCode::NOT_FOUND);
        }
    };
    let target = match target(&shard.proxy, &authority).await {
        Ok(target) => target,
        Err(unknown) => {
            tracing::warn!(%source, %identity, "tunnel refused: {unknown}");
            return incoming.reject(StatusCode::SERVICE_UNAVAILABLE);
        }
    };
    let connection = connection(&shard.proxy, &identity, source, &incoming, &target);
    let headers = own_baggage(&shard.proxy);
    let Ok(stream) = incoming.accept(headers) else { return };
    let served = async {
        if matches!(target.protocol, Some(AppProtocol::Tcp | AppProtocol::Tls)) {
            return tcp::carry(&shard.proxy, &shard.dialer, &connection, stream).await;
        }
        let Ok((spoken, stream)) = sniff(stream).await else { return };
        if spoken == Spoken::Other {
            return tcp::carry(&shard.proxy, &shard.dialer, &connection, stream).await;
        }
        let (shared, pool) = (shard.proxy.shared.clone(), shard.pool.clone());
        serve(shared, pool, connection, spoken, stream, shard.drain.draining()).await;
    };
    tokio::select! {
        () = served => {}
        () = shard.drain.forced() => {}
    }
}

/// What a tunnel is for; a service that was just made may be known to the client before it is known here.
async fn target(proxy: &Proxy, authority: &hbone::Authority) -> Result<Target, dispatch::Unknown> {
    let config = &proxy.config;
    let own = Own { identity: &config.identity, gateway: &config.gateway, network: &config.network };
    let deadline = time::Instant::now() + ARRIVAL;
    loop {
        match dispatch::resolve(&proxy.shared.mesh.load().0, own, authority) {
            Err(_) if time::Instant::now() < deadline => time::sleep(LOOK_AGAIN).await,
            settled => return settled,
        }
    }
}

fn connection(
    proxy: &Proxy,
    identity: &Identity,
    source: SocketAddr,
    incoming: &Incoming,
    target: &Target,
) -> Connection {
    let known = proxy.workload_at(source.ip()).filter(|workload| workload.has_identity(identity));
    let party = match known {
        Some(workload) => Party::of(&workload, Some(identity.clone())),
        None => said(&incoming.baggage(), identity),
    };
    Connection {
        identity: Some(identity.clone()),
        source,
        party,
        service: target.service.clone(),
        workload: target.workload.clone(),
        address: target.address,
        port: target.port,
    }
}

/// A client that is not in the mesh's list, by what it says of itself; who it is, it has proven.
fn said(baggage: &Baggage, identity: &Identity) -> Party {
    let known = |text: &str| (!text.is_empty()).then(|| text.into());
    Party {
        workload: known(&baggage.workload_name),
        canonical_service: known(&baggage.service),
        canonical_revision: known(&baggage.version),
        namespace: Some(identity.namespace.clone()),
        principal: Some(identity.clone()),
        app: known(&baggage.service),
        cluster: known(&baggage.cluster),
        region: known(&baggage.region),
        zone: known(&baggage.zone),
    }
}

fn own_baggage(proxy: &Proxy) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let own = proxy.workload_at(proxy.config.address);
    if let Some(value) = own.and_then(|workload| Baggage::of(&workload).header()) {
        headers.insert("baggage", value);
    }
    headers
}
