//! What waits to be sent, in the order in which it leaves: frames packed into records, sealed only when the socket takes them.
//!
//! Urgent frames (settings, acknowledgements, windows, headers) go before queued ones; DATA and what ends a stream stay in
//! their order. Several records leave in one write.

use super::{
    error::Ended,
    frame::{self, HEAD, Head, flag, kind},
    slab::Slab,
};
use crate::carrier::Duplex;
use identity::tls::record::{MAX_PLAINTEXT, Records};
use std::{
    collections::VecDeque,
    io::{IoSlice, IoSliceMut},
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Data in one record when a frame fills it.
pub(super) const FULL: usize = MAX_PLAINTEXT - HEAD;
/// Records in one write.
pub(super) const BATCH: usize = 16;
/// Small data joins a record that has room; larger data begins one of its own.
const SHARED: usize = 1024;
/// Records that may wait; who has more waits itself.
const MAX_WAITING: usize = 24;
/// Urgent bytes that may wait before nothing more is read.
const MAX_URGENT: usize = 64 << 10;

/// The sending half of one connection.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Frames that go first.
    pub urgent: Vec<u8>,
    /// Frames in their order; the last record may have room.
    queue: VecDeque<Slab>,
    /// Ready for the socket.
    wire: VecDeque<(Slab, Range<usize>)>,
    unflushed: bool,
}

impl Output {
    /// Whether senders have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() + self.wire.len() >= MAX_WAITING
    }

    /// Whether the peer takes none of our answers: then nothing more is asked of it.
    pub(super) fn is_clogged(&self) -> bool {
        self.urgent.len() > MAX_URGENT
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.queue.is_empty() && self.wire.is_empty() && !self.unflushed
    }

    /// Queues a small frame behind everything that is queued.
    pub(super) fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let head = Head { length: payload.len(), kind, flags, stream }.bytes();
        let tail = self.tail(HEAD + payload.len());
        tail.append(&head);
        tail.append(payload);
    }

    /// Queues DATA; gives how much of it was taken.
    pub(super) fn data(&mut self, stream: u32, data: &[u8]) -> usize {
        let mut left = data;
        while !left.is_empty() && !self.is_full() {
            let tail = self.tail(HEAD + left.len().min(SHARED));
            let (part, rest) = left.split_at(left.len().min(tail.room() - HEAD));
            tail.append(&Head { length: part.len(), kind: kind::DATA, flags: 0, stream }.bytes());
            tail.append(part);
            left = rest;
        }
        data.len() - left.len()
    }

    /// The last record if that much fits in, or a new one.
    fn tail(&mut self, wanted: usize) -> &mut Slab {
        if self.queue.back().is_none_or(|slab| slab.room() < wanted) {
            self.queue.push_back(Slab::take());
        }
        let last = self.queue.len() - 1;
        &mut self.queue[last]
    }

    /// Lets `read` fill up to `records` records with at most `limit` bytes of DATA; gives how much and whether it was all
    /// that was offered.
    pub(super) fn fill<E>(
        &mut self,
        stream: u32,
        limit: usize,
        records: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
    ) -> Result<(usize, bool), E> {
        let mut slabs: [Option<Slab>; BATCH] = [const { None }; BATCH];
        // A small message shares the record of those before it.
        if records == 1 && self.queue.back().is_some_and(|slab| slab.room() >= FULL / 2) {
            slabs[0] = self.queue.pop_back();
        }
        let mut offered = 0;
        let mut count = 0;
        for slab in slabs.iter_mut().take(records.clamp(1, BATCH)) {
            if offered >= limit {
                break;
            }
            let slab = slab.get_or_insert_with(Slab::take);
            offered += (slab.room() - HEAD).min(limit - offered);
            count += 1;
        }
        let mut left = limit;
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (slice, slab) in slices.iter_mut().zip(slabs.iter_mut().flatten()) {
            let free = slab.free(HEAD);
            let length = free.len().min(left);
            left -= length;
            *slice = IoSliceMut::new(&mut free[..length]);
        }
        let outcome = read(&mut slices[..count]);
        let read = *outcome.as_ref().unwrap_or(&0);
        self.keep(stream, slabs, read, limit);
        outcome.map(|read| (read, read == offered))
    }

    /// Queues what was read into records.
    fn keep(&mut self, stream: u32, slabs: [Option<Slab>; BATCH], read: usize, limit: usize) {
        let (mut left, mut allowed) = (read, limit);
        for mut slab in slabs.into_iter().flatten() {
            let length = (slab.room() - HEAD).min(allowed).min(left);
            allowed -= length;
            left -= length;
            if length > 0 {
                slab.append(&Head { length, kind: kind::DATA, flags: 0, stream }.bytes());
                slab.filled(length);
            }
            if !slab.is_empty() {
                self.queue.push_back(slab);
            }
        }
    }

    /// Ends our direction of a stream.
    pub(super) fn end(&mut self, stream: u32) {
        self.push(kind::DATA, flag::END_STREAM, stream, &[]);
    }

    /// Writes an urgent frame.
    pub(super) fn urgent(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        frame::write(&mut self.urgent, kind, flags, stream, payload);
    }

    /// Sends until nothing waits, or the socket takes no more.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut dyn Duplex,
        mut records: Option<&mut Records>,
    ) -> Poll<Result<(), Ended>> {
        loop {
            self.seal(records.as_deref_mut())?;
            if self.wire.is_empty() {
                if self.unflushed {
                    ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(io_ended)?;
                    self.unflushed = false;
                }
                return Poll::Ready(Ok(()));
            }
            let mut slices = [IoSlice::new(&[]); BATCH];
            for (slice, (slab, range)) in slices.iter_mut().zip(&self.wire) {
                *slice = IoSlice::new(slab.bytes(range.clone()));
            }
            let count = self.wire.len().min(BATCH);
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..count])).map_err(io_ended)?;
            if written == 0 {
                return Poll::Ready(Err(io_ended(std::io::ErrorKind::WriteZero.into())));
            }
            self.unflushed = true;
            self.advance(written);
        }
    }

    /// Prepares as many records as go into one write.
    fn seal(&mut self, mut records: Option<&mut Records>) -> Result<(), Ended> {
        while self.wire.len() < BATCH {
            if let Some(update) = records.as_deref_mut().map(Records::key_update).transpose()?.flatten() {
                let mut slab = Slab::take();
                slab.append(&update);
                let range = slab.plain();
                self.wire.push_back((slab, range));
            }
            let Some(mut slab) = self.next() else { break };
            let range = match &mut records {
                Some(records) => {
                    records.seal(slab.record())?;
                    slab.sealed()
                }
                None => slab.plain(),
            };
            self.wire.push_back((slab, range));
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Slab> {
        if self.urgent.is_empty() {
            return self.queue.pop_front();
        }
        let mut slab = Slab::take();
        let length = self.urgent.len().min(slab.room());
        slab.append(&self.urgent[..length]);
        self.urgent.drain(..length);
        if self.urgent.is_empty() && self.urgent.capacity() > 1024 {
            self.urgent = Vec::new();
        }
        // What is small and next shares the record.
        if self.urgent.is_empty()
            && let Some(next) = self.queue.front()
            && next.plain().len() <= slab.room().min(SHARED)
        {
            slab.append(next.bytes(next.plain()));
            self.queue.pop_front();
        }
        Some(slab)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some((_, range)) = self.wire.front_mut() {
            let length = range.len();
            if written < length {
                range.start += written;
                return;
            }
            written -= length;
            self.wire.pop_front();
        }
    }
}

fn io_ended(error: std::io::Error) -> Ended {
    Ended::Io(Arc::new(error))
}
