//! Hands arrived data on: straight into the stream's socket where there is one and nothing waits, else into memory.

use super::{entry::Remote, link::State};
use std::io::{ErrorKind, IoSlice};

/// Pieces in one write.
const PIECES: usize = 64;

/// Data of one stream that lie in the receive buffer.
pub(super) struct Delivery<'a> {
    stream: u32,
    pieces: [IoSlice<'a>; PIECES],
    count: usize,
    bytes: usize,
}

impl<'a> Delivery<'a> {
    pub(super) fn new() -> Self {
        Self { stream: 0, pieces: [IoSlice::new(&[]); PIECES], count: 0, bytes: 0 }
    }

    /// Takes a piece; what is of another stream goes first.
    pub(super) fn push(&mut self, state: &mut State, stream: u32, data: &'a [u8]) {
        if stream != self.stream || self.count == PIECES {
            self.flush(state);
            self.stream = stream;
        }
        self.pieces[self.count] = IoSlice::new(data);
        self.count += 1;
        self.bytes += data.len();
    }

    /// Hands everything on.
    pub(super) fn flush(&mut self, state: &mut State) {
        let (id, bytes) = (self.stream, std::mem::take(&mut self.bytes));
        let pieces = &self.pieces[..std::mem::take(&mut self.count)];
        if pieces.is_empty() {
            return;
        }
        let Some(stream) = state.streams.get_mut(&id).filter(|stream| stream.remote == Remote::Open) else {
            return state.release_connection(i64::try_from(bytes).unwrap_or(0));
        };
        let mut written = 0;
        if stream.pending.is_empty()
            && let Some(sink) = &stream.sink
        {
            match sink.socket.try_write_vectored(pieces) {
                Ok(count) => {
                    written = count;
                    sink.progress.to_socket(count as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => stream.sink_failed = Some(error.kind()),
            }
        }
        if written < bytes {
            let mut skip = written;
            for piece in pieces {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                if skipped < piece.len() {
                    stream.pending.push(&piece[skipped..]);
                }
            }
            stream.wake_reader();
        }
        if written > 0 {
            state.release(id, written);
        }
    }
}
