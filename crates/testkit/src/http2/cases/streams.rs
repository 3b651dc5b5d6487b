//! Streams: their states, their numbers, how many there may be (RFC 9113 §5).

use super::{Case, Reaction, Stage::*, Target, answered, close, ignored, reset, row};
use crate::http2::{
    Frame, bytes,
    code::{PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED},
    flag,
    hpack::Block,
};

/// Streams that the server allows at a time.
const MAX_STREAMS: u32 = 200;

pub(super) fn rows(target: &Target) -> Vec<Case> {
    [idle(), half_closed(target), closed(target), numbers(target), many(target)].concat()
}

fn idle() -> Vec<Case> {
    vec![
        row("5.1", "DATA for an idle stream", Greeted, Frame::data(1, b"x").bytes(), close(PROTOCOL_ERROR)),
        row("5.1", "WINDOW_UPDATE for an idle stream", Greeted, Frame::window(1, 1).bytes(), close(PROTOCOL_ERROR)),
        row(
            "5.1",
            "CONTINUATION for an idle stream",
            Greeted,
            Frame::continuation(1, [], true).bytes(),
            close(PROTOCOL_ERROR),
        ),
        row("5.1", "DATA for a stream of the server's", Greeted, Frame::data(2, b"x").bytes(), close(PROTOCOL_ERROR)),
        row(
            "5.1",
            "RST_STREAM for a stream of the server's",
            Greeted,
            Frame::reset(2, 8).bytes(),
            close(PROTOCOL_ERROR),
        ),
        row(
            "5.1",
            "WINDOW_UPDATE for a stream of the server's",
            Greeted,
            Frame::window(2, 1).bytes(),
            close(PROTOCOL_ERROR),
        ),
    ]
}

fn half_closed(target: &Target) -> Vec<Case> {
    vec![
        row("5.1", "DATA after the end of a stream", HalfClosed, Frame::data(1, b"x").bytes(), reset(1, STREAM_CLOSED)),
        row(
            "5.1",
            "a second end of a stream",
            HalfClosed,
            Frame::data(1, []).with_flags(flag::END_STREAM).bytes(),
            reset(1, STREAM_CLOSED),
        ),
        row(
            "5.1",
            "HEADERS after the end of a stream",
            HalfClosed,
            Frame::headers(1, target.connect()).bytes(),
            reset(1, STREAM_CLOSED),
        ),
        row(
            "5.1",
            "CONTINUATION after the end of a stream",
            HalfClosed,
            Frame::continuation(1, [], true).bytes(),
            close(PROTOCOL_ERROR),
        ),
        row("5.1", "WINDOW_UPDATE after the end of a stream", HalfClosed, Frame::window(1, 1).bytes(), ignored()),
        row("5.1", "PRIORITY after the end of a stream", HalfClosed, Frame::priority(1, 0).bytes(), ignored()),
        row("5.1", "RST_STREAM after the end of a stream", HalfClosed, Frame::reset(1, 8).bytes(), ignored()),
    ]
}

fn closed(target: &Target) -> Vec<Case> {
    let again = || Frame::headers(1, target.connect()).bytes();
    // A number that is used again is both: a closed stream, and an unexpected number (§5.1.1).
    let reused = || [reset(1, STREAM_CLOSED), close(PROTOCOL_ERROR)].concat();
    vec![
        row("5.1", "DATA for a closed stream", Closed, Frame::data(1, b"x").bytes(), reset(1, STREAM_CLOSED)),
        row("5.1", "HEADERS for a closed stream", Closed, again(), reused()),
        row(
            "5.1",
            "CONTINUATION for a closed stream",
            Closed,
            Frame::continuation(1, [], true).bytes(),
            close(PROTOCOL_ERROR),
        ),
        row("5.1", "WINDOW_UPDATE for a closed stream", Closed, Frame::window(1, 1).bytes(), ignored()),
        row("5.1", "RST_STREAM for a closed stream", Closed, Frame::reset(1, 8).bytes(), ignored()),
        row(
            "5.1",
            "DATA for a stream that the client has reset",
            Reset,
            Frame::data(1, b"x").bytes(),
            reset(1, STREAM_CLOSED),
        ),
        row("5.1", "HEADERS for a stream that the client has reset", Reset, again(), reused()),
        row(
            "5.1",
            "CONTINUATION for a stream that the client has reset",
            Reset,
            Frame::continuation(1, [], true).bytes(),
            close(PROTOCOL_ERROR),
        ),
        row("5.1", "PRIORITY for a stream that the client has reset", Reset, Frame::priority(1, 0).bytes(), ignored()),
        row("5.1", "RST_STREAM twice", Reset, Frame::reset(1, 8).bytes(), ignored()),
        row(
            "5.1",
            "WINDOW_UPDATE for a stream that the client has reset",
            Reset,
            Frame::window(1, 1).bytes(),
            ignored(),
        ),
    ]
}

fn numbers(target: &Target) -> Vec<Case> {
    let open = |stream| Frame::headers(stream, target.connect());
    vec![
        row("5.1.1", "a request on an even number", Greeted, open(2).bytes(), close(PROTOCOL_ERROR)),
        row(
            "5.1.1",
            "a request on a number lower than the last",
            Greeted,
            bytes(&[open(5), open(3)]),
            [close(PROTOCOL_ERROR), reset(3, STREAM_CLOSED)].concat(),
        ),
        row("5.1.1", "numbers that are left out", Greeted, open(101).bytes(), answered(101, 200)),
        row(
            "5.1.1",
            "DATA for a number that was left out",
            Greeted,
            bytes(&[open(5), Frame::data(3, b"x")]),
            [close(PROTOCOL_ERROR), reset(3, STREAM_CLOSED)].concat(),
        ),
        row(
            "5.1.1",
            "WINDOW_UPDATE for a number that was left out",
            Greeted,
            bytes(&[open(5), Frame::window(3, 1)]),
            [answered(5, 200), close(PROTOCOL_ERROR)].concat(),
        ),
        row(
            "5.1.1",
            "the number of a tunnel again",
            Tunnel,
            open(1).bytes(),
            [reset(1, PROTOCOL_ERROR), reset(1, STREAM_CLOSED)].concat(),
        ),
        row("5.1.2", "one stream more than there may be", Greeted, crowd(target, MAX_STREAMS + 1), refused()),
        row(
            "5.1.2",
            "as many streams as there may be",
            Greeted,
            crowd(target, MAX_STREAMS),
            answered(last(MAX_STREAMS), 200),
        ),
    ]
}

fn last(count: u32) -> u32 {
    count * 2 - 1
}

fn crowd(target: &Target, count: u32) -> Vec<u8> {
    let block = Vec::from(Block::connect(&target.hold));
    (0..count).flat_map(|n| Frame::headers(last(n + 1), &block[..]).bytes()).collect()
}

fn refused() -> Vec<Reaction> {
    let one_too_many = last(MAX_STREAMS + 1);
    [reset(one_too_many, REFUSED_STREAM), reset(one_too_many, PROTOCOL_ERROR)].concat()
}

/// Streams beside each other.
fn many(target: &Target) -> Vec<Case> {
    let open = |stream| Frame::headers(stream, target.connect());
    vec![
        row(
            "5.4.2",
            "a stream's error leaves its sibling",
            Tunnel,
            bytes(&[open(3), Frame::window(3, 0), Frame::data(1, b"still")]),
            vec![Reaction::Data(5), Reaction::Close(PROTOCOL_ERROR)],
        ),
        row(
            "5.1",
            "RST_STREAM of one leaves its sibling",
            Tunnel,
            bytes(&[open(3), Frame::reset(3, 8), Frame::data(1, b"still")]),
            vec![Reaction::Data(5)],
        ),
        row(
            "5.1",
            "the end of one leaves its sibling",
            Tunnel,
            bytes(&[open(3).with_flags(flag::END_HEADERS | flag::END_STREAM), Frame::data(1, b"still")]),
            vec![Reaction::Data(5)],
        ),
    ]
}
