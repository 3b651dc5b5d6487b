//! One connection as its streams and its driver see it: windows, streams, what waits to be sent, and whether it goes on.
//!
//! The driver's task owns the socket; everybody else changes this state and wakes the driver. All of them live on one thread,
//! so the lock is never contended and never held across a wait.

use super::{
    entry::{Answer, Goner, IdHasher, Remote, Stream},
    error::{Code, Ended},
    frame::{flag, kind, setting},
    limits::Budgets,
    output::Output,
    pending::Pending,
};
use crate::{Windows, own::message};
use http::HeaderMap;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
    task::Waker,
};
use tokio::time::Instant;

/// Header lists of answers.
pub(super) const CLIENT_HEADERS: u32 = 16 << 10;
/// Header lists of requests.
pub(super) const SERVER_HEADERS: u32 = 64 << 10;
/// Every connection's first window (RFC 9113 §6.9.2).
const FIRST_WINDOW: i64 = 65_535;
/// The largest window.
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;
/// Streams that are gone and of which the peer may still speak.
const REMEMBERED: usize = 512;

/// Which end we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What the peer's settings say.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerSettings {
    pub initial_window: i64,
    pub max_streams: usize,
    pub seen: bool,
}

/// A request that was not yet handed to anybody.
pub(super) struct Arrived {
    pub id: u32,
    pub request: message::Request,
}

/// The connection.
pub(super) struct State {
    pub side: Side,
    pub windows: Windows,
    /// Streams that the peer may open at a time.
    pub max_streams: usize,
    pub streams: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
    /// Streams that are not closed.
    pub open: usize,
    pub output: Output,
    pub send_window: i64,
    pub receive_window: i64,
    pub released: i64,
    pub peer: PeerSettings,
    /// The next id that we use.
    pub next: u32,
    /// The last id that the peer used.
    pub last_peer: u32,
    /// Streams that wait for the connection's window or for room.
    pub waiting: VecDeque<u32>,
    /// The last streams that are gone.
    gone: VecDeque<(u32, Goner)>,
    pub arrived: VecDeque<Arrived>,
    pub budgets: Budgets,
    /// The last stream that the peer handles, once it goes away.
    pub peer_goes: Option<u32>,
    /// We go away: nothing new is accepted.
    pub going: bool,
    pub ended: Option<Ended>,
    /// Handles of the client.
    pub handles: usize,
    pub cut: bool,
    pub driver: Option<Waker>,
    pub last_read: Instant,
    /// The peer has answered the PING of our farewell.
    pub farewell_heard: bool,
}

/// One connection.
pub(super) struct Link(Mutex<State>);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Link").field("side", &state.side).field("streams", &state.streams.len()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// A connection whose first frames are ready to leave.
    pub(super) fn new(side: Side, windows: Windows, max_streams: usize) -> Self {
        let mut state = State {
            side,
            windows,
            max_streams,
            streams: HashMap::default(),
            open: 0,
            output: Output::default(),
            send_window: FIRST_WINDOW,
            receive_window: FIRST_WINDOW.max(i64::from(windows.connection)),
            released: 0,
            peer: PeerSettings { initial_window: FIRST_WINDOW, max_streams, seen: false },
            next: 1,
            last_peer: 0,
            waiting: VecDeque::new(),
            gone: VecDeque::new(),
            arrived: VecDeque::new(),
            budgets: Budgets::new(),
            peer_goes: None,
            going: false,
            ended: None,
            handles: 0,
            cut: false,
            driver: None,
            last_read: Instant::now(),
            farewell_heard: false,
        };
        state.greet();
        Self(Mutex::new(state))
    }
}

impl State {
    /// Preface, SETTINGS, and the rest of the connection's window.
    fn greet(&mut self) {
        let Windows { stream, connection, frame } = self.windows;
        let (first, headers) = match self.side {
            Side::Client => ((setting::ENABLE_PUSH, 0), CLIENT_HEADERS),
            Side::Server => {
                let max_streams = u32::try_from(self.max_streams).unwrap_or(u32::MAX);
                ((setting::MAX_CONCURRENT_STREAMS, max_streams), SERVER_HEADERS)
            }
        };
        let settings = [
            first,
            (setting::INITIAL_WINDOW_SIZE, stream),
            (setting::MAX_FRAME_SIZE, frame),
            (setting::MAX_HEADER_LIST_SIZE, headers),
        ];
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        if self.side == Side::Client {
            self.output.urgent.extend_from_slice(super::frame::PREFACE);
        }
        self.output.urgent(kind::SETTINGS, 0, 0, &payload);
        if let Ok(more @ 1..) = u32::try_from(i64::from(connection) - FIRST_WINDOW) {
            self.output.urgent(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// Enters a stream.
    pub(super) fn insert(&mut self, id: u32) {
        let stream = Stream {
            send_window: self.peer.initial_window,
            receive_window: i64::from(self.windows.stream),
            released: 0,
            pending: Pending::default(),
            sink: None,
            sink_failed: None,
            reader: None,
            writer: None,
            remote: Remote::Open,
            local_ended: false,
            stopped: None,
            waits: false,
            counted: true,
            answer: Answer::Waiting,
        };
        self.open += 1;
        self.streams.insert(id, stream);
    }

    /// Counts a stream as closed if it is.
    pub(super) fn settle(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.counted
            && stream.is_closed()
        {
            stream.counted = false;
            self.open -= 1;
        }
    }

    /// Ends our direction of a stream in good order.
    pub(super) fn end_stream(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.local_ended
            && !stream.is_closed()
        {
            stream.local_ended = true;
            self.output.end(id);
            self.settle(id);
            self.wake_driver();
        }
    }

    /// Ends a stream at once, in both directions.
    pub(super) fn reset_stream(&mut self, id: u32, code: Code) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_closed() {
            return;
        }
        stream.remote = Remote::Reset(code);
        stream.local_ended = true;
        stream.wake();
        self.settle(id);
        self.send_reset(id, code);
    }

    /// Tells the peer that a stream is over, behind what was queued for it.
    pub(super) fn send_reset(&mut self, id: u32, code: Code) {
        self.output.push(kind::RST_STREAM, 0, id, &code.0.to_be_bytes());
        self.note_gone(id, Goner::EndedByUs);
        self.wake_driver();
    }

    fn note_gone(&mut self, id: u32, how: Goner) {
        if self.gone.len() == REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.push_back((id, how));
    }

    /// How a stream went, if that is not too long ago.
    pub(super) fn gone(&self, id: u32) -> Option<Goner> {
        let known = self.gone.iter().filter(|(gone, _)| *gone == id).map(|(_, how)| *how);
        known.min_by_key(|how| *how != Goner::EndedByUs)
    }

    /// Nobody holds a stream any more.
    pub(super) fn drop_stream(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        // What was left unread goes back to the connection's window: it was only taken from there.
        let unread = i64::try_from(stream.pending.len()).unwrap_or(0);
        if stream.is_closed() {
            self.note_gone(id, Goner::Ended);
        } else {
            let code = if stream.local_ended { Code::NO_ERROR } else { Code::CANCEL };
            self.reset_stream(id, code);
        }
        self.streams.remove(&id);
        self.release_connection(unread);
        if self.streams.is_empty() {
            // It may have waited for this to end.
            self.wake_driver();
        }
    }

    /// Data of a stream were handed on: the peer may send as much again.
    pub(super) fn release(&mut self, id: u32, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(MAX_WINDOW);
        let threshold = i64::from(self.windows.stream) / 2;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.released += bytes;
            if stream.released >= threshold && stream.remote == Remote::Open {
                let update = window_update(&mut stream.released, &mut stream.receive_window);
                self.output.urgent(kind::WINDOW_UPDATE, 0, id, &update);
            }
        }
        self.release_connection(bytes);
    }

    pub(super) fn release_connection(&mut self, bytes: i64) {
        self.released += bytes;
        if self.released >= i64::from(self.windows.connection) / 2 {
            let update = window_update(&mut self.released, &mut self.receive_window);
            self.output.urgent(kind::WINDOW_UPDATE, 0, 0, &update);
        }
        if !self.output.urgent.is_empty() {
            self.wake_driver();
        }
    }

    /// How much a stream may send now, as the windows and what waits already allow; who gets none is woken when there is.
    pub(super) fn room(&mut self, id: u32) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        if stream.send_window <= 0 {
            return 0;
        }
        if self.send_window <= 0 || self.output.is_full() {
            if !stream.waits {
                stream.waits = true;
                self.waiting.push_back(id);
            }
            return 0;
        }
        usize::try_from(stream.send_window.min(self.send_window)).unwrap_or(0)
    }

    /// Counts data that were queued.
    pub(super) fn sent(&mut self, id: u32, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(MAX_WINDOW);
        self.send_window -= bytes;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send_window -= bytes;
        }
        self.wake_driver();
    }

    /// Wakes those who waited for room or for the connection's window, if there is some.
    pub(super) fn wake_waiting(&mut self) {
        if self.send_window <= 0 || self.output.is_full() {
            return;
        }
        for id in std::mem::take(&mut self.waiting) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.waits = false;
                stream.wake_writer();
            }
        }
    }

    /// The connection is over: everybody learns why.
    pub(super) fn end(&mut self, why: Ended) {
        if self.ended.is_none() {
            self.ended = Some(why);
        }
        self.streams.values_mut().for_each(Stream::wake);
        self.wake_driver();
    }

    /// Tells the peer which streams will be handled and that no more will be.
    pub(super) fn go_away(&mut self, last: u32, code: Code, why: &str) {
        let payload = [&last.to_be_bytes()[..], &code.0.to_be_bytes(), why.as_bytes()].concat();
        self.output.urgent(kind::GOAWAY, 0, 0, &payload);
        self.wake_driver();
    }

    /// Answers a request.
    pub(super) fn respond(&mut self, id: u32, status: u16, headers: &HeaderMap, end: bool) {
        let mut block = Vec::with_capacity(256);
        message::response(&mut block, status, headers);
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        self.headers(id, flags, &block);
        if end && let Some(stream) = self.streams.get_mut(&id) {
            stream.local_ended = true;
            self.settle(id);
        }
        self.wake_driver();
    }

    /// A header block, in as many frames as it needs.
    pub(super) fn headers(&mut self, id: u32, flags: u8, block: &[u8]) {
        const MOST: usize = 16 << 10;
        let (first, rest) = block.split_at(block.len().min(MOST));
        let last = |rest: &[u8]| if rest.is_empty() { flag::END_HEADERS } else { 0 };
        self.output.urgent(kind::HEADERS, flags & !flag::END_HEADERS | last(rest), id, first);
        let mut parts = rest.chunks(MOST).peekable();
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
            self.output.urgent(kind::CONTINUATION, end, id, part);
        }
    }
}

/// Turns what was released into the payload of a WINDOW_UPDATE.
fn window_update(released: &mut i64, window: &mut i64) -> [u8; 4] {
    let bytes = std::mem::take(released);
    *window += bytes;
    u32::try_from(bytes).unwrap_or(u32::MAX >> 1).to_be_bytes()
}
