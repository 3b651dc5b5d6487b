//! One connection from the moment its two ends are known: bytes, metrics, and exactly one record at its end.

use crate::connections::{Connections, Judged, Shown, Tracked};
use hbone::{End, TunnelStream};
use linux::{
    relay::{self, Counters},
    socket,
};
use model::Reason;
use parking_lot::Mutex;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use telemetry::{
    access::{Direction, Failure, Outcome, Record},
    metrics::traffic::{Labels, Open, Party, Traffic},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
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
    /// Of a socket and a tunnel, the socket is the client's.
    socket_is_clients: bool,
}

impl Flow {
    fn new(open: Open, direction: Direction) -> Self {
        let socket_is_clients = direction == Direction::Outbound;
        Self { open: Mutex::new(Some(open)), socket_is_clients, ..Self::default() }
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

impl hbone::Progress for Flow {
    fn to_tunnel(&self, bytes: u64) {
        let way = if self.socket_is_clients { &self.moved.forward } else { &self.moved.backward };
        way.fetch_add(bytes, Relaxed);
    }

    fn to_socket(&self, bytes: u64) {
        let way = if self.socket_is_clients { &self.moved.backward } else { &self.moved.forward };
        way.fetch_add(bytes, Relaxed);
    }

    fn half_closed(&self) {
        self.moved.half_closed.store(true, Relaxed);
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
        let flow = Arc::new(Flow::new(traffic.series(labels).open(), record.direction));
        record.opened();
        let tracked = connections.enter(shown, judged, flow.clone());
        Self { record, flow, tracked, since, finished: false }
    }

    /// Waits until somebody wants the connection to end.
    pub(crate) async fn cut(&self) -> Reason {
        self.tracked.cut().await
    }

    /// Moves bytes between a socket and a tunnel until both directions have ended; an end that fails takes the other with it
    /// as a reset.
    pub(crate) async fn relay_tunnel(&self, socket: Arc<TcpStream>, tunnel: &mut TunnelStream) -> Reason {
        let progress: Arc<dyn hbone::Progress> = self.flow.clone();
        let failed = match tunnel.carry(&socket, &progress).await {
            Some(Ok(())) => return Reason::Complete,
            Some(Err(error)) => {
                tracing::debug!("{error}");
                error.end
            }
            None => match self.relay_by_copying(&socket, tunnel).await {
                Ok(()) => return Reason::Complete,
                Err(end) => end,
            },
        };
        match failed {
            End::Tunnel => abort(&socket),
            End::Socket => tunnel.reset(),
        }
        Reason::Reset
    }

    /// The way of framings that know no shorter one.
    async fn relay_by_copying(&self, socket: &TcpStream, tunnel: &mut TunnelStream) -> Result<(), End> {
        let mut socket = Shared(socket);
        let moved = &self.flow.moved;
        let outcome = if self.flow.socket_is_clients {
            relay::relay(&mut socket, tunnel, moved).await
        } else {
            relay::relay(tunnel, &mut socket, moved).await
        };
        outcome.map_err(|failure| {
            tracing::debug!("{failure}");
            let first = failure.side == relay::Side::First;
            if first == self.flow.socket_is_clients { End::Socket } else { End::Tunnel }
        })
    }

    /// Moves bytes between two sockets, for every session that this is: one, or both ends of a connection within the node.
    pub(crate) async fn relay_sockets(&self, other: Option<&Self>, client: &TcpStream, server: &TcpStream) -> Reason {
        let own = &self.flow.moved;
        let relayed = match other {
            Some(other) => relay::relay_sockets(client, server, &[own, &other.flow.moved]).await,
            None => relay::relay_sockets(client, server, own).await,
        };
        let Err(failure) = relayed else { return Reason::Complete };
        tracing::debug!("{failure}");
        match failure.side {
            relay::Side::First => abort(server),
            relay::Side::Second => abort(client),
        }
        Reason::Reset
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

/// Breaks a socket off, so that the other end notices when it is closed.
pub(crate) fn abort(socket: &TcpStream) {
    // Fails only on a socket that is gone already.
    let _ = socket.set_zero_linger();
}

/// A socket that somebody else holds, too.
struct Shared<'a>(&'a TcpStream);

impl AsyncRead for Shared<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Shared<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket::shutdown_write(self.0))
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
