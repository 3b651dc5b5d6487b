//! The byte relay between two streams, in both directions at once, with half-close: the end of one side's sending is
//! passed on as such while the other side may go on. A reset is not an end: it comes back as an error that names the
//! side, so that the caller can reset the other side too. Buffers start small and grow with the traffic.

mod sockets;

pub use sockets::relay_sockets;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Sizes a buffer grows through: most connections never need more than the first.
const SIZES: [usize; 3] = [1024, 16 * 1024, 256 * 1024];

/// Full reads in a row before a buffer grows.
const FULL_READS: u8 = 4;

/// Silence after which a grown buffer is given back.
const IDLE: Duration = Duration::from_secs(1);

/// Bytes moved so far, readable while the relay runs.
#[derive(Debug, Default)]
pub struct Counters {
    /// From the first stream to the second.
    pub forward: AtomicU64,
    /// From the second stream to the first.
    pub backward: AtomicU64,
    /// One direction has ended and the other goes on.
    pub half_closed: AtomicBool,
}

/// Told of bytes as they pass between two sockets.
pub trait Moved {
    /// From the first to the second.
    fn forward(&self, bytes: u64);
    /// From the second to the first.
    fn backward(&self, bytes: u64);
    /// One direction has ended and the other goes on.
    fn half_closed(&self);
}

impl Moved for Counters {
    fn forward(&self, bytes: u64) {
        self.forward.fetch_add(bytes, Ordering::Relaxed);
    }

    fn backward(&self, bytes: u64) {
        self.backward.fetch_add(bytes, Ordering::Relaxed);
    }

    fn half_closed(&self) {
        self.half_closed.store(true, Ordering::Relaxed);
    }
}

impl Moved for [&Counters; 2] {
    fn forward(&self, bytes: u64) {
        self.iter().for_each(|counters| counters.forward(bytes));
    }

    fn backward(&self, bytes: u64) {
        self.iter().for_each(|counters| counters.backward(bytes));
    }

    fn half_closed(&self) {
        self.iter().for_each(|counters| counters.half_closed());
    }
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first one.
    First,
    /// The second one.
    Second,
}

/// Why a relay ended early.
#[derive(Debug, thiserror::Error)]
#[error("{side:?} stream failed while {}: {source}", if *.reading { "reading" } else { "writing" })]
pub struct Failure {
    /// The stream that failed.
    pub side: Side,
    /// Whether it failed while being read.
    pub reading: bool,
    /// What it said.
    pub source: io::Error,
}

/// Moves bytes both ways until both directions have ended, or one stream fails.
pub async fn relay<A, B>(first: &mut A, second: &mut B, counters: &Counters) -> Result<(), Failure>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut forward = pin!(Direction::new(&counters.forward, Side::First, Side::Second));
    let mut backward = pin!(Direction::new(&counters.backward, Side::Second, Side::First));
    poll_fn(|cx| {
        let there = forward.as_mut().poll(cx, Pin::new(&mut *first), Pin::new(&mut *second))?;
        let back = backward.as_mut().poll(cx, Pin::new(&mut *second), Pin::new(&mut *first))?;
        if there.is_ready() && back.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if there.is_ready() || back.is_ready() {
            counters.half_closed.store(true, Ordering::Relaxed);
        }
        Poll::Pending
    })
    .await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Moving,
    Ending,
    Ended,
}

/// One direction: bytes `start..end` of the buffer are read and not yet written.
struct Direction<'a> {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    size: usize,
    full_reads: u8,
    unflushed: bool,
    stage: Stage,
    idle: Option<Pin<Box<Sleep>>>,
    counter: &'a AtomicU64,
    from: Side,
    to: Side,
}

impl<'a> Direction<'a> {
    fn new(counter: &'a AtomicU64, from: Side, to: Side) -> Self {
        Self {
            buffer: Box::default(),
            start: 0,
            end: 0,
            size: 0,
            full_reads: 0,
            unflushed: false,
            stage: Stage::Moving,
            idle: None,
            counter,
            from,
            to,
        }
    }

    fn poll<R, W>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        let this = &mut *self;
        loop {
            match this.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(writer.as_mut().poll_shutdown(cx)).map_err(|error| this.write_failed(error))?;
                    this.stage = Stage::Ended;
                }
                Stage::Moving if this.start < this.end => ready!(this.write(cx, writer.as_mut()))?,
                Stage::Moving => match this.read(cx, reader.as_mut()) {
                    Poll::Ready(read) => read?,
                    Poll::Pending => {
                        this.flush(cx, writer.as_mut())?;
                        this.rest(cx);
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn read<R: AsyncRead>(&mut self, cx: &mut Context<'_>, reader: Pin<&mut R>) -> Poll<Result<(), Failure>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; SIZES[self.size]].into();
        }
        let mut space = ReadBuf::new(&mut self.buffer);
        let side = self.from;
        ready!(reader.poll_read(cx, &mut space)).map_err(|source| Failure { side, reading: true, source })?;
        let read = space.filled().len();
        self.idle = None;
        (self.start, self.end) = (0, read);
        if read == 0 {
            self.stage = Stage::Ending;
            self.buffer = Box::default();
        } else {
            self.counter.fetch_add(read as u64, Ordering::Relaxed);
            self.note_fill(read);
        }
        Poll::Ready(Ok(()))
    }

    /// Decides the size of the next buffer by how full this one came.
    fn note_fill(&mut self, read: usize) {
        self.full_reads = if read == self.buffer.len() { self.full_reads + 1 } else { 0 };
        if self.full_reads >= FULL_READS && self.size + 1 < SIZES.len() {
            self.size += 1;
            self.full_reads = 0;
        }
    }

    fn write<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, writer: Pin<&mut W>) -> Poll<Result<(), Failure>> {
        let written = ready!(writer.poll_write(cx, &self.buffer[self.start..self.end]));
        let written = written.and_then(|n| if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) });
        self.start += written.map_err(|error| self.write_failed(error))?;
        self.unflushed = true;
        if self.start == self.end && self.buffer.len() != SIZES[self.size] {
            self.buffer = Box::default();
        }
        Poll::Ready(Ok(()))
    }

    fn flush<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, writer: Pin<&mut W>) -> Result<(), Failure> {
        if self.unflushed
            && let Poll::Ready(flushed) = writer.poll_flush(cx)
        {
            flushed.map_err(|error| self.write_failed(error))?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Gives a grown buffer back once nothing has come for a while.
    fn rest(&mut self, cx: &mut Context<'_>) {
        if self.size == 0 {
            return;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(IDLE)));
        if idle.as_mut().poll(cx).is_ready() {
            self.size = 0;
            self.full_reads = 0;
            self.buffer = Box::default();
            self.idle = None;
        }
    }

    fn write_failed(&self, source: io::Error) -> Failure {
        Failure { side: self.to, reading: false, source }
    }
}
