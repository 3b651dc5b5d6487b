//! One tunnel: bytes in and out through memory. [`super::carry`] is the way around it.

use super::{
    entry::{Remote, Stream, remember},
    error::Code,
    link::{Link, State},
};
use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::ReadBuf;

/// A stream that somebody holds; dropping it before both directions have ended resets it.
pub(crate) struct OwnStream {
    pub(super) link: Arc<Link>,
    pub(super) id: u32,
}

impl std::fmt::Debug for OwnStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnStream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for OwnStream {
    fn drop(&mut self) {
        self.link.lock().drop_stream(self.id);
    }
}

/// What reading comes to when nothing is pending: the end, a failure, or waiting.
pub(super) fn reading(state: &State, stream: &Stream) -> Poll<io::Result<()>> {
    match stream.remote {
        Remote::Ended | Remote::Reset(Code::NO_ERROR | Code::CANCEL) => Poll::Ready(Ok(())),
        Remote::Reset(Code::STREAM_CLOSED) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        Remote::Reset(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        Remote::Open => match &state.ended {
            Some(ended) => Poll::Ready(Err(ended.as_io())),
            None => Poll::Pending,
        },
    }
}

/// Whether nothing more can be written, and why.
pub(super) fn writing(state: &State, stream: &Stream) -> io::Result<()> {
    match stream.stopped {
        Some(Code::NO_ERROR | Code::CANCEL | Code::STREAM_CLOSED) => return Err(io::ErrorKind::BrokenPipe.into()),
        Some(_) => return Err(io::ErrorKind::ConnectionReset.into()),
        None => {}
    }
    if stream.local_ended {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    state.ended.as_ref().map_or(Ok(()), |ended| Err(ended.as_io()))
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl OwnStream {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn poll_read(&self, cx: &Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.link.lock();
        let Some(stream) = state.streams.get_mut(&self.id) else { return Poll::Ready(Err(gone())) };
        if !stream.pending.is_empty() {
            let before = buffer.remaining();
            while !stream.pending.is_empty() && buffer.remaining() > 0 {
                let front = stream.pending.front();
                let part = front.len().min(buffer.remaining());
                buffer.put_slice(&front[..part]);
                stream.pending.consume(part);
            }
            let read = before - buffer.remaining();
            state.release(self.id, read);
            return Poll::Ready(Ok(()));
        }
        remember(&mut stream.reader, cx);
        let Some(stream) = state.streams.get(&self.id) else { return Poll::Ready(Err(gone())) };
        reading(&state, stream)
    }

    pub(crate) fn poll_write(&self, cx: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.link.lock();
        let Some(stream) = state.streams.get_mut(&self.id) else { return Poll::Ready(Err(gone())) };
        remember(&mut stream.writer, cx);
        let Some(stream) = state.streams.get(&self.id) else { return Poll::Ready(Err(gone())) };
        writing(&state, stream)?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = state.room(self.id);
        if room == 0 {
            return Poll::Pending;
        }
        let taken = state.output.data(self.id, &data[..data.len().min(room)]);
        state.sent(self.id, taken);
        Poll::Ready(Ok(taken))
    }

    pub(crate) fn shutdown(&self) {
        self.link.lock().end_stream(self.id);
    }

    pub(crate) fn reset(&self) {
        self.link.lock().reset_stream(self.id, Code::CONNECT_ERROR);
    }
}
