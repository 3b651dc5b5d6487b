//! One tunnel as a stream of the `h2` crate.

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use std::{
    io,
    task::{Context, Poll, ready},
};
use tokio::io::ReadBuf;

/// A stream; the `h2` crate resets it when it is dropped before both directions have ended.
pub(crate) struct ReferenceStream {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Received and not yet read.
    unread: Bytes,
    ended: bool,
}

impl ReferenceStream {
    pub(crate) fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv, unread: Bytes::new(), ended: false }
    }

    pub(crate) fn id(&self) -> u32 {
        self.send.stream_id().as_u32()
    }

    /// Ends the stream at once with RST_STREAM: the other end learns that the connection was reset, not closed.
    pub(crate) fn reset(&mut self) {
        self.ended = true;
        self.send.send_reset(Reason::CONNECT_ERROR);
    }

    /// The next bytes as they arrived, without a copy; empty at the end.
    fn poll_read_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if !self.unread.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.unread)));
        }
        loop {
            match ready!(self.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(Bytes::new())),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // Handed on at once: the window opens again while the bytes are being written.
                    self.recv.flow_control().release_capacity(data.len()).map_err(io_error)?;
                    return Poll::Ready(Ok(data));
                }
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        Some(Reason::NO_ERROR | Reason::CANCEL) => Ok(Bytes::new()),
                        Some(Reason::STREAM_CLOSED) => Err(io::ErrorKind::BrokenPipe.into()),
                        Some(_) if error.is_reset() => Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
                        _ => Err(io_error(error)),
                    });
                }
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted);
        loop {
            let room = self.send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(room)) => return Poll::Ready(Ok(room)),
                Some(Err(error)) => return Poll::Ready(Err(write_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut data = ready!(self.poll_read_bytes(cx))?;
        let length = data.len().min(buf.remaining());
        buf.put_slice(&data[..length]);
        data.advance(length);
        self.unread = data;
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, buf.len()))?.min(buf.len());
        self.send.send_data(Bytes::copy_from_slice(&buf[..room]), false).map_err(write_error)?;
        Poll::Ready(Ok(room))
    }

    pub(crate) fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.send.reserve_capacity(0);
            match self.send.send_data(Bytes::new(), true).map_err(write_error) {
                // The other end has gone already: there is nobody left to tell.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                other => other?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Writing to a stream that the other end has ended or reset.
fn write_error(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(Reason::NO_ERROR | Reason::CANCEL | Reason::STREAM_CLOSED) => io::ErrorKind::BrokenPipe.into(),
        Some(_) if error.is_reset() => io::Error::new(io::ErrorKind::ConnectionReset, error),
        _ if error.is_library() || error.is_io() => io_error(error),
        // "inactive stream": it was closed under us.
        _ => io::ErrorKind::BrokenPipe.into(),
    }
}

fn io_error(error: h2::Error) -> io::Error {
    match error.get_io() {
        Some(inner) => io::Error::new(inner.kind(), inner.to_string()),
        None => io::Error::other(error),
    }
}
