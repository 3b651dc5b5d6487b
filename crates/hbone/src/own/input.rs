//! What the peer's frames do (RFC 9113 §5, §6): each either changes the state, ends its stream, or ends the connection.

mod headers;
mod management;

use super::{
    delivery::Delivery,
    entry::{Goner, Remote},
    error::{Code, Fault},
    frame::{Head, Piece, Splitter, flag, kind},
    hpack::Decoder,
    link::{Side, State},
};
use headers::Block;
pub(super) use management::{ARE_YOU_THERE, FAREWELL};

/// The receiving half of one connection.
#[derive(Debug)]
pub(super) struct Input {
    splitter: Splitter,
    decoder: Decoder,
    /// Headers that are not complete yet.
    block: Option<Block>,
}

const BROKEN: fn(&'static str) -> Fault = |why| Fault::Connection(Code::PROTOCOL_ERROR, why);

impl Input {
    pub(super) fn new(side: Side, max_frame: u32) -> Self {
        let max_frame = usize::try_from(max_frame).unwrap_or(usize::MAX);
        Self { splitter: Splitter::new(max_frame, side == Side::Server), decoder: Decoder::default(), block: None }
    }

    /// Takes plaintext. A fault of one stream is dealt with here; one of the connection is the caller's to tell.
    pub(super) fn take<'a>(
        &mut self,
        state: &mut State,
        bytes: &'a [u8],
        delivery: &mut Delivery<'a>,
    ) -> Result<(), Fault> {
        let Self { splitter, decoder, block } = self;
        splitter.feed(bytes, &mut |piece| {
            let taken = match piece {
                Piece::Data { stream, data, end } => {
                    take_data(state, stream, data, end, delivery);
                    return Ok(());
                }
                Piece::DataBegins(head) if block.is_none() => data_begins(state, head),
                Piece::DataBegins(_) => Err(BROKEN("DATA between the parts of a header block")),
                Piece::Padding { stream, bytes } => {
                    state.release(stream, bytes);
                    Ok(())
                }
                Piece::Frame(head, payload) => {
                    // Frames take effect in their order.
                    delivery.flush(state);
                    take_frame(state, decoder, block, head, payload)
                }
            };
            match taken {
                Err(Fault::Stream(stream, code)) => state.stream_fault(stream, code),
                other => other,
            }
        })
    }
}

fn take_frame(
    state: &mut State,
    decoder: &mut Decoder,
    block: &mut Option<Block>,
    head: Head,
    payload: &[u8],
) -> Result<(), Fault> {
    if !state.peer.seen && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
        return Err(BROKEN("the first frame is not SETTINGS"));
    }
    if block.is_some() && head.kind != kind::CONTINUATION {
        return Err(BROKEN("another frame between the parts of a header block"));
    }
    match head.kind {
        kind::HEADERS => headers::begin(state, decoder, block, head, payload),
        kind::CONTINUATION => headers::go_on(state, decoder, block, head, payload),
        kind::SETTINGS => management::settings(state, head, payload),
        kind::WINDOW_UPDATE => management::window_update(state, head, payload),
        kind::PING => management::ping(state, head, payload),
        kind::RST_STREAM => management::reset(state, head, payload),
        kind::GOAWAY => management::go_away(state, head, payload),
        kind::PRIORITY => management::priority(state, head, payload),
        kind::PUSH_PROMISE => Err(BROKEN("a pushed stream")),
        _ => management::empty(state),
    }
}

/// Counts a DATA frame against the windows (§6.9.1).
fn data_begins(state: &mut State, head: Head) -> Result<(), Fault> {
    if !state.peer.seen {
        return Err(BROKEN("the first frame is not SETTINGS"));
    }
    if head.stream == 0 || state.is_idle(head.stream) {
        return Err(BROKEN("DATA on a stream that was never opened"));
    }
    let length = i64::try_from(head.length).unwrap_or(i64::MAX);
    state.receive_window -= length;
    if state.receive_window < 0 {
        return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR, "more data than the connection's window allows"));
    }
    if head.length == 0 && !head.has(flag::END_STREAM) {
        management::empty(state)?;
    }
    let Some(stream) = state.streams.get_mut(&head.stream) else { return state.spoken_of_gone(head.stream) };
    if stream.remote != Remote::Open {
        return state.spoken_of_gone(head.stream);
    }
    stream.receive_window -= length;
    if stream.receive_window < 0 {
        return Err(Fault::Stream(head.stream, Code::FLOW_CONTROL_ERROR));
    }
    Ok(())
}

fn take_data<'a>(state: &mut State, id: u32, data: &'a [u8], end: bool, delivery: &mut Delivery<'a>) {
    if !data.is_empty() {
        delivery.push(state, id, data);
    }
    if end {
        delivery.flush(state);
        state.peer_ended(id);
    }
}

impl State {
    /// Whether nobody has used an id yet.
    fn is_idle(&self, id: u32) -> bool {
        let ours = (id % 2 == 1) == (self.side == Side::Client);
        if ours { id >= self.next } else { id > self.last_peer }
    }

    /// The peer's direction of a stream has ended in good order.
    fn peer_ended(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.remote == Remote::Open
        {
            stream.remote = Remote::Ended;
            stream.wake_reader();
            self.settle(id);
        }
    }

    /// A frame for a stream that is closed: late if we ended it, else a mistake of the peer.
    fn spoken_of_gone(&self, id: u32) -> Result<(), Fault> {
        match self.gone(id) {
            Some(Goner::EndedByUs) => Ok(()),
            Some(Goner::Ended) | None => Err(Fault::Stream(id, Code::STREAM_CLOSED)),
        }
    }

    /// Ends a stream because of the peer; too often, and the connection ends.
    fn stream_fault(&mut self, id: u32, code: Code) -> Result<(), Fault> {
        if !self.budgets.faults.take() {
            return Err(Fault::Connection(Code::ENHANCE_YOUR_CALM, "too many streams that break the rules"));
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            // Nothing more is taken, though the peer had ended already.
            stream.stopped = Some(code);
            if stream.remote == Remote::Open {
                stream.remote = Remote::Reset(code);
            }
            stream.wake();
            self.settle(id);
        }
        self.send_reset(id, code);
        Ok(())
    }
}
