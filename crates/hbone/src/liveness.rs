//! Whether the peer is still there: any byte from it says so, and a PING is sent only after it has been silent.
//!
//! A PING that waits behind a full window must not end a busy tunnel, so only silence counts (ztunnel.md §4.4).

use h2::{Ping, PingPong};
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Silence after which a PING is sent.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// Silence after that PING which ends the connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// When something last arrived, in milliseconds since `start`.
#[derive(Debug, Clone)]
pub(crate) struct LastRead {
    start: Instant,
    at: Arc<AtomicU64>,
}

impl LastRead {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), at: Arc::new(AtomicU64::new(0)) }
    }

    fn note(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at.store(elapsed, Ordering::Relaxed);
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.at.load(Ordering::Relaxed))
    }
}

/// A byte stream that notes when something arrives.
#[derive(Debug)]
pub(crate) struct Noted<IO> {
    io: IO,
    last_read: LastRead,
}

impl<IO> Noted<IO> {
    pub(crate) fn new(io: IO, last_read: LastRead) -> Self {
        Self { io, last_read }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Noted<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.last_read.note();
        }
        outcome
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Noted<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Returns when the peer has been silent for too long; never while it speaks.
pub(crate) async fn watch(mut pings: PingPong, last_read: LastRead) {
    loop {
        let due = last_read.instant() + INTERVAL;
        tokio::time::sleep_until(due).await;
        if last_read.instant() + INTERVAL > due {
            continue;
        }
        if pings.send_ping(Ping::opaque()).is_err() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        tokio::select! {
            pong = poll_fn(|cx| pings.poll_pong(cx)) => if pong.is_err() { return },
            () = tokio::time::sleep_until(deadline) => {
                if last_read.instant() <= due {
                    return;
                }
                // It spoke, though not by a pong, which may still come: it must be taken before the next ping.
                if poll_fn(|cx| pings.poll_pong(cx)).await.is_err() {
                    return;
                }
            }
        }
    }
}
