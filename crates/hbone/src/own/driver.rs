//! The one task of a connection: it alone has the socket. It reads while there is something, writes what waits, and ends
//! when nobody needs the connection or nothing more can come of it.

use super::{
    delivery::Delivery,
    error::{Code, Ended, Fault},
    frame::kind,
    input::{ARE_YOU_THERE, FAREWELL, Input},
    link::{Link, Side, State},
};
use crate::{
    carrier::{Carrier, Duplex},
    liveness::{INTERVAL, PATIENCE},
};
use identity::tls::record::{Content, HEADER, Records};
use std::{
    cell::Cell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep, sleep},
};

/// What one read takes; only as much of it is touched as there is to read.
const READ: usize = 256 << 10;
/// Reads before others on the thread have their turn.
const READS: usize = 4;
/// How long the last frames may take to leave.
const LINGER: Duration = Duration::from_millis(200);

thread_local! {
    static RECEIVED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Where the connection is in its life.
enum Stage {
    Running,
    /// What waits is still sent, until then.
    Leaving(Ended, Pin<Box<Sleep>>),
    Over,
}

/// The task.
pub(super) struct Driver {
    io: Box<dyn Duplex>,
    records: Option<Box<Records>>,
    input: Input,
    /// The beginning of a record whose end has not come.
    rest: Vec<u8>,
    /// `rest` was filled by somebody else and has to be looked at.
    early: bool,
    link: Arc<Link>,
    side: Side,
    timer: Pin<Box<Sleep>>,
    /// When the unanswered PING left.
    asked: Option<Instant>,
    stage: Stage,
}

impl Driver {
    pub(super) fn new(carrier: Carrier, link: Arc<Link>, side: Side, max_frame: u32) -> Self {
        let Carrier { io, records, early } = carrier;
        Self {
            io,
            records,
            input: Input::new(side, max_frame),
            early: !early.is_empty(),
            rest: early,
            link,
            side,
            timer: Box::pin(sleep(INTERVAL)),
            asked: None,
            stage: Stage::Running,
        }
    }

    /// Goes on until the connection is over. A server is woken for requests that have arrived, too.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let link = Arc::clone(&self.link);
        let mut state = link.lock();
        super::entry::remember(&mut state.driver, cx);
        if matches!(self.stage, Stage::Running)
            && let Err(ended) = self.run(cx, &mut state)
        {
            self.leave(&mut state, ended);
        }
        let Stage::Leaving(_, deadline) = &mut self.stage else { return Poll::Pending };
        let late = deadline.as_mut().poll(cx).is_ready();
        let sent = state.output.poll_flush(cx, &mut *self.io, self.records.as_deref_mut());
        if sent.is_pending() && !late {
            return Poll::Pending;
        }
        drop(state);
        self.finish(cx)
    }

    fn run(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<(), Ended> {
        let mut reads = 0;
        loop {
            let sent = state.output.poll_flush(cx, &mut *self.io, self.records.as_deref_mut())?;
            state.wake_waiting();
            if state.output.is_clogged() && sent.is_pending() {
                break;
            }
            if reads == READS {
                cx.waker().wake_by_ref();
                break;
            }
            match self.read(cx, state) {
                Poll::Ready(read) => read?,
                Poll::Pending if state.output.is_empty() || sent.is_pending() => break,
                // Reading has made something to send.
                Poll::Pending => {}
            }
            reads += 1;
        }
        self.watch(cx, state)?;
        self.look_around(state)
    }

    /// Whether there is a reason to go.
    fn look_around(&self, state: &State) -> Result<(), Ended> {
        if state.cut {
            return Err(Ended::Cut);
        }
        let unused = state.streams.is_empty() && state.arrived.is_empty() && state.output.is_empty();
        let done = match self.side {
            Side::Client => state.handles == 0 || state.peer_goes.is_some(),
            Side::Server => state.going,
        };
        if unused && done { Err(Ended::Closed) } else { Ok(()) }
    }

    /// Silence is answered with a PING, and more of it with the end (ztunnel.md §4.4).
    fn watch(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<(), Ended> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = match self.asked {
                Some(asked) if state.last_read >= asked => {
                    self.asked = None;
                    state.last_read + INTERVAL
                }
                Some(asked) => asked + PATIENCE,
                None => state.last_read + INTERVAL,
            };
            let now = Instant::now();
            if due > now {
                self.timer.as_mut().reset(due);
                continue;
            }
            if self.asked.is_some() {
                return Err(Ended::Silent);
            }
            state.output.urgent(kind::PING, 0, 0, &ARE_YOU_THERE);
            self.asked = Some(now);
            self.timer.as_mut().reset(now + PATIENCE);
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Reads once and takes in what came.
    fn read(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Result<(), Ended>> {
        let mut buffer = RECEIVED.take();
        buffer.resize(READ, 0);
        let outcome = self.read_into(cx, state, &mut buffer);
        RECEIVED.set(buffer);
        outcome
    }

    fn read_into(&mut self, cx: &mut Context<'_>, state: &mut State, buffer: &mut [u8]) -> Poll<Result<(), Ended>> {
        let held = self.rest.len();
        buffer[..held].copy_from_slice(&self.rest);
        let mut read = 0;
        if !std::mem::take(&mut self.early) {
            let mut space = ReadBuf::new(&mut buffer[held..]);
            ready!(Pin::new(&mut *self.io).poll_read(cx, &mut space)).map_err(|error| Ended::Io(Arc::new(error)))?;
            read = space.filled().len();
            if read == 0 {
                return Poll::Ready(Err(self.end_of_file(state)));
            }
            state.last_read = Instant::now();
        }
        let filled = held + read;
        let opened = self.open(&mut buffer[..filled])?;
        self.rest.clear();
        self.rest.extend_from_slice(&buffer[opened.end..filled]);
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        let mut delivery = Delivery::new();
        for (start, length) in opened.data {
            let taken = self.input.take(state, &buffer[start..start + length], &mut delivery);
            taken.map_err(|fault| tell(state, &fault))?;
        }
        delivery.flush(state);
        Poll::Ready(if opened.closed { Err(self.end_of_file(state)) } else { Ok(()) })
    }

    /// Opens the whole records of a buffer in place.
    fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, Ended> {
        let mut opened = Opened::default();
        let Some(records) = self.records.as_deref_mut() else {
            opened.data.push((0, buffer.len()));
            opened.end = buffer.len();
            return Ok(opened);
        };
        while let Some(length) = Records::record_length(&buffer[opened.end..])? {
            let Some(record) = buffer.get_mut(opened.end..opened.end + length) else { break };
            match records.open(record)? {
                Content::Data(length) => opened.data.push((opened.end + HEADER, length)),
                Content::Nothing => {}
                Content::Closed => {
                    opened.closed = true;
                    opened.end = buffer.len();
                    break;
                }
            }
            opened.end += length;
        }
        Ok(opened)
    }

    /// The peer sends no more: in order if nothing is open.
    fn end_of_file(&self, state: &State) -> Ended {
        if state.open == 0 { Ended::Closed } else { Ended::Io(Arc::new(std::io::ErrorKind::UnexpectedEof.into())) }
    }

    /// Tells everybody that it is over; the peer is told why, if it can still hear.
    fn leave(&mut self, state: &mut State, ended: Ended) {
        match &ended {
            Ended::Closed | Ended::Cut | Ended::Silent => {
                let last = state.last_peer;
                state.go_away(last, Code::NO_ERROR, "");
            }
            _ => {}
        }
        state.end(ended.clone());
        self.stage = Stage::Leaving(ended, Box::pin(sleep(LINGER)));
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Some(Ok(notify)) = self.records.as_deref_mut().map(Records::close_notify) {
            // A socket that takes it not at once takes it never.
            let _sent = Pin::new(&mut *self.io).poll_write(cx, &notify);
        }
        // The peer may have gone already.
        let _shut = Pin::new(&mut *self.io).poll_shutdown(cx);
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Leaving(ended, _) => Poll::Ready(ended),
            Stage::Running | Stage::Over => Poll::Pending,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Whoever gave the connection up has not told its streams.
        self.link.lock().end(Ended::Cut);
    }
}

/// What lay in a buffer.
#[derive(Default)]
struct Opened {
    /// Where plaintext begins, and how long it is.
    data: Vec<(usize, usize)>,
    /// Behind the last whole record.
    end: usize,
    closed: bool,
}

/// Sends the GOAWAY of a fault.
fn tell(state: &mut State, fault: &Fault) -> Ended {
    let (code, why) = match fault {
        Fault::Connection(code, why) => (*code, *why),
        // Those are dealt with where they occur.
        Fault::Stream(_, code) => (*code, "a stream broke the rules"),
    };
    let last = state.last_peer;
    state.go_away(last, code, why);
    Ended::Broken(code.0, why)
}

/// Goes away in two steps (RFC 9113 §6.8): first nothing is refused, then nothing more is taken.
pub(super) fn begin_farewell(state: &mut State) {
    state.go_away(u32::MAX >> 1, Code::NO_ERROR, "");
    state.output.urgent(kind::PING, 0, 0, &FAREWELL);
    state.wake_driver();
}

/// The second step.
pub(super) fn say_farewell(state: &mut State) {
    if !state.going {
        state.going = true;
        let last = state.last_peer;
        state.go_away(last, Code::NO_ERROR, "");
    }
}
