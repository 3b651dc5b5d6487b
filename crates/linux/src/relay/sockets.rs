//! The relay between two TCP sockets: small messages by way of a buffer of the thread, bulk by `splice`, so that its bytes never
//! come to user space. An idle pair of sockets holds neither buffer nor pipe.

use super::{Failure, Moved, Side};
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, ErrorKind},
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, ready},
};
use tokio::{io::Interest, net::TcpStream};

/// What the thread's buffer takes at a time.
const BUFFER: usize = 64 << 10;
/// Full buffers in a row after which bytes are spliced.
const FULL_READS: u8 = 2;
/// What a pipe is asked to hold.
const PIPE: i32 = 256 << 10;
/// Spliced at once; less than [`SMALL`] for a while ends splicing.
const SPLICED: usize = 1 << 20;
const SMALL: usize = 16 << 10;
const SMALL_READS: u8 = 8;
/// Pipes that a thread keeps for the next bulk.
const KEPT: usize = 8;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// An empty pipe, or one on its way through.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(kept) = PIPES.with_borrow_mut(Vec::pop) {
            return Ok(kept);
        }
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A smaller one does as well.
        let _smaller = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self { read, write })
    }

    /// Keeps an empty pipe.
    fn keep(self) {
        PIPES.with_borrow_mut(|pipes| {
            if pipes.len() < KEPT {
                pipes.push(self);
            }
        });
    }
}

/// Moves bytes both ways between two sockets until both directions have ended, or one socket fails.
pub async fn relay_sockets(first: &TcpStream, second: &TcpStream, moved: &impl Moved) -> Result<(), Failure> {
    let forward_moved = |bytes| moved.forward(bytes);
    let backward_moved = |bytes| moved.backward(bytes);
    let mut forward = Way::new(first, second, Side::First, Side::Second);
    let mut backward = Way::new(second, first, Side::Second, Side::First);
    poll_fn(|cx| {
        let there = forward.poll(cx, &forward_moved)?;
        let back = backward.poll(cx, &backward_moved)?;
        if there.is_ready() && back.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if there.is_ready() || back.is_ready() {
            moved.half_closed();
        }
        Poll::Pending
    })
    .await
}

/// One direction.
struct Way<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    sides: (Side, Side),
    /// Read and not yet written, from `start` on.
    held: Vec<u8>,
    start: usize,
    pipe: Option<Pipe>,
    in_pipe: usize,
    /// Full reads in a row, or small ones while splicing.
    streak: u8,
    /// Splicing does not work between these sockets.
    copies: bool,
    read_ended: bool,
    ended: bool,
}

impl<'a> Way<'a> {
    fn new(from: &'a TcpStream, to: &'a TcpStream, reads: Side, writes: Side) -> Self {
        Self {
            from,
            to,
            sides: (reads, writes),
            held: Vec::new(),
            start: 0,
            pipe: None,
            in_pipe: 0,
            streak: 0,
            copies: false,
            read_ended: false,
            ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: &impl Fn(u64)) -> Poll<Result<(), Failure>> {
        while !self.ended {
            if self.start < self.held.len() || self.in_pipe > 0 {
                ready!(self.drain(cx)).map_err(|source| self.failure(false, source))?;
            } else if self.read_ended {
                // A socket that is gone already needs no end.
                let _gone = socket2::SockRef::from(self.to).shutdown(Shutdown::Write);
                self.ended = true;
            } else {
                ready!(self.from.poll_read_ready(cx)).map_err(|source| self.failure(true, source))?;
                let read = if self.pipe.is_some() { self.splice_in() } else { self.read() };
                match read {
                    Ok(0) => self.read_ended = true,
                    Ok(bytes) => moved(bytes as u64),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(self.failure(true, error))),
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn failure(&self, reading: bool, source: io::Error) -> Failure {
        Failure { side: if reading { self.sides.0 } else { self.sides.1 }, reading, source }
    }

    /// Reads into the thread's buffer and writes at once; what does not fit is held.
    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = SCRATCH.take();
        buffer.resize(BUFFER, 0);
        let outcome = self.read_into(&mut buffer);
        SCRATCH.set(buffer);
        outcome
    }

    fn read_into(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.try_read(buffer)?;
        if read == 0 {
            return Ok(0);
        }
        if read < buffer.len() {
            self.streak = 0;
            // The socket is empty: that need not be asked of it.
            let empty = || Err::<(), _>(ErrorKind::WouldBlock.into());
            let _empty = self.from.try_io(Interest::READABLE, empty);
        } else {
            self.streak += 1;
        }
        // A failure is seen again when what is held is written.
        let written = self.to.try_write(&buffer[..read]).unwrap_or(0);
        if written < read {
            self.held = buffer[written..read].to_vec();
            self.start = 0;
        }
        if self.streak >= FULL_READS && !self.copies {
            self.streak = 0;
            self.pipe = Pipe::take().ok();
        }
        Ok(read)
    }

    fn splice_in(&mut self) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(ErrorKind::WouldBlock.into()) };
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let spliced = self
            .from
            .try_io(Interest::READABLE, || Ok(splice(self.from.as_fd(), None, &pipe.write, None, SPLICED, flags)?));
        match &spliced {
            Ok(read) => {
                self.in_pipe = *read;
                self.streak = if *read < SMALL { self.streak + 1 } else { 0 };
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.copies = true;
                self.stop_splicing();
                return Err(ErrorKind::WouldBlock.into());
            }
            Err(_) => {}
        }
        if self.in_pipe == 0 && (spliced.is_err() || self.streak >= SMALL_READS) {
            self.stop_splicing();
        }
        spliced
    }

    fn stop_splicing(&mut self) {
        self.streak = 0;
        if let Some(pipe) = self.pipe.take() {
            pipe.keep();
        }
    }

    /// Writes what was read before.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.to.poll_write_ready(cx))?;
        let written = match &self.pipe {
            Some(pipe) if self.in_pipe > 0 => {
                let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
                let spliced = self.to.try_io(Interest::WRITABLE, || {
                    Ok(splice(&pipe.read, None, self.to.as_fd(), None, self.in_pipe, flags)?)
                });
                spliced.inspect(|written| self.in_pipe -= written)
            }
            _ => self.to.try_write(&self.held[self.start..]).inspect(|written| self.start += written),
        };
        match written {
            Ok(0) => Poll::Ready(Err(ErrorKind::WriteZero.into())),
            Ok(_) => {
                if self.start == self.held.len() && self.start > 0 {
                    (self.held, self.start) = (Vec::new(), 0);
                }
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        // Only an empty pipe may serve others.
        if self.in_pipe == 0 {
            self.stop_splicing();
        }
    }
}
