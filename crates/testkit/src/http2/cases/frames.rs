//! The preface, the layout of frames, and the frames of a stream (RFC 9113 §3, §4, §6).

use super::{Case, Reaction, Stage::*, Target, answered, close, ignored, reset, row};
use crate::http2::{
    Frame, PREFACE, bytes,
    code::{FRAME_SIZE_ERROR, PROTOCOL_ERROR},
    flag, head, kind,
};

/// The frame size that the server advertises.
const MAX_FRAME: usize = 1 << 20;

pub(super) fn rows(target: &Target) -> Vec<Case> {
    [preface(target), layout(target), sizes(), data(), headers(target), priority(), rst_stream(), continuation(target)]
        .concat()
}

fn preface(target: &Target) -> Vec<Case> {
    let no_http2 = || vec![Reaction::Close(PROTOCOL_ERROR), Reaction::End];
    let first = |frame: Frame| [PREFACE.to_vec(), frame.bytes()].concat();
    let mut changed = PREFACE.to_vec();
    changed[20] ^= 0x20;
    let whole = [first(Frame::settings(&[])), Frame::headers(1, target.connect()).bytes()].concat();
    vec![
        row("3.4", "preface, SETTINGS and a request at once", Raw, whole, answered(1, 200)),
        row("3.4", "HTTP/1.1 instead of a preface", Raw, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2), no_http2()),
        row("3.4", "a preface with one letter changed", Raw, changed, no_http2()),
        row("3.4", "zeros instead of a preface", Raw, [0; 64], no_http2()),
        row("3.4", "a request before SETTINGS", Raw, first(Frame::headers(1, target.connect())), no_http2()),
        row("3.4", "PING before SETTINGS", Raw, first(Frame::ping([0; 8])), no_http2()),
        row("3.4", "WINDOW_UPDATE before SETTINGS", Raw, first(Frame::window(0, 1)), no_http2()),
        row(
            "3.4",
            "the preface twice",
            Greeted,
            PREFACE,
            vec![Reaction::Close(PROTOCOL_ERROR), Reaction::Close(FRAME_SIZE_ERROR)],
        ),
    ]
}

fn layout(target: &Target) -> Vec<Case> {
    let unknown = |stream| Frame::new(0xbb, 0xff, stream, *b"whatever").bytes();
    let reserved = |frame: Frame| Frame { stream: frame.stream | 1 << 31, ..frame }.bytes();
    let flags = |frame: Frame, more: u8| frame.clone().with_flags(frame.flags | more).bytes();
    vec![
        row("4.1", "a frame of an unknown type for the connection", Greeted, unknown(0), ignored()),
        row("4.1", "a frame of an unknown type for a tunnel", Tunnel, unknown(1), ignored()),
        row("4.1", "a frame of an unknown type for an idle stream", Greeted, unknown(9), ignored()),
        row(
            "5.5",
            "ALTSVC, ORIGIN and PRIORITY_UPDATE",
            Greeted,
            [10, 12, 16].map(|k| Frame::new(k, 0, 0, [0; 8]).bytes()).concat(),
            ignored(),
        ),
        row("4.1", "an unknown type with nothing in it", Greeted, Frame::new(0xee, 0, 0, []).bytes(), ignored()),
        row("4.1", "PING with flags that mean nothing", Greeted, flags(Frame::ping([1; 8]), 0xfe), ignored()),
        row(
            "4.1",
            "a request with flags that mean nothing",
            Greeted,
            flags(Frame::headers(1, target.connect()), 0xd2),
            answered(1, 200),
        ),
        row("4.1", "WINDOW_UPDATE with flags that mean nothing", Greeted, flags(Frame::window(0, 1), 0xff), ignored()),
        row("4.1", "RST_STREAM with flags that mean nothing", Tunnel, flags(Frame::reset(1, 8), 0xff), ignored()),
        row("4.1", "PING with the reserved bit", Greeted, reserved(Frame::ping([2; 8])), ignored()),
        row(
            "4.1",
            "a request with the reserved bit",
            Greeted,
            reserved(Frame::headers(1, target.connect())),
            answered(1, 200),
        ),
        row("4.1", "SETTINGS with the reserved bit", Greeted, reserved(Frame::settings(&[])), ignored()),
    ]
}

fn sizes() -> Vec<Case> {
    let claims = |kind, flags, stream| [head(MAX_FRAME + 1, kind, flags, stream), vec![0; 64]].concat();
    vec![
        row("4.2", "DATA one byte longer than allowed", Tunnel, claims(kind::DATA, 0, 1), reset(1, FRAME_SIZE_ERROR)),
        row(
            "4.2",
            "HEADERS longer than allowed",
            Greeted,
            claims(kind::HEADERS, flag::END_HEADERS, 1),
            close(FRAME_SIZE_ERROR),
        ),
        row("4.2", "SETTINGS longer than allowed", Greeted, claims(kind::SETTINGS, 0, 0), close(FRAME_SIZE_ERROR)),
        row("4.2", "PING longer than allowed", Greeted, claims(kind::PING, 0, 0), close(FRAME_SIZE_ERROR)),
        row("4.2", "an unknown type longer than allowed", Greeted, claims(0xbb, 0, 0), close(FRAME_SIZE_ERROR)),
        row(
            "4.2",
            "DATA of 16,384 bytes",
            Tunnel,
            Frame::data(1, vec![7; 16_384]).bytes(),
            vec![Reaction::Data(16_384)],
        ),
        row(
            "4.2",
            "DATA of 60,000 bytes",
            Tunnel,
            Frame::data(1, vec![7; 60_000]).bytes(),
            vec![Reaction::Data(60_000)],
        ),
    ]
}

fn data() -> Vec<Case> {
    let padded = |payload: &[u8]| Frame::new(kind::DATA, flag::PADDED, 1, payload).bytes();
    let short = || [close(PROTOCOL_ERROR), close(FRAME_SIZE_ERROR)].concat();
    vec![
        row("6.1", "DATA for the connection", Greeted, Frame::data(0, b"x").bytes(), close(PROTOCOL_ERROR)),
        row("6.1", "DATA with padding", Tunnel, padded(b"\x04ping\0\0\0\0"), vec![Reaction::Data(4)]),
        row("6.1", "DATA that is padding alone", Tunnel, padded(b"\x04\0\0\0\0"), ignored()),
        row("6.1", "DATA with a padding of nothing", Tunnel, padded(b"\x00ping"), vec![Reaction::Data(4)]),
        row("6.1", "padding longer than the frame", Tunnel, padded(b"\x09ping"), close(PROTOCOL_ERROR)),
        row("6.1", "padding as long as the frame", Tunnel, padded(b"\x05ping"), close(PROTOCOL_ERROR)),
        row("6.1", "padding announced and nothing there", Tunnel, padded(b""), short()),
        row("6.1", "DATA without a byte", Tunnel, Frame::data(1, b"").bytes(), ignored()),
        row(
            "6.1",
            "the end of a stream with its last bytes",
            Tunnel,
            Frame::data(1, b"last").with_flags(flag::END_STREAM).bytes(),
            vec![Reaction::Data(4)],
        ),
    ]
}

fn headers(target: &Target) -> Vec<Case> {
    let block = || Vec::from(target.connect());
    let with = |flags, front: &[u8], back: &[u8]| {
        Frame::new(kind::HEADERS, flag::END_HEADERS | flags, 1, [front, &block(), back].concat()).bytes()
    };
    let only = |flags, payload: &[u8]| Frame::new(kind::HEADERS, flag::END_HEADERS | flags, 1, payload).bytes();
    let short = || {
        [close(PROTOCOL_ERROR), close(FRAME_SIZE_ERROR), reset(1, PROTOCOL_ERROR), reset(1, FRAME_SIZE_ERROR)].concat()
    };
    vec![
        row("6.2", "HEADERS for the connection", Greeted, Frame::headers(0, block()).bytes(), close(PROTOCOL_ERROR)),
        row("6.2", "HEADERS with padding", Greeted, with(flag::PADDED, &[3], &[0; 3]), answered(1, 200)),
        row("6.2", "HEADERS with priority", Greeted, with(flag::PRIORITY, &[0, 0, 0, 3, 200], &[]), answered(1, 200)),
        row(
            "6.2",
            "HEADERS with an exclusive priority",
            Greeted,
            with(flag::PRIORITY, &[0x80, 0, 0, 0, 0], &[]),
            answered(1, 200),
        ),
        row(
            "6.2",
            "HEADERS with padding and priority",
            Greeted,
            with(flag::PADDED | flag::PRIORITY, &[2, 0, 0, 0, 0, 9], &[0; 2]),
            answered(1, 200),
        ),
        row("6.2", "padding longer than the frame", Greeted, only(flag::PADDED, &[200, 0x82]), close(PROTOCOL_ERROR)),
        row(
            "6.2",
            "padding that reaches into the priority",
            Greeted,
            only(flag::PADDED | flag::PRIORITY, &[4, 0, 0, 0, 0, 9]),
            close(PROTOCOL_ERROR),
        ),
        row("6.2", "padding announced and nothing there", Greeted, only(flag::PADDED, &[]), short()),
        row("6.2", "priority announced and cut short", Greeted, only(flag::PRIORITY, &[0, 0, 0]), short()),
    ]
}

fn priority() -> Vec<Case> {
    let sized = |length| Frame::new(kind::PRIORITY, 0, 1, vec![0; length]).bytes();
    vec![
        row("6.3", "PRIORITY for the connection", Greeted, Frame::priority(0, 3).bytes(), close(PROTOCOL_ERROR)),
        row("6.3", "PRIORITY of 4 bytes", Tunnel, sized(4), reset(1, FRAME_SIZE_ERROR)),
        row("6.3", "PRIORITY of 6 bytes", Tunnel, sized(6), reset(1, FRAME_SIZE_ERROR)),
        row("6.3", "PRIORITY for a tunnel", Tunnel, Frame::priority(1, 0).bytes(), ignored()),
        row("6.3", "PRIORITY for an idle stream", Greeted, Frame::priority(7, 0).bytes(), ignored()),
        row("6.3", "PRIORITY for a closed stream", Closed, Frame::priority(1, 0).bytes(), ignored()),
        row(
            "5.3.1",
            "a stream that depends on itself",
            Tunnel,
            Frame::priority(1, 1).bytes(),
            [ignored(), reset(1, PROTOCOL_ERROR)].concat(),
        ),
    ]
}

fn rst_stream() -> Vec<Case> {
    let sized = |length| Frame::new(kind::RST_STREAM, 0, 1, vec![0; length]).bytes();
    vec![
        row("6.4", "RST_STREAM for the connection", Greeted, Frame::reset(0, 8).bytes(), close(PROTOCOL_ERROR)),
        row("6.4", "RST_STREAM for an idle stream", Greeted, Frame::reset(1, 8).bytes(), close(PROTOCOL_ERROR)),
        row("6.4", "RST_STREAM of 3 bytes", Tunnel, sized(3), close(FRAME_SIZE_ERROR)),
        row("6.4", "RST_STREAM of 5 bytes", Tunnel, sized(5), close(FRAME_SIZE_ERROR)),
        row("6.4", "RST_STREAM without a byte", Tunnel, sized(0), close(FRAME_SIZE_ERROR)),
        row("6.4", "RST_STREAM of a tunnel", Tunnel, Frame::reset(1, 8).bytes(), ignored()),
        row("7", "RST_STREAM with an unknown code", Tunnel, Frame::reset(1, 0xdead_beef).bytes(), ignored()),
    ]
}

fn continuation(target: &Target) -> Vec<Case> {
    let block = Vec::from(target.connect());
    let (front, back) = block.split_at(4);
    let begun = Frame::headers(1, front).with_flags(0);
    let after = |frame: Frame| bytes(&[begun.clone(), frame]);
    let one_each: Vec<Frame> = std::iter::once(begun.clone())
        .chain([Frame::continuation(1, &back[..3], false), Frame::continuation(1, &back[3..], true)])
        .collect();
    let empty = [begun.clone(), Frame::continuation(1, [], false), Frame::continuation(1, back, true)];
    let mut rows = vec![
        row("6.10", "a request in two frames", Greeted, after(Frame::continuation(1, back, true)), answered(1, 200)),
        row("6.10", "a request in three frames", Greeted, bytes(&one_each), answered(1, 200)),
        row("6.10", "CONTINUATION without a byte", Greeted, bytes(&empty), answered(1, 200)),
        row(
            "6.10",
            "a request whose block begins in CONTINUATION",
            Greeted,
            bytes(&[Frame::headers(1, []).with_flags(0), Frame::continuation(1, &block[..], true)]),
            answered(1, 200),
        ),
        row(
            "6.10",
            "CONTINUATION without HEADERS",
            Greeted,
            Frame::continuation(1, &block[..], true).bytes(),
            close(PROTOCOL_ERROR),
        ),
        row(
            "6.10",
            "CONTINUATION for the connection",
            Greeted,
            after(Frame::continuation(0, back, true)),
            close(PROTOCOL_ERROR),
        ),
        row(
            "6.10",
            "CONTINUATION for another stream",
            Greeted,
            after(Frame::continuation(3, back, true)),
            close(PROTOCOL_ERROR),
        ),
        row(
            "6.10",
            "CONTINUATION after a whole block",
            Tunnel,
            Frame::continuation(1, [], true).bytes(),
            close(PROTOCOL_ERROR),
        ),
        row(
            "6.10",
            "CONTINUATION after DATA",
            Tunnel,
            bytes(&[Frame::data(1, []), Frame::continuation(1, [], true)]),
            close(PROTOCOL_ERROR),
        ),
    ];
    let between = [
        ("DATA", Frame::data(1, b"x")),
        ("HEADERS", Frame::headers(3, &block[..])),
        ("the same HEADERS", Frame::headers(1, &block[..])),
        ("PRIORITY", Frame::priority(1, 0)),
        ("RST_STREAM", Frame::reset(1, 8)),
        ("SETTINGS", Frame::settings(&[])),
        ("PING", Frame::ping([0; 8])),
        ("GOAWAY", Frame::goaway(0, 0)),
        ("WINDOW_UPDATE", Frame::window(0, 1)),
        ("an unknown type", Frame::new(0xbb, 0, 0, [])),
    ];
    rows.extend(between.map(|(what, frame)| {
        row("6.2", format!("{what} in the middle of a block"), Greeted, after(frame), close(PROTOCOL_ERROR))
    }));
    rows
}
