//! HEADERS and CONTINUATION (RFC 9113 §6.2, §6.10): gathering a header block, and what its message does.

use super::{
    super::{
        entry::{Answer, Goner, Remote},
        error::{Code, Fault},
        frame::{Head, flag},
        hpack::Decoder,
        link::{Arrived, CLIENT_HEADERS, SERVER_HEADERS, Side, State},
        message::{Message, Rejected},
    },
    BROKEN,
};
use http::HeaderMap;

/// Bytes of a block before it is decoded; coded, a list is never much longer than decoded.
const MAX_BLOCK: usize = SERVER_HEADERS as usize + (16 << 10);
/// CONTINUATION frames of one block.
const MAX_PARTS: u8 = 16;
/// Bytes of a priority.
const PRIORITY: usize = 5;
/// "Request Header Fields Too Large".
const TOO_LARGE: u16 = 431;

/// A header block that is being gathered.
#[derive(Debug)]
pub(in super::super) struct Block {
    stream: u32,
    end: bool,
    /// The stream says that it depends on itself.
    absurd: bool,
    bytes: Vec<u8>,
    parts: u8,
}

pub(super) fn begin(
    state: &mut State,
    decoder: &mut Decoder,
    block: &mut Option<Block>,
    head: Head,
    payload: &[u8],
) -> Result<(), Fault> {
    let mut fragment = payload;
    if head.has(flag::PADDED) {
        let (padding, rest) = fragment.split_first().ok_or(SHORT)?;
        let length = rest.len().checked_sub(usize::from(*padding));
        fragment = &rest[..length.ok_or_else(|| BROKEN("HEADERS has more padding than payload"))?];
    }
    let mut absurd = false;
    if head.has(flag::PRIORITY) {
        // Padding may have taken what was long enough.
        let short = if payload.len() < PRIORITY { SHORT } else { BROKEN("HEADERS has more padding than fits") };
        let (dependency, rest) = fragment.split_first_chunk::<PRIORITY>().ok_or(short)?;
        absurd = depends_on(dependency) == head.stream;
        fragment = rest;
    }
    let opened_by_client = head.stream % 2 == 1;
    if !opened_by_client || (state.side == Side::Client && head.stream >= state.next) {
        return Err(BROKEN("HEADERS on a stream that the peer must not open"));
    }
    let begun =
        Block { stream: head.stream, end: head.has(flag::END_STREAM), absurd, bytes: fragment.to_vec(), parts: 0 };
    if head.has(flag::END_HEADERS) {
        return finish(state, decoder, &begun);
    }
    *block = Some(begun);
    Ok(())
}

const SHORT: Fault = Fault::Connection(Code::FRAME_SIZE_ERROR, "HEADERS is too short for its flags");

/// The stream that a priority names.
pub(super) fn depends_on([a, b, c, d, _]: &[u8; PRIORITY]) -> u32 {
    u32::from_be_bytes([a & 0x7f, *b, *c, *d])
}

pub(super) fn go_on(
    state: &mut State,
    decoder: &mut Decoder,
    block: &mut Option<Block>,
    head: Head,
    payload: &[u8],
) -> Result<(), Fault> {
    let Some(begun) = block.as_mut().filter(|block| block.stream == head.stream) else {
        return Err(BROKEN("CONTINUATION without a header block of its stream"));
    };
    begun.parts += 1;
    begun.bytes.extend_from_slice(payload);
    if begun.parts > MAX_PARTS || begun.bytes.len() > MAX_BLOCK {
        return Err(Fault::Connection(Code::ENHANCE_YOUR_CALM, "a header block without end"));
    }
    if !head.has(flag::END_HEADERS) {
        return Ok(());
    }
    match block.take() {
        Some(whole) => finish(state, decoder, &whole),
        None => Ok(()),
    }
}

/// Decodes the block whatever becomes of its stream: the table must stay the peer's.
fn finish(state: &mut State, decoder: &mut Decoder, block: &Block) -> Result<(), Fault> {
    debug_assert!(block.stream > 0, "stream 0 is even");
    let limit = if state.side == Side::Server { SERVER_HEADERS } else { CLIENT_HEADERS };
    let mut message = Message::new(limit as usize);
    decoder.decode(&block.bytes, &mut |name, value| message.field(name, value))?;
    if let Some(stream) = state.streams.get(&block.stream) {
        if stream.remote == Remote::Ended {
            return Err(Fault::Stream(block.stream, Code::STREAM_CLOSED));
        }
        if stream.is_closed() {
            return state.spoken_of_gone(block.stream);
        }
        if block.absurd {
            return Err(Fault::Stream(block.stream, Code::PROTOCOL_ERROR));
        }
    }
    match state.side {
        Side::Server => state.request(block, message),
        Side::Client => state.answer(block, message),
    }
}

impl State {
    fn request(&mut self, block: &Block, message: Message) -> Result<(), Fault> {
        let id = block.stream;
        if self.streams.contains_key(&id) {
            // Only DATA may follow a CONNECT (§8.5), and to any other method we have said no.
            return Err(Fault::Stream(id, Code::PROTOCOL_ERROR));
        }
        if id <= self.last_peer {
            return match self.gone(id) {
                Some(Goner::EndedByUs) => Ok(()),
                Some(Goner::Ended) => Err(Fault::Connection(Code::STREAM_CLOSED, "HEADERS on a closed stream")),
                None => Err(BROKEN("stream identifiers do not grow")),
            };
        }
        if self.going {
            // The peer was told that this would not be looked at (§6.8).
            return Ok(());
        }
        self.last_peer = id;
        let request = match message.into_request() {
            Ok(request) if !block.absurd => request,
            Err(Rejected::TooLarge) => {
                self.respond(id, TOO_LARGE, &HeaderMap::new(), true);
                return Err(Fault::Stream(id, Code::NO_ERROR));
            }
            _ => return Err(Fault::Stream(id, Code::PROTOCOL_ERROR)),
        };
        // Streams that were reset and are still being wound up count, though the peer may not know it.
        if self.open >= self.max_streams || self.streams.len() >= 2 * self.max_streams {
            return Err(Fault::Stream(id, Code::REFUSED_STREAM));
        }
        self.insert(id);
        if block.end {
            self.peer_ended(id);
        }
        self.arrived.push_back(Arrived { id, request });
        Ok(())
    }

    fn answer(&mut self, block: &Block, message: Message) -> Result<(), Fault> {
        let id = block.stream;
        let Some(stream) = self.streams.get_mut(&id) else { return self.spoken_of_gone(id) };
        if !matches!(stream.answer, Answer::Waiting) {
            return Err(Fault::Stream(id, Code::PROTOCOL_ERROR));
        }
        let wrong = |_| Fault::Stream(id, Code::PROTOCOL_ERROR);
        let (status, headers) = message.into_response().map_err(wrong)?;
        if status < 200 {
            return if block.end { Err(Fault::Stream(id, Code::PROTOCOL_ERROR)) } else { Ok(()) };
        }
        stream.answer = Answer::Given(status, headers);
        stream.wake_reader();
        if block.end {
            self.peer_ended(id);
        }
        Ok(())
    }
}
