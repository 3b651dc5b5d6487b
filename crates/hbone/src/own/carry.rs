//! Bytes between a tunnel and a TCP socket without a detour: what comes from the socket is read into the record that will
//! carry it, and what comes from the tunnel is written from where its record was opened.

use super::{
    entry::{Progress, Sink, remember},
    link::State,
    output::BATCH,
    stream::{OwnStream, reading, writing},
};
use crate::stream::{CarryError, End};
use std::{
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{io::Interest, net::TcpStream};

/// Pieces in one write.
const PIECES: usize = 64;

/// Takes the sink away again, whatever ends the relay.
struct Carried<'a> {
    stream: &'a OwnStream,
    socket: &'a Arc<TcpStream>,
    progress: &'a Arc<dyn Progress>,
    /// Records that the next read may fill: more after full ones.
    records: usize,
    sending: bool,
    receiving: bool,
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.link.lock().streams.get_mut(&self.stream.id) {
            stream.sink = None;
        }
    }
}

impl OwnStream {
    /// Moves bytes both ways until both directions have ended, or one end fails.
    pub(crate) async fn carry(&self, socket: &Arc<TcpStream>, progress: &Arc<dyn Progress>) -> Result<(), CarryError> {
        if let Some(stream) = self.link.lock().streams.get_mut(&self.id) {
            let sink = Sink { socket: Arc::clone(socket), progress: Arc::clone(progress) };
            stream.sink = Some(Box::new(sink));
        }
        let mut carried = Carried { stream: self, socket, progress, records: 1, sending: true, receiving: true };
        poll_fn(|cx| carried.poll(cx)).await
    }
}

impl Carried<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarryError>> {
        let mut state = self.stream.link.lock();
        if self.receiving && self.receive(cx, &mut state)?.is_ready() {
            self.receiving = false;
        }
        if self.sending && self.send(cx, &mut state)?.is_ready() {
            self.sending = false;
        }
        if !self.receiving && !self.sending {
            return Poll::Ready(Ok(()));
        }
        if self.receiving != self.sending {
            self.progress.half_closed();
        }
        Poll::Pending
    }

    /// From the tunnel to the socket: what could not be written on arrival, and the end.
    fn receive(&self, cx: &mut Context<'_>, state: &mut State) -> Result<Poll<()>, CarryError> {
        let id = self.stream.id;
        loop {
            let Some(stream) = state.streams.get_mut(&id) else { return Err(tunnel(ErrorKind::NotConnected.into())) };
            remember(&mut stream.reader, cx);
            if let Some(kind) = stream.sink_failed {
                return Err(of_socket(false, kind.into()));
            }
            if stream.pending.is_empty() {
                let Some(stream) = state.streams.get(&id) else { return Ok(Poll::Pending) };
                return match reading(state, stream) {
                    Poll::Pending => Ok(Poll::Pending),
                    Poll::Ready(Err(error)) => Err(tunnel(error)),
                    Poll::Ready(Ok(())) => {
                        // A socket that is gone already needs no end.
                        let _gone = socket2::SockRef::from(&**self.socket).shutdown(std::net::Shutdown::Write);
                        Ok(Poll::Ready(()))
                    }
                };
            }
            match self.socket.poll_write_ready(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(error)) => return Err(of_socket(false, error)),
                Poll::Ready(Ok(())) => {}
            }
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = stream.pending.slices(&mut slices);
            match self.socket.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    stream.pending.consume(written);
                    self.progress.to_socket(written as u64);
                    state.release(id, written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(of_socket(false, error)),
            }
        }
    }

    /// From the socket to the tunnel.
    fn send(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<Poll<()>, CarryError> {
        let id = self.stream.id;
        loop {
            let Some(stream) = state.streams.get_mut(&id) else { return Err(tunnel(ErrorKind::NotConnected.into())) };
            remember(&mut stream.writer, cx);
            let Some(stream) = state.streams.get(&id) else { return Ok(Poll::Pending) };
            let stopped = writing(state, stream);
            let room = if stopped.is_ok() { state.room(id) } else { 1 };
            if room == 0 {
                return Ok(Poll::Pending);
            }
            match self.socket.poll_read_ready(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(error)) => return Err(of_socket(true, error)),
                Poll::Ready(Ok(())) => {}
            }
            let socket = self.socket;
            if let Err(error) = stopped {
                // A tunnel that takes no more matters only when there is something to send.
                match socket.try_read(&mut [0]) {
                    Ok(0) => return Ok(Poll::Ready(())),
                    Ok(_) => return Err(tunnel(error)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(of_socket(true, error)),
                }
            }
            match state.output.fill(id, room, self.records, |slices| socket.try_read_vectored(slices)) {
                Ok((0, _)) => {
                    state.end_stream(id);
                    return Ok(Poll::Ready(()));
                }
                Ok((read, full)) => {
                    self.records = if full { (self.records * 4).min(BATCH) } else { read / super::output::FULL + 1 };
                    if !full {
                        // The socket is empty: that need not be asked of it.
                        let empty = || Err::<(), _>(ErrorKind::WouldBlock.into());
                        let _empty = socket.try_io(Interest::READABLE, empty);
                    }
                    self.progress.to_tunnel(read as u64);
                    state.sent(id, read);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(of_socket(true, error)),
            }
        }
    }
}

fn of_socket(reading: bool, source: io::Error) -> CarryError {
    CarryError { end: End::Socket, reading, source }
}

fn tunnel(source: io::Error) -> CarryError {
    CarryError { end: End::Tunnel, reading: true, source }
}
