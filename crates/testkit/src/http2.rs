//! HTTP/2 by the byte, for tests that must write what no library writes: frames and header blocks, right and wrong.
//!
//! [`Frame`] is any frame, [`hpack`] writes and reads header blocks, [`Peer`] is a client over a byte stream that reads by frames,
//! [`cases`] is a table of what a server of tunnels must do with what it is sent, by clause of RFC 9113 and RFC 7541, and
//! [`suite`] holds a server against it. Nothing here checks what it writes.

pub mod cases;
pub mod hpack;
mod huffman;
mod peer;
pub mod suite;

pub use peer::{Event, Peer};

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 §6).
pub mod kind {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes (RFC 9113 §7).
pub mod code {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// Identifiers of settings (RFC 9113 §6.5.2).
pub mod setting {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// One frame, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream, with the reserved bit.
    pub stream: u32,
    /// What follows the head.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Any frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// DATA without padding.
    pub fn data(stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::DATA, 0, stream, payload)
    }

    /// HEADERS with a whole block.
    pub fn headers(stream: u32, block: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS, stream, block)
    }

    /// SETTINGS.
    pub fn settings(values: &[(u16, u32)]) -> Self {
        let payload: Vec<u8> =
            values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        Self::new(kind::SETTINGS, 0, 0, payload)
    }

    /// The answer to SETTINGS.
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    /// PING.
    pub fn ping(opaque: [u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, opaque)
    }

    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// WINDOW_UPDATE.
    pub fn window(stream: u32, increment: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
    }

    /// GOAWAY.
    pub fn goaway(last: u32, code: u32) -> Self {
        Self::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// PRIORITY.
    pub fn priority(stream: u32, dependency: u32) -> Self {
        Self::new(kind::PRIORITY, 0, stream, [&dependency.to_be_bytes()[..], &[15]].concat())
    }

    /// CONTINUATION; `last` ends the block.
    pub fn continuation(stream: u32, block: impl Into<Vec<u8>>, last: bool) -> Self {
        Self::new(kind::CONTINUATION, if last { flag::END_HEADERS } else { 0 }, stream, block)
    }

    /// The same with other flags.
    pub fn with_flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// As it travels.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = head(self.payload.len(), self.kind, self.flags, self.stream);
        bytes.extend(&self.payload);
        bytes
    }

    /// Takes the first whole frame off `buffer`.
    pub fn take(buffer: &mut Vec<u8>) -> Option<Self> {
        let head: [u8; 9] = buffer.get(..9)?.try_into().ok()?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).ok()?;
        let payload = buffer.get(9..9 + length)?.to_vec();
        buffer.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Self { kind: head[3], flags: head[4], stream, payload })
    }

    /// The number that RST_STREAM and GOAWAY give as their reason.
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        self.payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The head of a frame that claims a length.
pub fn head(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat()
}

/// Frames one after the other.
pub fn bytes(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_half_of_one_waits() {
        let frames = [Frame::ping(*b"12345678"), Frame::settings(&[(4, 1 << 20)]), Frame::data(1, b"abc")];
        let mut buffer = bytes(&frames);
        buffer.extend(&Frame::reset(1, code::CANCEL).bytes()[..12]);
        let read: Vec<_> = std::iter::from_fn(|| Frame::take(&mut buffer)).collect();
        assert_eq!(read, frames);
        assert_eq!(buffer.len(), 12);
    }
}
