//! Room for one record, taken from a pool of the thread only while bytes are in flight.

use identity::tls::record::{HEADER, MAX_PLAINTEXT, TRAILER};
use std::{cell::RefCell, fmt, ops::Range};

const SIZE: usize = HEADER + MAX_PLAINTEXT + TRAILER;
/// Records that a thread keeps for later: two megabytes and a bit less.
const KEPT: usize = 128;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A record in the making: `header | plaintext | trailer`, the plaintext filled up to `end`.
pub(super) struct Slab {
    bytes: Box<[u8]>,
    end: usize,
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slab({} bytes)", self.end - HEADER)
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // The pool is gone while the thread ends.
        let _kept = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(bytes);
            }
        });
    }
}

impl Slab {
    pub(super) fn take() -> Self {
        let kept = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        Self { bytes: kept.unwrap_or_else(|| vec![0; SIZE].into()), end: HEADER }
    }

    /// Plaintext that still fits in.
    pub(super) fn room(&self) -> usize {
        HEADER + MAX_PLAINTEXT - self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == HEADER
    }

    /// Appends what fits.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// The free part, from `skip` bytes after the end.
    pub(super) fn free(&mut self, skip: usize) -> &mut [u8] {
        &mut self.bytes[self.end + skip..HEADER + MAX_PLAINTEXT]
    }

    /// Counts bytes that were put into [`free`](Self::free).
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// The whole record, for its sealing.
    pub(super) fn record(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.end + TRAILER]
    }

    /// Where the record lies once it is sealed.
    pub(super) fn sealed(&self) -> Range<usize> {
        0..self.end + TRAILER
    }

    /// Where the plaintext lies.
    pub(super) fn plain(&self) -> Range<usize> {
        HEADER..self.end
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}
