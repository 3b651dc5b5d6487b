//! Frames (RFC 9113 §4, §6): their nine bytes of head, and cutting a byte stream into them.
//!
//! DATA is handed on piece by piece as it arrives, everything else as a whole frame. What a frame means is not known here.

use super::error::{Code, Fault};

/// What a client says first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Frames other than DATA are gathered whole; none that we allow needs more.
const MAX_GATHERED: usize = 32 << 10;

/// Types of frames.
pub(super) mod kind {
    pub(in crate::own) const DATA: u8 = 0;
    pub(in crate::own) const HEADERS: u8 = 1;
    pub(in crate::own) const PRIORITY: u8 = 2;
    pub(in crate::own) const RST_STREAM: u8 = 3;
    pub(in crate::own) const SETTINGS: u8 = 4;
    pub(in crate::own) const PUSH_PROMISE: u8 = 5;
    pub(in crate::own) const PING: u8 = 6;
    pub(in crate::own) const GOAWAY: u8 = 7;
    pub(in crate::own) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::own) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    pub(in crate::own) const ACK: u8 = 1;
    pub(in crate::own) const END_STREAM: u8 = 1;
    pub(in crate::own) const END_HEADERS: u8 = 4;
    pub(in crate::own) const PADDED: u8 = 8;
    pub(in crate::own) const PRIORITY: u8 = 0x20;
}

/// Settings' identifiers.
pub(super) mod setting {
    pub(in crate::own) const ENABLE_PUSH: u16 = 2;
    pub(in crate::own) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in crate::own) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::own) const MAX_FRAME_SIZE: u16 = 5;
    pub(in crate::own) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of payload.
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    fn parse([a, b, c, kind, flags, s, t, u, v]: [u8; HEAD]) -> Self {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Self { length, kind, flags, stream: u32::from_be_bytes([s & 0x7f, t, u, v]) }
    }

    /// As it is sent.
    pub(super) fn bytes(self) -> [u8; HEAD] {
        #[allow(clippy::cast_possible_truncation, reason = "no payload of ours comes near 2^24 bytes")]
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s, t, u, v] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s, t, u, v]
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a whole frame.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { length: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

/// What was cut out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a, 'b> {
    /// The head of a DATA frame: its whole length counts against the windows now.
    DataBegins(Head),
    /// Some of its data; `end` when the stream ends with them.
    Data { stream: u32, data: &'a [u8], end: bool },
    /// What was padding, and can be given back to the windows.
    Padding { stream: u32, bytes: usize },
    /// Any other frame.
    Frame(Head, &'b [u8]),
}

/// Where the reading of a DATA frame is.
#[derive(Debug, Clone, Copy)]
struct Data {
    stream: u32,
    /// The pad length has to be read first.
    padded: bool,
    /// Data still to come; with the padding, until its length is known.
    text: usize,
    padding: usize,
    /// The end of the stream is still to be told.
    end: bool,
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub(super) struct Splitter {
    /// What is left of the client's preface.
    preface: &'static [u8],
    max_frame: usize,
    head: [u8; HEAD],
    head_length: usize,
    frame: Option<Head>,
    data: Option<Data>,
    gathered: Vec<u8>,
}

impl Splitter {
    /// For frames of up to `max_frame` bytes; a server expects the preface first.
    pub(super) fn new(max_frame: usize, server: bool) -> Self {
        let preface: &'static [u8] = if server { PREFACE } else { &[] };
        let head = [0; HEAD];
        Self { preface, max_frame, head, head_length: 0, frame: None, data: None, gathered: Vec::new() }
    }

    /// Hands on everything that is complete in `bytes`.
    pub(super) fn feed<'a>(
        &mut self,
        mut bytes: &'a [u8],
        take: &mut impl FnMut(Piece<'a, '_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        bytes = self.preface(bytes)?;
        loop {
            if let Some(data) = self.data {
                let Some(rest) = self.data(data, bytes, take)? else { return Ok(()) };
                bytes = rest;
            } else if let Some(head) = self.frame {
                let Some(rest) = self.frame(head, bytes, take)? else { return Ok(()) };
                bytes = rest;
            } else {
                let taken = bytes.len().min(HEAD - self.head_length);
                self.head[self.head_length..self.head_length + taken].copy_from_slice(&bytes[..taken]);
                self.head_length += taken;
                bytes = &bytes[taken..];
                if self.head_length < HEAD {
                    return Ok(());
                }
                self.head_length = 0;
                self.begin(Head::parse(self.head), take)?;
            }
        }
    }

    fn preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let length = bytes.len().min(self.preface.len());
        let (expected, rest) = self.preface.split_at(length);
        if bytes[..length] != *expected {
            return Err(Fault::Connection(Code::PROTOCOL_ERROR, "the client's preface is not HTTP/2's"));
        }
        self.preface = rest;
        Ok(&bytes[length..])
    }

    fn begin<'a>(
        &mut self,
        head: Head,
        take: &mut impl FnMut(Piece<'a, '_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if head.length > self.max_frame {
            return Err(Fault::Connection(Code::FRAME_SIZE_ERROR, "a frame is longer than our settings allow"));
        }
        if head.kind == kind::DATA {
            take(Piece::DataBegins(head))?;
            let padded = head.has(flag::PADDED);
            // The pad length itself is one byte of the payload.
            let text = head.length.checked_sub(usize::from(padded));
            let short = Fault::Connection(Code::FRAME_SIZE_ERROR, "padded DATA without a pad length");
            let (text, end) = (text.ok_or(short)?, head.has(flag::END_STREAM));
            self.data = Some(Data { stream: head.stream, padded, text, padding: 0, end });
            return Ok(());
        }
        if head.length > MAX_GATHERED {
            return Err(Fault::Connection(Code::ENHANCE_YOUR_CALM, "a frame without data is too long"));
        }
        self.frame = Some(head);
        Ok(())
    }

    /// Goes on with a DATA frame; `None` when it needs more bytes.
    fn data<'a>(
        &mut self,
        mut data: Data,
        mut bytes: &'a [u8],
        take: &mut impl FnMut(Piece<'a, '_>) -> Result<(), Fault>,
    ) -> Result<Option<&'a [u8]>, Fault> {
        if data.padded {
            let Some((padding, rest)) = bytes.split_first() else { return Ok(None) };
            bytes = rest;
            data.padding = usize::from(*padding);
            let text = data.text.checked_sub(data.padding);
            let more = Fault::Connection(Code::PROTOCOL_ERROR, "DATA has more padding than payload");
            data.text = text.ok_or(more)?;
            data.padded = false;
            take(Piece::Padding { stream: data.stream, bytes: data.padding + 1 })?;
        }
        let (part, rest) = bytes.split_at(data.text.min(bytes.len()));
        data.text -= part.len();
        let end = data.end && data.text == 0;
        data.end &= !end;
        self.data = Some(data);
        if end || !part.is_empty() {
            take(Piece::Data { stream: data.stream, data: part, end })?;
        }
        let skipped = data.padding.min(rest.len());
        if data.text > 0 || skipped < data.padding {
            self.data = Some(Data { padding: data.padding - if data.text > 0 { 0 } else { skipped }, ..data });
            return Ok(None);
        }
        self.data = None;
        Ok(Some(&rest[skipped..]))
    }

    /// Goes on with any other frame; `None` when it needs more bytes.
    fn frame<'a>(
        &mut self,
        head: Head,
        bytes: &'a [u8],
        take: &mut impl FnMut(Piece<'a, '_>) -> Result<(), Fault>,
    ) -> Result<Option<&'a [u8]>, Fault> {
        let missing = head.length - self.gathered.len();
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        if part.len() < missing {
            self.gathered.extend_from_slice(part);
            return Ok(None);
        }
        self.frame = None;
        if self.gathered.is_empty() {
            take(Piece::Frame(head, part))?;
        } else {
            let mut whole = std::mem::take(&mut self.gathered);
            whole.extend_from_slice(part);
            take(Piece::Frame(head, &whole))?;
        }
        Ok(Some(rest))
    }
}
