//! One connection from the moment its two ends are known: bytes, metrics, and exactly one record at its end.

use crate::connections::{Connections, Judged, Shown, Tracked};
use linux::relay::{self, Counters};
use model::Reason;
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use telemetry::{
    access::{Direction, Failure, Outcome, Record},
    metrics::traffic::{Labels, Open, Party, Traffic},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};

/// Bytes of one connection, and the series they are counted in. `forward` is from the client to the server.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    moved: Counters,
    counted_forward: AtomicU64,
    counted_backward: AtomicU64,
    open: Mutex<Option<Open>>,
}

impl Flow {
    fn new(open: Open) -> Self {
        Self { open: Mutex::new(Some(open)), ..Self::default() }
    }

    /// A flow that is counted nowhere.
    #[cfg(test)]
    pub(crate) fn untold() -> Self {
        Self::default()
    }

    /// A flow of which one direction has ended.
    #[cfg(test)]
    pub(crate) fn half_closed_for_test() -> Self {
        let flow = Self::default();
        flow.moved.half_closed.store(true, Relaxed);
        flow
    }

    /// Counts what has passed since the last time: scrapes see long connections live.
    pub(crate) fn count_bytes(&self) {
        if let Some(open) = &*self.open.lock() {
            self.count_into(open);
        }
    }

    fn count_into(&self, open: &Open) {
        let (forward, backward) = (self.moved.forward.load(Relaxed), self.moved.backward.load(Relaxed));
        open.received(forward - self.counted_forward.swap(forward, Relaxed));
        open.sent(backward - self.counted_backward.swap(backward, Relaxed));
    }

    /// Bytes so far, if only one direction is still open.
    pub(crate) fn half_closed(&self) -> Option<u64> {
        let moved = || self.moved.forward.load(Relaxed) + self.moved.backward.load(Relaxed);
        self.moved.half_closed.load(Relaxed).then(moved)
    }

    fn end(&self, reason: &Reason) {
        if let Some(open) = self.open.lock().take() {
            self.count_into(&open);
            open.end(reason);
        }
    }
}

/// What a session is told about at its beginning.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// For the access log.
    pub record: Record,
    /// For the metrics.
    pub labels: Labels,
    /// For the dump.
    pub shown: Shown,
    /// For policies; only connections to the pod.
    pub judged: Option<Judged>,
    /// When the connection, or its request, began to be handled.
    pub since: Instant,
}

/// An open connection. It must be [`finish`](Self::finish)ed; if its task dies first, it is recorded as reset.
#[derive(Debug)]
pub(crate) struct Session {
    record: Record,
    flow: Arc<Flow>,
    tracked: Tracked,
    since: Instant,
    finished: bool,
}

impl Session {
    /// Counts, logs and enters a connection.
    pub(crate) fn begin(traffic: &Traffic, connections: &Arc<Connections>, beginning: Beginning) -> Self {
        let Beginning { record, labels, shown, judged, since } = beginning;
        let flow = Arc::new(Flow::new(traffic.series(labels).open()));
        record.opened();
        let tracked = connections.enter(shown, judged, flow.clone());
        Self { record, flow, tracked, since, finished: false }
    }

    /// Waits until somebody wants the connection to end.
    pub(crate) async fn cut(&self) -> Reason {
        self.tracked.cut().await
    }

    /// Moves bytes between the client's end and the server's until both directions have ended; a side that fails takes
    /// the other with it as a reset.
    pub(crate) async fn relay<C, S>(&self, client: &mut C, server: &mut S) -> Reason
    where
        C: AsyncRead + AsyncWrite + Abort + Unpin,
        S: AsyncRead + AsyncWrite + Abort + Unpin,
    {
        match relay::relay(client, server, &self.flow.moved).await {
            Ok(()) => Reason::Complete,
            Err(failure) => {
                tracing::debug!("{failure}");
                match failure.side {
                    relay::Side::First => server.abort(),
                    relay::Side::Second => client.abort(),
                }
                Reason::Reset
            }
        }
    }

    /// Counts and records the end.
    pub(crate) fn finish(mut self, reason: Reason) {
        self.conclude(reason);
    }

    fn conclude(&mut self, reason: Reason) {
        self.finished = true;
        self.flow.end(&reason);
        let forward = self.flow.moved.forward.load(Relaxed);
        let backward = self.flow.moved.backward.load(Relaxed);
        let (sent, received) = match self.record.direction {
            Direction::Outbound => (forward, backward),
            Direction::Inbound => (backward, forward),
        };
        self.record.ended(&Outcome { sent, received, duration: self.since.elapsed(), reason });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.finished {
            self.conclude(Reason::Reset);
        }
    }
}

/// A stream that can be broken off so that the other end notices.
pub(crate) trait Abort {
    /// Breaks it off.
    fn abort(&mut self);
}

impl Abort for TcpStream {
    fn abort(&mut self) {
        // Fails only on a socket that is gone already.
        let _ = self.set_zero_linger();
    }
}

impl Abort for hbone::TunnelStream {
    fn abort(&mut self) {
        self.reset();
    }
}

/// Records a connection that failed before its two ends were known, and counts it as well as that allows.
pub(crate) fn fail_early(
    traffic: &Traffic,
    direction: Direction,
    source: SocketAddr,
    destination: SocketAddr,
    local: Option<&model::Workload>,
    reason: Reason,
) {
    count_early(traffic, direction, local, &reason);
    log_early(direction, source, destination, reason);
}

/// Counts such a connection.
pub(crate) fn count_early(traffic: &Traffic, direction: Direction, local: Option<&model::Workload>, reason: &Reason) {
    let local = local.map(|workload| Party::of(workload, None)).unwrap_or_default();
    let (source_party, destination_party) = match direction {
        Direction::Outbound => (local, Party::default()),
        Direction::Inbound => (Party::default(), local),
    };
    let labels =
        Labels { direction, source: source_party, service: None, destination: destination_party, mutual_tls: false };
    traffic.series(labels).open().end(reason);
}

/// Records such a connection.
pub(crate) fn log_early(direction: Direction, source: SocketAddr, destination: SocketAddr, reason: Reason) {
    Failure { source_address: source, destination_address: destination, direction, reason }.log();
}
