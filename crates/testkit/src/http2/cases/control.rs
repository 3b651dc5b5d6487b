//! Frames that govern a connection: SETTINGS, PING, GOAWAY and windows (RFC 9113 §6.5 to §6.9).

use super::{Case, Reaction, Stage::*, Target, answered, close, ignored, reset, row};
use crate::http2::{
    Frame, bytes,
    code::{FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR},
    flag, kind,
    setting::{
        ENABLE_PUSH, HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE,
        MAX_HEADER_LIST_SIZE,
    },
};

pub(super) fn rows(target: &Target) -> Vec<Case> {
    [settings(), settings_values(target), ping(), goaway(target), windows(), credit()].concat()
}

fn settings() -> Vec<Case> {
    let sized = |length, flags| Frame::new(kind::SETTINGS, flags, 0, vec![0; length]).bytes();
    vec![
        row(
            "6.5",
            "SETTINGS for a stream",
            Greeted,
            Frame { stream: 1, ..Frame::settings(&[]) }.bytes(),
            close(PROTOCOL_ERROR),
        ),
        row("6.5", "SETTINGS of 3 bytes", Greeted, sized(3, 0), close(FRAME_SIZE_ERROR)),
        row("6.5", "SETTINGS of 7 bytes", Greeted, sized(7, 0), close(FRAME_SIZE_ERROR)),
        row("6.5", "an acknowledgement with a setting", Greeted, sized(6, flag::ACK), close(FRAME_SIZE_ERROR)),
        row("6.5", "an acknowledgement with one byte", Greeted, sized(1, flag::ACK), close(FRAME_SIZE_ERROR)),
        row(
            "6.5",
            "an acknowledgement for a stream",
            Tunnel,
            Frame { stream: 1, ..Frame::settings_ack() }.bytes(),
            close(PROTOCOL_ERROR),
        ),
        row("6.5", "SETTINGS without a value", Greeted, Frame::settings(&[]).bytes(), ignored()),
    ]
}

fn settings_values(target: &Target) -> Vec<Case> {
    let of = |id, value| Frame::settings(&[(id, value)]).bytes();
    let then = |id, value| [of(id, value), Frame::headers(1, target.connect()).bytes()].concat();
    let mut rows = vec![
        row("6.5.2", "ENABLE_PUSH of 2", Greeted, of(ENABLE_PUSH, 2), close(PROTOCOL_ERROR)),
        row(
            "6.5.2",
            "INITIAL_WINDOW_SIZE of 2^31",
            Greeted,
            of(INITIAL_WINDOW_SIZE, 1 << 31),
            close(FLOW_CONTROL_ERROR),
        ),
        row(
            "6.5.2",
            "INITIAL_WINDOW_SIZE of 2^32-1",
            Greeted,
            of(INITIAL_WINDOW_SIZE, u32::MAX),
            close(FLOW_CONTROL_ERROR),
        ),
        row("6.5.2", "MAX_FRAME_SIZE of 16,383", Greeted, of(MAX_FRAME_SIZE, 16_383), close(PROTOCOL_ERROR)),
        row("6.5.2", "MAX_FRAME_SIZE of 2^24", Greeted, of(MAX_FRAME_SIZE, 1 << 24), close(PROTOCOL_ERROR)),
        row("6.5.2", "MAX_FRAME_SIZE of 0", Greeted, of(MAX_FRAME_SIZE, 0), close(PROTOCOL_ERROR)),
        row(
            "6.5.3",
            "the last of two values counts",
            Greeted,
            Frame::settings(&[(ENABLE_PUSH, 1), (ENABLE_PUSH, 0)]).bytes(),
            ignored(),
        ),
    ];
    let good = [
        ("MAX_FRAME_SIZE of 16,384", MAX_FRAME_SIZE, 16_384),
        ("MAX_FRAME_SIZE of 2^24-1", MAX_FRAME_SIZE, (1 << 24) - 1),
        ("INITIAL_WINDOW_SIZE of 2^31-1", INITIAL_WINDOW_SIZE, (1 << 31) - 1),
        ("INITIAL_WINDOW_SIZE of 0", INITIAL_WINDOW_SIZE, 0),
        ("HEADER_TABLE_SIZE of 0", HEADER_TABLE_SIZE, 0),
        ("HEADER_TABLE_SIZE of 2^32-1", HEADER_TABLE_SIZE, u32::MAX),
        ("MAX_CONCURRENT_STREAMS of 0", MAX_CONCURRENT_STREAMS, 0),
        ("MAX_HEADER_LIST_SIZE of 2^32-1", MAX_HEADER_LIST_SIZE, u32::MAX),
        ("ENABLE_CONNECT_PROTOCOL", 8, 1),
        ("an unknown setting", 0xbeef, 0xdead_beef),
    ];
    rows.extend(good.map(|(what, id, value)| row("6.5.2", what, Greeted, then(id, value), answered(1, 200))));
    rows
}

fn ping() -> Vec<Case> {
    let sized = |length, flags| Frame::new(kind::PING, flags, 0, vec![0; length]).bytes();
    vec![
        row(
            "6.7",
            "PING for a stream",
            Tunnel,
            Frame { stream: 1, ..Frame::ping([0; 8]) }.bytes(),
            close(PROTOCOL_ERROR),
        ),
        row("6.7", "PING of 7 bytes", Greeted, sized(7, 0), close(FRAME_SIZE_ERROR)),
        row("6.7", "PING of 9 bytes", Greeted, sized(9, 0), close(FRAME_SIZE_ERROR)),
        row("6.7", "PING without a byte", Greeted, sized(0, 0), close(FRAME_SIZE_ERROR)),
        row("6.7", "an answer of 6 bytes", Greeted, sized(6, flag::ACK), close(FRAME_SIZE_ERROR)),
        row("6.7", "an answer that was not asked for", Greeted, sized(8, flag::ACK), ignored()),
        row(
            "6.7",
            "an answer for a stream",
            Tunnel,
            Frame::new(kind::PING, flag::ACK, 1, [0; 8]).bytes(),
            close(PROTOCOL_ERROR),
        ),
    ]
}

fn goaway(target: &Target) -> Vec<Case> {
    vec![
        row(
            "6.8",
            "GOAWAY for a stream",
            Tunnel,
            Frame { stream: 1, ..Frame::goaway(0, 0) }.bytes(),
            close(PROTOCOL_ERROR),
        ),
        row(
            "6.8",
            "GOAWAY of 7 bytes",
            Greeted,
            Frame::new(kind::GOAWAY, 0, 0, [0; 7]).bytes(),
            close(FRAME_SIZE_ERROR),
        ),
        row(
            "6.8",
            "GOAWAY, and bytes in a tunnel after it",
            Tunnel,
            bytes(&[Frame::goaway(0, 0), Frame::data(1, b"still")]),
            vec![Reaction::Data(5)],
        ),
        row(
            "6.8",
            "GOAWAY with an unknown code and a text, and bytes in a tunnel after it",
            Tunnel,
            bytes(&[Frame::new(kind::GOAWAY, 0, 0, *b"\0\0\0\0\xff\xff\xff\xffbye"), Frame::data(1, b"still")]),
            vec![Reaction::Data(5)],
        ),
        row(
            "8.4",
            "PUSH_PROMISE from a client",
            Tunnel,
            Frame::new(
                kind::PUSH_PROMISE,
                flag::END_HEADERS,
                1,
                [&2_u32.to_be_bytes()[..], &Vec::from(target.connect())].concat(),
            )
            .bytes(),
            close(PROTOCOL_ERROR),
        ),
        row(
            "6.6",
            "PUSH_PROMISE for the connection",
            Greeted,
            Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, 0, 2_u32.to_be_bytes()).bytes(),
            close(PROTOCOL_ERROR),
        ),
    ]
}

fn windows() -> Vec<Case> {
    let sized = |length| Frame::new(kind::WINDOW_UPDATE, 0, 0, vec![1; length]).bytes();
    let most = (1 << 31) - 1;
    let raised = |frames: &[Frame]| bytes(&[&[Frame::window(1, most - 65_535)], frames].concat());
    vec![
        row("6.9", "WINDOW_UPDATE of 3 bytes", Greeted, sized(3), close(FRAME_SIZE_ERROR)),
        row("6.9", "WINDOW_UPDATE of 5 bytes", Greeted, sized(5), close(FRAME_SIZE_ERROR)),
        row("6.9", "an increment of 0 for the connection", Greeted, Frame::window(0, 0).bytes(), close(PROTOCOL_ERROR)),
        row("6.9", "an increment of 0 for a tunnel", Tunnel, Frame::window(1, 0).bytes(), reset(1, PROTOCOL_ERROR)),
        row(
            "6.9",
            "an increment of 0 with the reserved bit",
            Tunnel,
            Frame::window(1, 1 << 31).bytes(),
            reset(1, PROTOCOL_ERROR),
        ),
        row("6.9", "an increment with the reserved bit", Greeted, Frame::window(0, 1 << 31 | 1).bytes(), ignored()),
        row(
            "6.9.1",
            "a connection's window beyond 2^31-1",
            Greeted,
            Frame::window(0, most).bytes(),
            close(FLOW_CONTROL_ERROR),
        ),
        row(
            "6.9.1",
            "a connection's window beyond 2^31-1 in two steps",
            Greeted,
            bytes(&[Frame::window(0, most - 65_535), Frame::window(0, 1)]),
            close(FLOW_CONTROL_ERROR),
        ),
        row("6.9.1", "a stream's window of 2^31-1", Tunnel, raised(&[]), ignored()),
        row(
            "6.9.1",
            "a stream's window beyond 2^31-1",
            Tunnel,
            Frame::window(1, most).bytes(),
            reset(1, FLOW_CONTROL_ERROR),
        ),
        row(
            "6.9.1",
            "a stream's window beyond 2^31-1 in two steps",
            Tunnel,
            raised(&[Frame::window(1, 1)]),
            reset(1, FLOW_CONTROL_ERROR),
        ),
        row(
            "6.9.2",
            "a stream's window beyond 2^31-1 by a setting",
            Tunnel,
            raised(&[Frame::settings(&[(INITIAL_WINDOW_SIZE, 65_536)])]),
            close(FLOW_CONTROL_ERROR),
        ),
    ]
}

/// What the server sends stays within what it was given (§6.9.2).
fn credit() -> Vec<Case> {
    let sent = |frames: &[Frame]| bytes(frames);
    let size = |value| Frame::settings(&[(INITIAL_WINDOW_SIZE, value)]);
    let ten = || Frame::data(1, b"0123456789");
    let shrunk = |then: &[Frame]| sent(&[&[size(3), ten()], then].concat());
    vec![
        row("6.9.2", "a window of 3 bytes lets 3 bytes out", Tunnel, shrunk(&[]), vec![Reaction::Data(3)]),
        row(
            "6.9.2",
            "4 bytes more let 4 bytes more out",
            Tunnel,
            shrunk(&[Frame::window(1, 4)]),
            vec![Reaction::Data(7)],
        ),
        row("6.9.2", "a larger setting lets the rest out", Tunnel, shrunk(&[size(100)]), vec![Reaction::Data(10)]),
        row("6.9.2", "a window of nothing lets nothing out", Tunnel, sent(&[size(0), ten()]), vec![Reaction::Data(0)]),
        row(
            "6.9",
            "more than the window that was granted",
            Tunnel,
            oversent(),
            [reset(1, FLOW_CONTROL_ERROR)].concat(),
        ),
    ]
}

/// More than the window of a stream, while nobody takes the echo and so nobody empties it.
fn oversent() -> Vec<u8> {
    let frames = Frame::data(1, vec![7; 16_384]).bytes();
    frames.repeat(5 * 64)
}
