//! One delta stream: moves messages between the transport, the proxy's [`Session`] and the snapshots.
//!
//! A task looks at the snapshot only once the previous response is on its way, so a slow proxy costs one response of memory and
//! skips the snapshots in between; one that takes nothing for too long is hung up on.

use super::{
    Push, Session, SessionError, Snapshot,
    clients::Registration,
    flow::{Hangup, Pace, Parcel, Room},
    service::{Event, Gate},
};
use futures_util::{StreamExt, stream};
use proto::discovery::DeltaDiscoveryRequest;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::Instant,
};
use tonic::{Status, Streaming};

/// One stream.
pub(super) struct Connection<G> {
    pub(super) session: Session,
    pub(super) registration: Registration,
    pub(super) gate: Arc<G>,
    pub(super) peer: String,
    pub(super) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) parcels: mpsc::Sender<Parcel>,
    pub(super) delivered: watch::Receiver<u64>,
    pub(super) room: Room,
    pub(super) pace: Pace,
    pub(super) hangup: Option<Hangup>,
    /// How long the transport may take for one response.
    pub(super) patience: Duration,
    pub(super) sent: u64,
    pub(super) sent_at: Instant,
}

/// Why a stream was left.
enum End {
    /// The proxy, or the control plane, is gone.
    Closed,
    /// The proxy takes nothing.
    Stalled,
    /// The session cannot go on.
    Session(SessionError),
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl<G: Gate> Connection<G> {
    /// Serves until the stream ends. `admission` is given back with the first answer.
    pub(super) async fn serve(
        mut self,
        first: DeltaDiscoveryRequest,
        requests: Streaming<DeltaDiscoveryRequest>,
        admission: OwnedSemaphorePermit,
    ) {
        let end = match self.answer(first).await {
            Ok(()) => {
                drop(admission);
                self.follow(requests).await
            }
            Err(end) => end,
        };
        let node = self.session.node().id.as_str();
        match end {
            End::Closed => {}
            End::Stalled => {
                self.gate.observe(Event::TimedOut);
                tracing::warn!(node, "ADS: nothing was taken for {:?}, hanging up", self.patience);
                if let Some(hangup) = &self.hangup {
                    hangup.hang_up();
                }
            }
            End::Session(error) => {
                tracing::warn!(node, "ADS: ending the stream: {error}");
                let status = match error {
                    SessionError::FellBehind => Status::aborted(error.to_string()),
                    _ => Status::resource_exhausted(error.to_string()),
                };
                let farewell = self.parcels.send(Parcel { content: Err(status), room: None });
                let _ = tokio::time::timeout(self.patience, farewell).await;
            }
        }
    }

    async fn follow(&mut self, requests: Streaming<DeltaDiscoveryRequest>) -> End {
        let mut requests = std::pin::pin!(requests.chain(stream::empty()));
        loop {
            self.registration.update(self.session.status());
            let is_idle = *self.delivered.borrow_and_update() == self.sent;
            let done = tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => {
                        self.pace.keep().await;
                        self.answer(request).await
                    }
                    Some(Err(status)) => {
                        tracing::info!(peer = self.peer, "ADS: connection ended: {}", status.message());
                        return End::Closed;
                    }
                    None => return End::Closed,
                },
                changed = self.snapshots.changed(), if is_idle => match changed {
                    Ok(()) => self.push().await,
                    Err(_) => return End::Closed,
                },
                progress = self.delivered.changed(), if !is_idle => match progress {
                    Ok(()) => Ok(()),
                    Err(_) => return End::Closed,
                },
                () = tokio::time::sleep_until(self.sent_at + self.patience), if !is_idle => Err(End::Stalled),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn answer(&mut self, request: DeltaDiscoveryRequest) -> Result<(), End> {
        if self.session.is_stale(&request) {
            self.gate.observe(Event::Stale { type_url: &request.type_url });
        } else if let Some(error) = &request.error_detail {
            self.gate.observe(Event::Refused { type_url: &request.type_url });
            tracing::warn!(node = self.session.node().id, type_url = request.type_url, "refused: {}", error.message);
        }
        let Some(snapshot) = self.snapshots.borrow().clone() else { return Ok(()) };
        match self.session.on_request(request, &snapshot)? {
            Some(push) => self.send(push).await,
            None => Ok(()),
        }
    }

    async fn push(&mut self) -> Result<(), End> {
        let Some(snapshot) = self.snapshots.borrow_and_update().clone() else { return Ok(()) };
        let mut pushed = false;
        while let Some(push) = self.session.on_change(&snapshot)? {
            self.send(push).await?;
            pushed = true;
        }
        if pushed {
            self.gate.observe(Event::Converged { after: snapshot.since().elapsed() });
        }
        Ok(())
    }

    async fn send(&mut self, push: Push) -> Result<(), End> {
        let (type_url, resources, removed) =
            (push.type_url().to_owned(), push.len(), push.head.removed_resources.len());
        let bytes = push.encoded_len();
        let waits_since = Instant::now();
        let room = self.room.reserve(bytes).await;
        let started = Instant::now();
        let parcel = Parcel { content: Ok(push), room };
        match tokio::time::timeout(self.patience, self.parcels.send(parcel)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(End::Closed),
            Err(_) => return Err(End::Stalled),
        }
        self.sent += 1;
        self.sent_at = Instant::now();
        let (queued, took) = (started - waits_since, started.elapsed());
        self.gate.observe(Event::Pushed { type_url: &type_url, bytes, queued, took });
        tracing::debug!(node = self.session.node().id, type_url, resources, removed, bytes, ?took, "push");
        Ok(())
    }
}
