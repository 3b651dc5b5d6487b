//! Tunnels on 15008: TLS as the pod, then CONNECT after CONNECT, each judged and carried on its own
//! (ztunnel.md §4.3, §7.1).

use super::{
    application, proxy_protocol,
    target::{self, Local, Refusal, Target},
};
use crate::{
    certificates::{certificate, identity_of},
    config::Config,
    connections::{Judged, Shown},
    flow::{self, Beginning, Session},
    listener::local_address,
    pod::{self, Shard},
    policy,
    proxy::Proxy,
    quota, telling,
};
use authz::Verdict;
use futures_util::FutureExt;
use hbone::{Authority, BadRequest, Baggage, Carrier, Incoming, ServerOptions};
use http::{HeaderMap, StatusCode};
use identity::{
    revocation::{CertificateId, peer_chain},
    tls::{self, HANDSHAKE_TIMEOUT, HandshakeError, TlsStream},
};
use model::{Identity, NetworkAddress, Reason, Str, Workload};
use std::{net::SocketAddr, sync::Arc};
use telemetry::access::Direction;
use tokio::{io::AsyncWriteExt, net::TcpStream, time, time::Instant};

/// Name of the header that says who the destination is.
const BAGGAGE: &str = "baggage";

/// A connection whose peer has proven who it is.
#[derive(Debug)]
pub(super) struct Connection {
    pub shard: Arc<Shard>,
    /// The peer's proxy, or the peer itself.
    pub source: SocketAddr,
    /// The pod's address that was connected to.
    pub local: SocketAddr,
    pub peer: Identity,
    /// Every certificate that the peer showed.
    pub chain: Vec<CertificateId>,
}

/// A request that may reach the application.
pub(super) struct Admissible {
    workload: Arc<Workload>,
    authority: Authority,
    target: Target,
}

/// What a request says beside where it wants to go; believed only where nothing depends on it.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub forwarded_network: Option<&'a str>,
    pub forwarded_host: Option<&'a str>,
    pub baggage: Baggage,
}

impl<'a> Said<'a> {
    fn by(incoming: &'a Incoming, config: &Config) -> Self {
        Self {
            forwarded_network: incoming.forwarded_network(),
            forwarded_host: hbone::forwarded_host(incoming.headers()),
            baggage: if config.response_baggage { incoming.baggage() } else { Baggage::default() },
        }
    }
}

/// Handles one connection to the HBONE port.
pub(crate) async fn handle(shard: Arc<Shard>, client: TcpStream, source: SocketAddr) {
    let local = local_address(&client);
    let pod = &shard.pod;
    let secured = match pod.quotas.handshake(source.ip()) {
        Ok(_going_on) => secure(&shard, client).await,
        Err(limit) => return quota::refuse_connection(pod, limit, Direction::Inbound, &client, source),
    };
    let (tls, peer, chain) = match secured {
        Ok(secured) => secured,
        Err((workload, reason)) => {
            let traffic = &shard.pod.proxy.metrics.traffic;
            return flow::fail_early(traffic, Direction::Inbound, source, local, workload.as_deref(), reason);
        }
    };
    let config = &pod.proxy.config;
    let (windows, _buffers) = match pod.quotas.windows(pod::windows(config)) {
        Ok(granted) => granted,
        Err(limit) => return quota::refuse(pod, limit, Direction::Inbound, source, local),
    };
    let options = ServerOptions { engine: config.tunnels.engine, windows, ..ServerOptions::default() };
    let drain = shard.pod.drain.clone();
    let connection = Arc::new(Connection { shard, source, local, peer, chain });
    let requests = connection.clone();
    tokio::select! {
        served = hbone::serve(tls, options, drain, move |incoming| request(requests.clone(), incoming)) => {
            if let Err(error) = served {
                tracing::debug!(%source, "tunnel connection ended: {error}");
            }
        }
        () = connection.revoked() => {
            connection.shard.pod.proxy.metrics.revocation_rejections.add(&["destination"]);
            tracing::info!(%source, "tunnel connection cut: the peer's certificate was revoked");
        }
    }
}

impl Connection {
    /// Waits until a certificate of the peer is revoked.
    async fn revoked(&self) {
        self.shard.pod.proxy.revocations.revoked(&self.chain).await;
    }
}

/// A peer that has proven who it is, with the certificates that it showed.
type Secured = (Carrier, Identity, Vec<CertificateId>);

/// TLS as the pod: without the pod's own certificate, or without the peer's, there is no tunnel.
async fn secure(shard: &Shard, client: TcpStream) -> Result<Secured, (Option<Arc<Workload>>, Reason)> {
    let proxy = &shard.pod.proxy;
    let workload = proxy.state.await_local_workload(&shard.pod.info).await;
    let workload = workload.ok_or((None, Reason::WorkloadUnknown))?;
    let identity = identity_of(&workload, &shard.pod.info);
    let handshake = async {
        let certificate = certificate(&proxy.certificates, &identity).await.map_err(Reason::IdentityFailed)?;
        if proxy.config.seals() {
            let sealed = certificate.accept_sealed(client).await.map_err(|error| refused(proxy, error))?;
            let (peer, chain) = (sealed.peer.clone(), sealed.chain.clone());
            return Ok((Carrier::sealed(sealed), peer, chain));
        }
        let accepted = time::timeout(HANDSHAKE_TIMEOUT, certificate.acceptor().accept(client)).await;
        let stream: TlsStream<TcpStream> = match accepted {
            Ok(Ok(stream)) => stream.into(),
            Ok(Err(error)) => return Err(refused(proxy, HandshakeError::Failed(error))),
            Err(_) => return Err(refused(proxy, HandshakeError::Timeout(HANDSHAKE_TIMEOUT))),
        };
        let state = stream.get_ref().1;
        let peer = tls::peer(state).map_err(|error| Reason::TlsFailed(error.to_string()))?;
        let chain = peer_chain(state);
        Ok((stream.into(), peer, chain))
    };
    handshake.await.map_err(|reason| (Some(workload), reason))
}

fn refused(proxy: &Proxy, error: HandshakeError) -> Reason {
    match error {
        HandshakeError::Failed(error) => {
            if tls::is_revocation(&error) {
                proxy.metrics.revocation_rejections.add(&["destination"]);
            }
            Reason::TlsFailed(format!("tls handshake error: {error}"))
        }
        HandshakeError::Timeout(after) => Reason::TlsFailed(format!("no handshake within {after:?}")),
        HandshakeError::Peer(error) => Reason::TlsFailed(error.to_string()),
    }
}

/// Handles one CONNECT.
async fn request(connection: Arc<Connection>, incoming: Incoming) {
    let since = Instant::now();
    let shard = &connection.shard;
    let _place = match shard.pod.quotas.stream() {
        Ok(place) => place,
        Err(limit) => {
            quota::refuse(&shard.pod, limit, Direction::Inbound, connection.source, connection.local);
            return incoming.reject(StatusCode::SERVICE_UNAVAILABLE);
        }
    };
    let authority = incoming.authority();
    let admissible = match admissible(&connection, authority).await {
        Ok(admissible) => admissible,
        Err((workload, Refusal { status, reason })) => {
            let traffic = &shard.pod.proxy.metrics.traffic;
            let (source, local) = (connection.source, connection.local);
            flow::fail_early(traffic, Direction::Inbound, source, local, workload.as_deref(), reason);
            return incoming.reject(status_code(status));
        }
    };
    let session = begin(&connection, &Said::by(&incoming, &shard.pod.proxy.config), &admissible, since);
    let carried = carry(&connection, &session, &admissible, incoming);
    let reason = tokio::select! {
        biased;
        reason = session.cut() => reason,
        reason = shard.pod.ended() => reason,
        () = connection.revoked() => Reason::CertificateRevoked,
        // The connection ends for the same reason, and its end may be seen first.
        reason = carried => match connection.revoked().now_or_never() {
            Some(()) => Reason::CertificateRevoked,
            None => reason,
        },
    };
    session.finish(reason);
}

/// The status of a refusal; what is no status cannot occur and would be the server's fault.
fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Everything that can be said against a request before policy is asked.
pub(super) async fn admissible(
    connection: &Connection,
    authority: Result<Authority, BadRequest>,
) -> Result<Admissible, (Option<Arc<Workload>>, Refusal)> {
    let pod = &connection.shard.pod;
    let state = &pod.proxy.state;
    let authority = authority.map_err(|error| (None, Refusal::new(400, Reason::BadRequest(error.to_string()))))?;
    let workload = state.await_local_workload(&pod.info).await;
    let workload = workload.ok_or_else(|| (None, Refusal::new(503, Reason::WorkloadUnknown)))?;
    let config = &pod.proxy.config;
    let illegal_ports = config.illegal_ports();
    let local = Local {
        workload: &workload,
        address: connection.local.ip(),
        network: &config.network,
        illegal_ports,
        localhost_app_tunnel: config.localhost_app_tunnel,
    };
    match target::resolve(&state.mesh(), local, &authority) {
        Ok(target) => Ok(Admissible { workload, authority, target }),
        Err(refusal) => Err((Some(workload), refusal)),
    }
}

pub(super) fn begin(connection: &Connection, said: &Said<'_>, admissible: &Admissible, since: Instant) -> Session {
    let proxy = &connection.shard.pod.proxy;
    let Admissible { workload, authority, target } = admissible;
    let mesh = proxy.state.mesh();
    let own = &proxy.config.network;
    let from_elsewhere = said.forwarded_network.is_some_and(|network| !network.eq_ignore_ascii_case(own));
    let address = NetworkAddress { network: own.clone(), address: connection.source.ip() };
    let known = if from_elsewhere { None } else { mesh.workload_by_address(&address) };
    let client = known.map_or(telling::Client::Said(&said.baggage), |workload| telling::Client::Workload(workload));
    let forwarded = said.forwarded_host;
    let service = target::addressed_service(&mesh, workload, forwarded, target.application.port());
    let telling = (connection.local, Some(authority));
    let peer = Some(&connection.peer);
    let (record, labels) = telling::inbound(workload, client, peer, service.as_deref(), connection.source, telling);
    let shown = Shown {
        direction: Direction::Inbound,
        source: connection.source,
        original: forwarded.map(Str::from),
        actual: target.application.to_string(),
        protocol: "HBONE",
    };
    let judged = Some(judged(connection, target));
    let beginning = Beginning { record, labels, shown, judged, since };
    Session::begin(&proxy.metrics.traffic, &connection.shard.connections, beginning)
}

fn judged(connection: &Connection, target: &Target) -> Judged {
    Judged { peer: Some(connection.peer.clone()), source: connection.source, destination: target.application }
}

/// Policy, and then the application.
pub(super) async fn reach(connection: &Connection, admissible: &Admissible) -> Result<TcpStream, Refusal> {
    let pod = &connection.shard.pod;
    let target = &admissible.target;
    let verbose = pod.proxy.config.policy_info_logging;
    let asked = judged(connection, target);
    if let Verdict::Deny(denial) = policy::admit(&pod.proxy.state, &pod.info, &asked, verbose).await {
        return Err(Refusal::new(401, Reason::PolicyDenied(denial.to_string())));
    }
    let connected = application::connect(pod, connection.source, target.connect).await;
    connected.map_err(|reason| Refusal::new(503, reason))
}

/// What an application wants to read before the client's bytes.
pub(super) async fn introduce(
    connection: &Connection,
    admissible: &Admissible,
    application: &mut TcpStream,
) -> Result<(), Reason> {
    let Some(destination) = admissible.target.proxy_header else { return Ok(()) };
    let header = proxy_protocol::header(connection.source, destination, Some(&connection.peer));
    let written = application.write_all(&header).await;
    written.map_err(|error| Reason::ConnectFailed(format!("writing the PROXY header: {error}")))
}

/// Policy, the application, 200, bytes.
async fn carry(connection: &Connection, session: &Session, admissible: &Admissible, incoming: Incoming) -> Reason {
    let mut application = match reach(connection, admissible).await {
        Ok(application) => application,
        Err(Refusal { status, reason }) => {
            incoming.reject(status_code(status));
            return reason;
        }
    };
    let (pod, workload) = (&connection.shard.pod, &admissible.workload);
    let mut headers = HeaderMap::new();
    if pod.proxy.config.response_baggage
        && let Some(value) = Baggage::of(workload).header()
    {
        headers.insert(BAGGAGE, value);
    }
    let Ok(mut tunnel) = incoming.accept(headers) else { return Reason::Reset };
    if let Err(reason) = introduce(connection, admissible, &mut application).await {
        tunnel.reset();
        return reason;
    }
    session.relay_tunnel(Arc::new(application), &mut tunnel).await
}
