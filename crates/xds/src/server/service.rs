//! The service: lets proxies in, one task per stream, and answers those who ask about them.

use super::{
    Clients, Session, Snapshot,
    connection::Connection,
    flow::{Hangup, Outgoing, Pace, Room},
    rpc::{Answers, Rpc},
};
use futures_util::StreamExt;
use model::Str;
use prost::Message;
use proto::{
    core::{ControlPlane, Node},
    discovery::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse},
};
use std::{fmt::Display, future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap};

/// What `proxy-status` asks for.
const SYNCZ: &str = "istio.io/debug/syncz";
/// Any debug page, named by the resource asked for.
const DEBUG: &str = "istio.io/debug";
const CLIENT_CONFIG: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";
/// How long a caller may take for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(15);

/// What a server takes note of.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A response was handed to the transport.
    Pushed {
        /// Type of its resources.
        type_url: &'a str,
        /// Its size.
        bytes: usize,
        /// How long it waited for room.
        queued: Duration,
        /// How long the transport took to accept it: long for a slow proxy.
        took: Duration,
    },
    /// A proxy was told everything that is new; the oldest change of it waited so long.
    Converged {
        /// How long.
        after: Duration,
    },
    /// A response was refused.
    Refused {
        /// Type of its resources.
        type_url: &'a str,
    },
    /// A request spoke of a response that was overtaken.
    Stale {
        /// Type of its resources.
        type_url: &'a str,
    },
    /// A proxy took nothing for too long.
    TimedOut,
}

/// Who may connect.
pub trait Gate: Send + Sync + 'static {
    /// What is known of a caller that was let in; its text appears in logs.
    type Caller: Display + Send + Sync;

    /// Who calls, from its metadata and connection, before it has said anything.
    fn authenticate(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> impl Future<Output = Result<Self::Caller, Status>> + Send;

    /// Whether the caller may be the node that it says it is.
    fn admit(&self, caller: &Self::Caller, node: &Node) -> Result<(), Status>;

    /// The gateway, `<namespace>/<name>`, that the caller has proved to be: it is given what is for that gateway alone.
    fn gateway(&self, caller: &Self::Caller, node: &Node) -> Option<Str> {
        let _ = (caller, node);
        None
    }

    /// Whether the caller may see who else is connected.
    fn may_debug(&self, caller: &Self::Caller) -> Result<(), Status>;

    /// A debug page, such as `configz?namespace=shop`, for a caller.
    fn page(&self, caller: &Self::Caller, page: &str) -> impl Future<Output = Result<Vec<u8>, Status>> + Send {
        let _ = caller;
        std::future::ready(Err(Status::not_found(format!("there is no debug page {page:?}"))))
    }

    /// What ends the connection of a request.
    fn hangup(&self, extensions: &Extensions) -> Option<Hangup> {
        let _ = extensions;
        None
    }

    /// Takes note of an event, for metrics.
    fn observe(&self, event: Event<'_>) {
        let _ = event;
    }
}

/// How a server presents itself, and what it bears.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `control_plane.identifier` of every response.
    pub identifier: String,
    /// After about this time a stream is ended, so that proxies spread over servers again.
    pub max_stream_age: Option<Duration>,
    /// How long a proxy may take nothing before it is hung up on.
    pub patience: Duration,
    /// Bytes of large responses that are under way to all proxies together.
    pub room: usize,
    /// First requests that are read and answered at a time: each may name everything that its proxy holds.
    pub admissions: usize,
    /// Requests per second of one proxy, beyond which it waits.
    pub requests_per_second: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            identifier: String::new(),
            max_stream_age: None,
            patience: Duration::from_secs(30),
            room: 64 << 20,
            admissions: 2 * std::thread::available_parallelism().map_or(1, usize::from),
            requests_per_second: 1000,
        }
    }
}

/// The service.
#[derive(Debug)]
pub struct Server<G> {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    gate: Arc<G>,
    clients: Clients,
    settings: Settings,
    room: Room,
    admissions: Arc<Semaphore>,
}

impl<G: Gate> Server<G> {
    /// A service that sends what `snapshots` holds; until it holds something, callers are told to come back.
    pub fn new(
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        gate: G,
        clients: Clients,
        settings: Settings,
    ) -> Self {
        let room = Room::new(settings.room);
        let admissions = Arc::new(Semaphore::new(settings.admissions.max(1)));
        Self { snapshots, gate: Arc::new(gate), clients, settings, room, admissions }
    }

    /// As a service of a tonic server.
    pub fn into_service(self) -> Rpc<G> {
        Rpc::new(self)
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.clients
    }

    fn current(&self) -> Result<watch::Receiver<Option<Arc<Snapshot>>>, Status> {
        if self.snapshots.borrow().is_none() {
            return Err(Status::unavailable("the control plane has not read the cluster yet; try again"));
        }
        Ok(self.snapshots.clone())
    }

    pub(super) async fn delta(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Outgoing>, Status> {
        let snapshots = self.current()?;
        let caller = self.gate.authenticate(request.metadata(), request.extensions()).await?;
        let (peer, hangup) = (caller.to_string(), self.gate.hangup(request.extensions()));
        let closing = || Status::unavailable("the control plane ends");
        let admission = Arc::clone(&self.admissions).acquire_owned().await.map_err(|_| closing())?;
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(FIRST_REQUEST, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no request came"))??;
        let first = first.ok_or_else(|| Status::invalid_argument("the stream has no request"))?;
        let node = first.node.clone().filter(|node| !node.id.is_empty());
        let node = node.ok_or_else(|| Status::invalid_argument("the first request must carry node.id"))?;
        self.gate.admit(&caller, &node)?;
        tracing::info!(node = node.id, peer, "ADS: new delta connection");

        let gateway = self.gate.gateway(&caller, &node);
        let session = Session::new(node, &self.settings.identifier).for_gateway(gateway);
        let registration = self.clients.register(session.client(&peer));
        let (parcels, outgoing, delivered) = Outgoing::new();
        let connection = Connection {
            session,
            registration,
            gate: Arc::clone(&self.gate),
            peer,
            snapshots,
            parcels,
            delivered,
            room: self.room.clone(),
            pace: Pace::new(self.settings.requests_per_second),
            hangup,
            patience: self.settings.patience,
            sent: 0,
            sent_at: Instant::now(),
        };
        let age = self.settings.max_stream_age.map(|age| age.mul_f64(rand::random_range(0.9..=1.1)));
        tokio::spawn(async move {
            let serve = connection.serve(first, requests, admission);
            match age {
                // Ending by age is an orderly end: the proxy connects again and resumes by versions.
                Some(age) => drop(tokio::time::timeout(age, serve).await),
                None => serve.await,
            }
        });
        Ok(Response::new(outgoing))
    }

    /// State of the world is served for debug pages only: who is connected, and what the control plane thinks it knows.
    pub(super) async fn debug(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = self.gate.authenticate(request.metadata(), request.extensions()).await?;
        let (clients, identifier) = (self.clients.clone(), self.settings.identifier.clone());
        let asked = Arc::new((caller, Arc::clone(&self.gate)));
        let answers = request.into_inner().filter_map(move |request| {
            let (asked, clients, identifier) = (Arc::clone(&asked), clients.clone(), identifier.clone());
            async move {
                let (caller, gate) = &*asked;
                match request {
                    Ok(request) => told(&request, caller, &**gate, &clients, &identifier).await.transpose(),
                    Err(status) => Some(Err(status)),
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The answer to a debug request; an acknowledgement has none.
async fn told<G: Gate>(
    request: &DiscoveryRequest,
    caller: &G::Caller,
    gate: &G,
    clients: &Clients,
    identifier: &str,
) -> Result<Option<DiscoveryResponse>, Status> {
    if !request.response_nonce.is_empty() {
        return Ok(None);
    }
    let any = |type_url: &str, value| prost_types::Any { type_url: type_url.to_owned(), value };
    let resources = match request.type_url.as_str() {
        SYNCZ => {
            gate.may_debug(caller)?;
            clients.configs().iter().map(|config| any(CLIENT_CONFIG, config.encode_to_vec())).collect()
        }
        DEBUG => {
            let page = request.resource_names.first().map_or("list", String::as_str);
            vec![any(DEBUG, gate.page(caller, page).await?)]
        }
        page if page.strip_prefix("istio.io/debug/").is_some_and(|page| !page.is_empty()) => {
            let name = page.trim_start_matches("istio.io/debug/");
            vec![any(page, gate.page(caller, name).await?)]
        }
        other => {
            return Err(Status::unimplemented(format!(
                "only {DEBUG} is served as state of the world, not {other:?}; proxies use delta streams"
            )));
        }
    };
    Ok(Some(DiscoveryResponse {
        resources,
        type_url: request.type_url.clone(),
        nonce: format!("{:016x}", rand::random::<u64>()),
        control_plane: Some(ControlPlane { identifier: identifier.to_owned() }),
        ..DiscoveryResponse::default()
    }))
}
