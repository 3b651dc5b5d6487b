//! What is kept of one stream for as long as somebody holds it.

use super::{error::Code, pending::Pending};
use http::HeaderMap;
use std::{
    hash::Hasher,
    sync::Arc,
    task::{Context, Waker},
};
use tokio::net::TcpStream;

/// Told of bytes as they pass.
pub trait Progress: Send + Sync {
    /// Bytes went from the socket into the tunnel.
    fn to_tunnel(&self, bytes: u64);
    /// Bytes came from the tunnel and went to the socket.
    fn to_socket(&self, bytes: u64);
    /// One direction has ended and the other goes on.
    fn half_closed(&self);
}

/// Where a stream's data go without a detour.
pub(super) struct Sink {
    pub socket: Arc<TcpStream>,
    pub progress: Arc<dyn Progress>,
}

/// What the peer's direction of a stream has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    Open,
    Ended,
    Reset(Code),
}

/// What a client's request has come to.
#[derive(Debug)]
pub(super) enum Answer {
    Waiting,
    Given(u16, HeaderMap),
    /// The peer never looked at it.
    Unhandled,
}

/// How a stream went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goner {
    /// In order, or by the peer.
    Ended,
    /// We ended it, and the peer may not know yet.
    EndedByUs,
}

/// One stream.
pub(super) struct Stream {
    pub send_window: i64,
    /// What the peer may still send.
    pub receive_window: i64,
    /// Handed on, and not yet given back to the peer's window.
    pub released: i64,
    pub pending: Pending,
    pub sink: Option<Box<Sink>>,
    /// The sink failed, so that the relay has to say so.
    pub sink_failed: Option<std::io::ErrorKind>,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
    pub remote: Remote,
    pub local_ended: bool,
    /// The peer ended the stream at once, in both directions.
    pub stopped: Option<Code>,
    /// Among those that wait for the connection's window or for room.
    pub waits: bool,
    /// Counted as open.
    pub counted: bool,
    pub answer: Answer,
}

impl Stream {
    pub(super) fn is_closed(&self) -> bool {
        let reset = self.stopped.is_some() || matches!(self.remote, Remote::Reset(_));
        reset || (self.local_ended && self.remote == Remote::Ended)
    }

    pub(super) fn wake(&mut self) {
        self.wake_reader();
        self.wake_writer();
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// Remembers whom to wake.
pub(super) fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

/// Stream ids are small and dense: mixing them is enough.
#[derive(Debug, Default, Clone)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
