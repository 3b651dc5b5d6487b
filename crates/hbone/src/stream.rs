//! One connection within a tunnel, as a byte stream whose two directions end on their own (ztunnel.md §4.5).

use crate::{
    own::{OwnStream, Progress},
    reference::ReferenceStream,
};
use std::{
    any::Any,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A CONNECT stream that was answered with 200. Dropping it before both directions have ended resets it.
pub struct TunnelStream {
    inner: Inner,
    /// Kept as long as the stream: its place in the connection that carries it.
    _place: Option<Box<dyn Any + Send + Sync>>,
}

enum Inner {
    Own(OwnStream),
    Reference(ReferenceStream),
}

/// The two ends of a relay between a tunnel and a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The tunnel.
    Tunnel,
    /// The socket.
    Socket,
}

/// Why a relay ended early.
#[derive(Debug, thiserror::Error)]
#[error("{end:?} failed while {}: {source}", if *.reading { "reading" } else { "writing" })]
pub struct CarryError {
    /// The end that failed.
    pub end: End,
    /// Whether it failed while being read.
    pub reading: bool,
    /// What it said.
    pub source: io::Error,
}

impl std::fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = match &self.inner {
            Inner::Own(stream) => stream.id(),
            Inner::Reference(stream) => stream.id(),
        };
        f.debug_struct("TunnelStream").field("id", &id).finish_non_exhaustive()
    }
}

impl TunnelStream {
    pub(crate) fn own(stream: OwnStream) -> Self {
        Self { inner: Inner::Own(stream), _place: None }
    }

    pub(crate) fn reference(stream: ReferenceStream) -> Self {
        Self { inner: Inner::Reference(stream), _place: None }
    }

    pub(crate) fn with_place(mut self, place: impl Any + Send + Sync) -> Self {
        self._place = Some(Box::new(place));
        self
    }

    /// Ends the stream at once with RST_STREAM: the other end learns that the connection was reset, not closed.
    pub fn reset(&mut self) {
        match &mut self.inner {
            Inner::Own(stream) => stream.reset(),
            Inner::Reference(stream) => stream.reset(),
        }
    }

    /// Moves bytes between the tunnel and a socket until both directions have ended, past all buffers; `None`, with nothing
    /// done, if this tunnel's framing cannot do that.
    pub async fn carry(
        &mut self,
        socket: &Arc<TcpStream>,
        progress: &Arc<dyn Progress>,
    ) -> Option<Result<(), CarryError>> {
        match &self.inner {
            Inner::Own(stream) => Some(stream.carry(socket, progress).await),
            Inner::Reference(_) => None,
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Own(stream) => stream.poll_read(cx, buf),
            Inner::Reference(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Own(stream) => stream.poll_write(cx, buf),
            Inner::Reference(stream) => stream.poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes what was handed over.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Own(stream) => {
                stream.shutdown();
                Poll::Ready(Ok(()))
            }
            Inner::Reference(stream) => stream.poll_shutdown(),
        }
    }
}
