//! Data of one stream that have arrived and not been taken: no more memory than bytes, however small they came.

use std::{collections::VecDeque, io::IoSlice};

/// Room that small pieces share.
const SHARED: usize = 16 << 10;
/// Room that the first piece gets at least.
const FIRST: usize = 512;

/// The data.
#[derive(Debug, Default)]
pub(super) struct Pending {
    chunks: VecDeque<Vec<u8>>,
    /// Taken of the first chunk.
    taken: usize,
    length: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a copy.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        if let Some(last) = self.chunks.back_mut() {
            let (fits, rest) = bytes.split_at(bytes.len().min(last.capacity() - last.len()));
            last.extend_from_slice(fits);
            bytes = rest;
        }
        if !bytes.is_empty() {
            let least = if self.chunks.is_empty() { FIRST } else { SHARED };
            let mut chunk = Vec::with_capacity(bytes.len().max(least));
            chunk.extend_from_slice(bytes);
            self.chunks.push_back(chunk);
        }
    }

    /// The front, in up to as many pieces as there is place for; gives their number.
    pub(super) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.taken;
        let mut count = 0;
        for (slot, chunk) in out.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(&chunk[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// The first piece.
    pub(super) fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| &chunk[self.taken..])
    }

    /// Takes bytes from the front.
    pub(super) fn consume(&mut self, mut bytes: usize) {
        self.length -= bytes;
        while let Some(first) = self.chunks.front() {
            let left = first.len() - self.taken;
            if bytes < left {
                self.taken += bytes;
                return;
            }
            bytes -= left;
            self.taken = 0;
            self.chunks.pop_front();
        }
        self.chunks = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_costs_little() {
        let mut pending = Pending::default();
        let mut expected = Vec::new();
        for n in 0..40_000_u32 {
            let bytes = n.to_be_bytes();
            let part = &bytes[3 - (n as usize % 3)..];
            pending.push(part);
            expected.extend_from_slice(part);
        }
        let held: usize = pending.chunks.iter().map(Vec::capacity).sum();
        assert!(held < expected.len() + 2 * SHARED, "{held} for {}", expected.len());
        let mut got = Vec::new();
        for step in [1, 100, 17_000, 5].into_iter().cycle() {
            let front = pending.front();
            let part = front.len().min(step);
            got.extend_from_slice(&front[..part]);
            pending.consume(part);
            if pending.is_empty() {
                break;
            }
        }
        assert_eq!(got, expected);
        assert_eq!(pending.chunks.capacity(), 0);
    }
}
