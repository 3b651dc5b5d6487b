//! The shell around [`State`]: opens streams, moves messages, waits between streams, tells who waits.

use super::{Backoff, Batch, Change, Config, Ended, Event, Named, Rejection, SharedHeld, Sink, State};
use crate::MAX_MESSAGE_BYTES;
use futures_util::StreamExt;
use model::Str;
use prost::Message;
use proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use std::{collections::HashMap, fmt::Display, future::Future, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};

/// Requests that may wait for the connection; more than any exchange needs.
const QUEUE: usize = 256;

/// Runs the protocol for as long as it is polled.
#[derive(Debug)]
pub struct Client<S> {
    state: State,
    sink: S,
    synced: watch::Sender<bool>,
    demands: mpsc::Receiver<Wanted>,
    waiting: HashMap<Str, Vec<oneshot::Sender<()>>>,
}

/// What the rest of a process holds of its client.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Becomes true, for good, after the first accepted response of every type.
    pub synced: watch::Receiver<bool>,
    /// Asks for single addresses.
    pub demand: Demand,
    /// What is held, for those who write it down.
    pub held: SharedHeld,
}

/// Asks for single addresses, for clients that do not hold all.
#[derive(Debug, Clone)]
pub struct Demand {
    wanted: mpsc::Sender<Wanted>,
    timeout: Duration,
}

#[derive(Debug)]
struct Wanted {
    key: Str,
    done: oneshot::Sender<()>,
}

/// Why an address did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The control plane did not answer in time.
    #[error("the control plane did not answer in time; is it connected?")]
    TimedOut,
    /// The client is gone.
    #[error("the xDS client has stopped")]
    Stopped,
}

impl Demand {
    /// Waits until the control plane has said what `key` is (a uid, `<namespace>/<hostname>` or `<network>/<ip>`), or
    /// that it is nothing; afterwards the sink knows.
    pub async fn fetch(&self, key: &str) -> Result<(), WaitError> {
        let (done, answered) = oneshot::channel();
        let ask = async {
            self.wanted.send(Wanted { key: key.into(), done }).await.map_err(|_| WaitError::Stopped)?;
            answered.await.map_err(|_| WaitError::Stopped)
        };
        tokio::time::timeout(self.timeout, ask).await.unwrap_or(Err(WaitError::TimedOut))
    }
}

impl<S: Sink> Client<S> {
    /// A client that holds nothing yet, and its handle.
    pub fn new(config: Config, sink: S) -> (Self, Handle) {
        let (wanted, demands) = mpsc::channel(QUEUE);
        let timeout = config.demand_timeout;
        let (synced, seen) = watch::channel(false);
        let client = Self { state: State::new(config), sink, synced, demands, waiting: HashMap::new() };
        let held = client.state.held();
        (client, Handle { synced: seen, demand: Demand { wanted, timeout }, held })
    }

    /// Keeps a stream open, one channel from `connect` after the other; drop the future to stop.
    pub async fn run<C, F, E>(mut self, mut connect: impl FnMut() -> F)
    where
        F: Future<Output = Result<C, E>>,
        E: Display,
        C: GrpcService<Body>,
        C::Error: Into<StdError>,
        C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
        <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    {
        let mut backoff = Backoff::default();
        loop {
            let mut useful = false;
            let ended = match connect().await {
                Ok(channel) => self.stream(channel, &mut useful).await,
                Err(error) => Ended::ConnectFailed(error.to_string()),
            };
            let delay = Backoff::jittered(backoff.after(&ended, useful));
            match &ended {
                Ended::Complete => tracing::debug!("xDS stream: {ended}; next one in {delay:?}"),
                _ => tracing::warn!("xDS stream: {ended}; next one in {delay:?}"),
            }
            self.sink.observe(Event::Disconnected(&ended));
            tokio::time::sleep(delay).await;
        }
    }

    async fn stream<C>(&mut self, channel: C, useful: &mut bool) -> Ended
    where
        C: GrpcService<Body>,
        C::Error: Into<StdError>,
        C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
        <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    {
        let (requests, outgoing) = mpsc::channel::<DeltaDiscoveryRequest>(QUEUE);
        for request in self.state.open() {
            if requests.try_send(request).is_err() {
                return Ended::Complete;
            }
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let opened = client.delta_aggregated_resources(tokio_stream::wrappers::ReceiverStream::new(outgoing)).await;
        let mut responses = match opened {
            Ok(response) => response.into_inner(),
            Err(status) => return Ended::Status(status),
        };
        self.sink.observe(Event::Connected);
        loop {
            let request = tokio::select! {
                next = responses.next() => match next {
                    Some(Ok(response)) => self.receive(response, useful),
                    Some(Err(status)) => return Ended::Status(status),
                    None => return Ended::Complete,
                },
                Some(wanted) = self.demands.recv() => match self.want(wanted) {
                    Some(request) => request,
                    None => continue,
                },
            };
            if requests.send(request).await.is_err() {
                return Ended::Complete;
            }
        }
    }

    fn receive(&mut self, response: DeltaDiscoveryResponse, useful: &mut bool) -> DeltaDiscoveryRequest {
        let bytes = response.encoded_len();
        self.sink.observe(Event::Received { type_url: &response.type_url, bytes });
        tracing::debug!(
            type_url = response.type_url,
            resources = response.resources.len(),
            removes = response.removed_resources.len(),
            bytes,
            "received response"
        );
        let reply = self.state.receive(response, &mut self.sink);
        if let Some(error) = &reply.request.error_detail {
            tracing::warn!(type_url = reply.request.type_url, "resources refused: {}", error.message);
        }
        for name in &reply.settled {
            for done in self.waiting.remove(name).unwrap_or_default() {
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
        *useful |= reply.accepted;
        if self.state.is_synced() {
            self.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
        }
        reply.request
    }

    /// `None` if nothing needs to be sent: the key is held, or asked for already.
    fn want(&mut self, wanted: Wanted) -> Option<DeltaDiscoveryRequest> {
        let request = self.state.demand(&wanted.key);
        if request.is_none() && !self.waiting.contains_key(&wanted.key) {
            let _ = wanted.done.send(());
            return None;
        }
        let waiters = self.waiting.entry(wanted.key).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(wanted.done);
        request
    }
}

/// For a sink behind a box, such as a role's choice at start.
impl Sink for Box<dyn Sink> {
    fn apply(&mut self, batch: Batch) -> Vec<Rejection> {
        (**self).apply(batch)
    }

    fn apply_l7(&mut self, changes: Vec<Change<Named>>) -> Vec<Rejection> {
        (**self).apply_l7(changes)
    }

    fn observe(&mut self, event: Event<'_>) {
        (**self).observe(event);
    }
}
