//! What a server of tunnels must do with what it is sent, by clause of RFC 9113 and RFC 7541.
//!
//! A row is the clause, what is sent and in which state of the connection, and every reaction that the clause leaves open: an
//! endpoint may treat a stream's error as the connection's (RFC 9113 §5.4.1), so where it says that, both stand.

mod control;
mod frames;
mod hpack;
mod messages;
mod streams;

use super::{code, hpack::Block};

/// Where a server under test has applications.
#[derive(Debug, Clone)]
pub struct Target {
    /// Sends back what it gets, and ends when its client does.
    pub echo: String,
    /// Takes what it gets, and never ends.
    pub hold: String,
}

/// What has happened on a connection before a case's bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing.
    Raw,
    /// Preface and SETTINGS of both sides.
    Greeted,
    /// Stream 1 is a tunnel to the echo.
    Tunnel,
    /// Stream 1 is a tunnel that the client has ended and the server has not.
    HalfClosed,
    /// Stream 1 has been ended by both.
    Closed,
    /// Stream 1 was a tunnel, and the client has reset it.
    Reset,
}

/// What a server may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// GOAWAY with this code, then the end.
    Close(u32),
    /// The end without a word: only where nothing proves that the peer speaks HTTP/2.
    End,
    /// RST_STREAM of this stream with this code, and everything else goes on.
    Reset(u32, u32),
    /// An answer on this stream with this status, and everything else goes on.
    Answer(u32, u16),
    /// This many bytes of DATA on stream 1, and no more.
    Data(usize),
    /// Nothing that is to be seen, and everything goes on.
    Ignore,
}

/// One row.
#[derive(Debug, Clone)]
pub struct Case {
    /// The clause: of RFC 9113, or with `7541` in front.
    pub clause: &'static str,
    /// What is sent.
    pub what: String,
    /// When.
    pub stage: Stage,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Every reaction that is right.
    pub right: Vec<Reaction>,
}

/// Every row.
pub fn all(target: &Target) -> Vec<Case> {
    [frames::rows(target), control::rows(target), streams::rows(target), messages::rows(target), hpack::rows(target)]
        .concat()
}

fn row(
    clause: &'static str,
    what: impl Into<String>,
    stage: Stage,
    bytes: impl Into<Vec<u8>>,
    right: impl Into<Vec<Reaction>>,
) -> Case {
    Case { clause, what: what.into(), stage, bytes: bytes.into(), right: right.into() }
}

/// A connection's error.
fn close(code: u32) -> Vec<Reaction> {
    vec![Reaction::Close(code)]
}

/// A stream's error, which may be made the connection's.
fn reset(stream: u32, code: u32) -> Vec<Reaction> {
    vec![Reaction::Reset(stream, code), Reaction::Close(code)]
}

/// A malformed request: the stream's error, or an answer that says so (§8.1.1).
fn malformed(stream: u32) -> Vec<Reaction> {
    [reset(stream, code::PROTOCOL_ERROR), vec![Reaction::Answer(stream, 400)]].concat()
}

fn ignored() -> Vec<Reaction> {
    vec![Reaction::Ignore]
}

fn answered(stream: u32, status: u16) -> Vec<Reaction> {
    vec![Reaction::Answer(stream, status)]
}

impl Target {
    fn connect(&self) -> Block {
        Block::connect(&self.echo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_enough_rows_and_none_is_there_twice() {
        let rows = all(&Target { echo: "10.0.0.2:8080".to_owned(), hold: "10.0.0.2:8081".to_owned() });
        assert!(rows.len() >= 150, "{}", rows.len());
        let names: BTreeSet<_> = rows.iter().map(|row| (row.clause, &row.what)).collect();
        assert_eq!(names.len(), rows.len());
    }
}
