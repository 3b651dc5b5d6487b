//! The gRPC service: one task per stream, which moves messages between the stream, its [`Session`] and the snapshots.
//!
//! A task looks at the snapshot only once the previous response has been handed to the transport, so a slow proxy
//! costs one response of memory and skips the snapshots in between.

use super::{Clients, Session, Snapshot, clients::Registration};
use crate::MAX_MESSAGE_BYTES;
use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use proto::{
    core::{ControlPlane, Node},
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
};
use std::{
    fmt::Display,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap};

/// What `proxy-status` asks for.
const SYNCZ: &str = "istio.io/debug/syncz";
const CLIENT_CONFIG: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";

/// What a server takes note of.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A response was handed to the transport.
    Pushed {
        /// Type of its resources.
        type_url: &'a str,
        /// How long the transport took to accept it: long for a slow proxy.
        took: Duration,
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

    /// Whether the caller may see who else is connected.
    fn may_debug(&self, caller: &Self::Caller) -> Result<(), Status>;

    /// Takes note of an event, for metrics.
    fn observe(&self, event: Event<'_>) {
        let _ = event;
    }
}

/// How a server presents itself.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `control_plane.identifier` of every response.
    pub identifier: String,
    /// After about this time a stream is ended, so that proxies spread over servers again.
    pub max_stream_age: Option<Duration>,
}

/// The service.
#[derive(Debug)]
pub struct Server<G> {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    gate: Arc<G>,
    clients: Clients,
    settings: Settings,
}

impl<G: Gate> Server<G> {
    /// A service that sends what `snapshots` holds; until it holds something, callers are told to come back.
    pub fn new(
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        gate: G,
        clients: Clients,
        settings: Settings,
    ) -> Self {
        Self { snapshots, gate: Arc::new(gate), clients, settings }
    }

    /// As a service of a tonic server.
    pub fn into_service(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn current(&self) -> Result<watch::Receiver<Option<Arc<Snapshot>>>, Status> {
        if self.snapshots.borrow().is_none() {
            return Err(Status::unavailable("the control plane has not read the cluster yet; try again"));
        }
        Ok(self.snapshots.clone())
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<G: Gate> AggregatedDiscoveryService for Server<G> {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    /// State of the world is served for the list of connected proxies only.
    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let caller = self.gate.authenticate(request.metadata(), request.extensions()).await?;
        self.gate.may_debug(&caller)?;
        let (clients, identifier) = (self.clients.clone(), self.settings.identifier.clone());
        let answers = request.into_inner().filter_map(move |request| {
            let answer = match request {
                Ok(request) => debug(&request, &clients, &identifier).transpose(),
                Err(status) => Some(Err(status)),
            };
            std::future::ready(answer)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let snapshots = self.current()?;
        let caller = self.gate.authenticate(request.metadata(), request.extensions()).await?;
        let peer = caller.to_string();
        let mut requests = request.into_inner();
        let first = requests.message().await?.ok_or_else(|| Status::invalid_argument("the stream has no request"))?;
        let node = first.node.clone().filter(|node| !node.id.is_empty());
        let node = node.ok_or_else(|| Status::invalid_argument("the first request must carry node.id"))?;
        self.gate.admit(&caller, &node)?;
        tracing::info!(node = node.id, peer, "ADS: new delta connection");

        let session = Session::new(node, &self.settings.identifier);
        let registration = self.clients.register(session.status(&peer));
        let (responses, outgoing) = mpsc::channel(1);
        let connection = Connection { session, registration, gate: Arc::clone(&self.gate), peer, snapshots, responses };
        let age = self.settings.max_stream_age.map(|age| age.mul_f64(rand::random_range(0.9..=1.1)));
        tokio::spawn(async move {
            let serve = connection.serve(first, requests);
            match age {
                // Ending by age is an orderly end: the proxy connects again and resumes by versions.
                Some(age) => drop(tokio::time::timeout(age, serve).await),
                None => serve.await,
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(outgoing))))
    }
}

/// One stream.
struct Connection<G> {
    session: Session,
    registration: Registration,
    gate: Arc<G>,
    peer: String,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl<G: Gate> Connection<G> {
    async fn serve(mut self, first: DeltaDiscoveryRequest, requests: Streaming<DeltaDiscoveryRequest>) {
        let mut requests = stream::iter([Ok(first)]).chain(requests);
        loop {
            let sent = tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => self.answer(request).await,
                    Some(Err(status)) => {
                        tracing::info!(peer = self.peer, "ADS: connection ended: {}", status.message());
                        return;
                    }
                    None => return,
                },
                changed = self.snapshots.changed() => match changed {
                    Ok(()) => self.push().await,
                    Err(_) => return,
                },
            };
            if !sent {
                return;
            }
            self.registration.update(self.session.status(&self.peer));
        }
    }

    /// Each of these returns whether the stream still stands.
    async fn answer(&mut self, request: DeltaDiscoveryRequest) -> bool {
        if self.session.is_stale(&request) {
            self.gate.observe(Event::Stale { type_url: &request.type_url });
        } else if let Some(error) = &request.error_detail {
            self.gate.observe(Event::Refused { type_url: &request.type_url });
            tracing::warn!(node = self.session.node().id, type_url = request.type_url, "refused: {}", error.message);
        }
        let Some(snapshot) = self.snapshots.borrow().clone() else { return true };
        match self.session.on_request(request, &snapshot) {
            Some(response) => self.send(response).await,
            None => true,
        }
    }

    async fn push(&mut self) -> bool {
        let Some(snapshot) = self.snapshots.borrow_and_update().clone() else { return true };
        for response in self.session.on_change(&snapshot) {
            if !self.send(response).await {
                return false;
            }
        }
        true
    }

    async fn send(&self, response: DeltaDiscoveryResponse) -> bool {
        let (type_url, started) = (response.type_url.clone(), Instant::now());
        let (resources, removed) = (response.resources.len(), response.removed_resources.len());
        let sent = self.responses.send(Ok(response)).await.is_ok();
        let took = started.elapsed();
        self.gate.observe(Event::Pushed { type_url: &type_url, took });
        tracing::debug!(node = self.session.node().id, type_url, resources, removed, ?took, "push");
        sent
    }
}

/// The answer to a debug request; an acknowledgement has none.
fn debug(request: &DiscoveryRequest, clients: &Clients, identifier: &str) -> Result<Option<DiscoveryResponse>, Status> {
    if !request.response_nonce.is_empty() {
        return Ok(None);
    }
    if request.type_url != SYNCZ {
        return Err(Status::unimplemented(format!(
            "only {SYNCZ} is served as state of the world, not {:?}; proxies use delta streams",
            request.type_url
        )));
    }
    let resources = clients
        .configs()
        .iter()
        .map(|config| prost_types::Any { type_url: CLIENT_CONFIG.to_owned(), value: config.encode_to_vec() })
        .collect();
    Ok(Some(DiscoveryResponse {
        resources,
        type_url: SYNCZ.to_owned(),
        nonce: format!("{:016x}", rand::random::<u64>()),
        control_plane: Some(ControlPlane { identifier: identifier.to_owned() }),
        ..DiscoveryResponse::default()
    }))
}
