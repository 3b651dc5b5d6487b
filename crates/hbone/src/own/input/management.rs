//! Frames that manage streams and the connection: SETTINGS, WINDOW_UPDATE, PING, RST_STREAM, GOAWAY, PRIORITY.

use super::{
    super::{
        entry::{Answer, Remote},
        error::{Code, Fault},
        frame::{Head, flag, kind, setting},
        link::{MAX_WINDOW, Side, State},
    },
    BROKEN,
    headers::depends_on,
};

/// What our PINGs carry when they ask whether the peer is there.
pub(in super::super) const ARE_YOU_THERE: [u8; 8] = *b"ambit..?";
/// What the PING behind our GOAWAY carries.
pub(in super::super) const FAREWELL: [u8; 8] = *b"ambit..!";

const SIZE: Fault = Fault::Connection(Code::FRAME_SIZE_ERROR, "a frame has the wrong length for its type");
const CALM: fn(&'static str) -> Fault = |why| Fault::Connection(Code::ENHANCE_YOUR_CALM, why);

fn word(payload: &[u8]) -> Result<u32, Fault> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| SIZE)
}

/// Something that carries nothing.
pub(super) fn empty(state: &mut State) -> Result<(), Fault> {
    if state.budgets.empty.take() { Ok(()) } else { Err(CALM("too many frames that carry nothing")) }
}

pub(super) fn settings(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    if head.stream != 0 {
        return Err(BROKEN("SETTINGS on a stream"));
    }
    if head.has(flag::ACK) {
        return if payload.is_empty() { empty(state) } else { Err(SIZE) };
    }
    let (settings, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(SIZE);
    }
    if !state.budgets.answers.take() {
        return Err(CALM("too many SETTINGS"));
    }
    if !state.peer.seen {
        // Without a word about it there is no limit (§6.5.2).
        state.peer.max_streams = usize::MAX;
        state.peer.seen = true;
    }
    for [a, b, value @ ..] in settings {
        set(state, u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value))?;
    }
    state.output.urgent(kind::SETTINGS, flag::ACK, 0, &[]);
    Ok(())
}

fn set(state: &mut State, id: u16, value: u32) -> Result<(), Fault> {
    match id {
        setting::ENABLE_PUSH if value > 1 || (value == 1 && state.side == Side::Client) => {
            Err(BROKEN("ENABLE_PUSH has an impossible value"))
        }
        setting::MAX_CONCURRENT_STREAMS => {
            state.peer.max_streams = usize::try_from(value).unwrap_or(usize::MAX);
            Ok(())
        }
        setting::INITIAL_WINDOW_SIZE => initial_window(state, i64::from(value)),
        setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
            Err(BROKEN("MAX_FRAME_SIZE has an impossible value"))
        }
        // Ours never exceed what every peer must take.
        _ => Ok(()),
    }
}

/// A change counts for the streams that are open, too (§6.9.2).
fn initial_window(state: &mut State, value: i64) -> Result<(), Fault> {
    const TOO_MUCH: Fault = Fault::Connection(Code::FLOW_CONTROL_ERROR, "a window grew beyond 2^31-1");
    if value > MAX_WINDOW {
        return Err(TOO_MUCH);
    }
    let change = value - state.peer.initial_window;
    state.peer.initial_window = value;
    for stream in state.streams.values_mut() {
        stream.send_window += change;
        if stream.send_window > MAX_WINDOW {
            return Err(TOO_MUCH);
        }
        if stream.send_window > 0 {
            stream.wake_writer();
        }
    }
    Ok(())
}

pub(super) fn window_update(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    let increment = i64::from(word(payload)? & 0x7fff_ffff);
    if !state.budgets.updates.take() {
        return Err(CALM("too many WINDOW_UPDATEs"));
    }
    if head.stream == 0 {
        state.send_window += increment;
        if increment == 0 {
            return Err(BROKEN("WINDOW_UPDATE by nothing"));
        }
        if state.send_window > MAX_WINDOW {
            return Err(Fault::Connection(Code::FLOW_CONTROL_ERROR, "the connection's window grew beyond 2^31-1"));
        }
        state.wake_waiting();
        return Ok(());
    }
    if state.is_idle(head.stream) {
        return Err(BROKEN("WINDOW_UPDATE on a stream that was never opened"));
    }
    // A stream that is gone may still be granted something.
    let Some(stream) = state.streams.get_mut(&head.stream) else { return Ok(()) };
    if increment == 0 {
        return Err(Fault::Stream(head.stream, Code::PROTOCOL_ERROR));
    }
    stream.send_window += increment;
    if stream.send_window > MAX_WINDOW {
        return Err(Fault::Stream(head.stream, Code::FLOW_CONTROL_ERROR));
    }
    stream.wake_writer();
    Ok(())
}

pub(super) fn ping(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    if payload.len() != 8 {
        return Err(SIZE);
    }
    if head.stream != 0 {
        return Err(BROKEN("PING on a stream"));
    }
    if head.has(flag::ACK) {
        state.farewell_heard |= *payload == FAREWELL;
        return empty(state);
    }
    if !state.budgets.answers.take() {
        return Err(CALM("too many PINGs"));
    }
    state.output.urgent(kind::PING, flag::ACK, 0, payload);
    Ok(())
}

pub(super) fn reset(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    let code = Code(word(payload)?);
    if head.stream == 0 || state.is_idle(head.stream) {
        return Err(BROKEN("RST_STREAM on a stream that was never opened"));
    }
    // Both ends may have given up at once.
    let Some(stream) = state.streams.get_mut(&head.stream).filter(|stream| !stream.is_closed()) else { return Ok(()) };
    let unanswered = state.side == Side::Server && matches!(stream.answer, Answer::Waiting);
    if code == Code::REFUSED_STREAM && matches!(stream.answer, Answer::Waiting) {
        stream.answer = Answer::Unhandled;
    }
    stream.stopped = Some(code);
    if stream.remote == Remote::Open {
        stream.remote = Remote::Reset(code);
    }
    stream.wake();
    state.settle(head.stream);
    if unanswered && !state.budgets.resets.take() {
        return Err(CALM("too many streams that are given up at once"));
    }
    Ok(())
}

pub(super) fn go_away(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    if head.stream != 0 {
        return Err(BROKEN("GOAWAY on a stream"));
    }
    let (last, _) = payload.split_first_chunk::<4>().filter(|_| payload.len() >= 8).ok_or(SIZE)?;
    let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
    if state.peer_goes.is_some_and(|before| last > before) {
        return Err(BROKEN("GOAWAY with a greater stream than before"));
    }
    state.peer_goes = Some(last);
    let ours = |id: u32| (id % 2 == 1) == (state.side == Side::Client);
    let unhandled: Vec<u32> = state.streams.keys().copied().filter(|id| *id > last && ours(*id)).collect();
    for id in unhandled {
        if let Some(stream) = state.streams.get_mut(&id) {
            if matches!(stream.answer, Answer::Waiting) {
                stream.answer = Answer::Unhandled;
            }
            stream.stopped = Some(Code::REFUSED_STREAM);
            stream.wake();
        }
        state.settle(id);
    }
    empty(state)
}

pub(super) fn priority(state: &mut State, head: Head, payload: &[u8]) -> Result<(), Fault> {
    if head.stream == 0 {
        return Err(BROKEN("PRIORITY without a stream"));
    }
    let wrong = |code, why| {
        // A stream that was never opened cannot be reset.
        if state.is_idle(head.stream) { Fault::Connection(code, why) } else { Fault::Stream(head.stream, code) }
    };
    let Ok(priority) = payload.try_into() else {
        return Err(wrong(Code::FRAME_SIZE_ERROR, "PRIORITY has the wrong length"));
    };
    if depends_on(priority) == head.stream {
        return Err(wrong(Code::PROTOCOL_ERROR, "a stream depends on itself"));
    }
    empty(state)
}
