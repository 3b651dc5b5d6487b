//! Flow control: what waits for one proxy, for all of them together, and how fast one may ask.

use super::Push;
use futures_util::Stream;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::Instant,
};
use tonic::Status;

/// Unit in which room is reserved.
const BLOCK: usize = 1 << 10;
/// A response up to this size needs no room: the small change must not wait for somebody's first full push.
const SMALL: usize = 64 << 10;

/// Room for responses that are being sent, of all proxies together.
#[derive(Debug, Clone)]
pub(super) struct Room {
    blocks: Arc<Semaphore>,
    all: u32,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let all = u32::try_from(bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX).max(1);
        Self { blocks: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until there is room for a response; one that is larger than all the room gets all of it.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= SMALL {
            return None;
        }
        let blocks = u32::try_from(bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX).min(self.all);
        // The semaphore is never closed.
        Arc::clone(&self.blocks).acquire_many_owned(blocks).await.ok()
    }
}

/// A response and the room it takes.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) content: Result<Push, Status>,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// What the transport takes responses from. It comes for the next one when it has room again, which tells that the one before
/// is on its way.
#[derive(Debug)]
pub struct Outgoing {
    parcels: mpsc::Receiver<Parcel>,
    room: Option<OwnedSemaphorePermit>,
    taken: u64,
    delivered: watch::Sender<u64>,
}

impl Outgoing {
    /// A way for responses, one at a time, and how many were delivered.
    pub(super) fn new() -> (mpsc::Sender<Parcel>, Self, watch::Receiver<u64>) {
        let (sender, parcels) = mpsc::channel(1);
        let (delivered, seen) = watch::channel(0);
        (sender, Self { parcels, room: None, taken: 0, delivered }, seen)
    }
}

impl Stream for Outgoing {
    type Item = Result<Push, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.room = None;
        let taken = self.taken;
        self.delivered.send_if_modified(|delivered| std::mem::replace(delivered, taken) != taken);
        let Some(parcel) = std::task::ready!(self.parcels.poll_recv(cx)) else { return Poll::Ready(None) };
        self.taken += 1;
        self.room = parcel.room;
        Poll::Ready(Some(parcel.content))
    }
}

/// Ends a proxy's connection, which frees what waits for it: a stream alone cannot be ended while its peer reads nothing.
#[derive(Debug, Clone, Default)]
pub struct Hangup(Arc<watch::Sender<bool>>);

impl Hangup {
    /// Ends the connection.
    pub fn hang_up(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the connection is to be ended.
    pub async fn hung_up(&self) {
        // This very handle holds the sender.
        let _ = self.0.subscribe().wait_for(|ended| *ended).await;
    }
}

/// How fast one proxy may ask: so many requests per second, twice as many at once.
#[derive(Debug)]
pub(super) struct Pace {
    each: Duration,
    /// When a proxy that had asked at exactly this pace would be where this one is.
    due: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let each = Duration::from_secs(1) / per_second.max(1);
        Self { each, due: Instant::now() }
    }

    /// Waits as long as the proxy is ahead of its time.
    pub(super) async fn keep(&mut self) {
        let now = Instant::now();
        self.due = self.due.max(now) + self.each;
        let ahead = self.due.duration_since(now);
        let allowed = Duration::from_secs(2);
        if ahead > allowed {
            tokio::time::sleep(ahead - allowed).await;
        }
    }
}
