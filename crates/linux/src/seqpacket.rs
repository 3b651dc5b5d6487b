//! Unix sockets that keep message borders (SOCK_SEQPACKET), with descriptors passed along, for a tokio runtime.
//! One send is one message is one receive. Descriptors arrive close-on-exec. A message that does not fit, or whose
//! descriptors do not, is an error: half of a message is never handed on.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, listen, recvmsg, sendmsg, socket, socketpair,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Doing, Result};
use crate::watch::watch;

/// The most descriptors that the kernel lets one message carry (SCM_MAX_FD).
const MAX_FDS: usize = 253;

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// Waits for peers at a path. The path stays when the listener goes: a successor may have taken it over.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
}

impl Listener {
    /// Listens at `path`, replacing a socket left there by a predecessor. Must be called within a tokio runtime.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let doing = || format!("listen on the socket {}", path.display());
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing(doing),
            _ => {}
        }
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None).doing(doing)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path).doing(doing)?).doing(doing)?;
        listen(&fd, Backlog::new(128).doing(doing)?).doing(doing)?;
        let fd = watch(fd, Interest::READABLE).doing(doing)?;
        Ok(Self { fd })
    }

    /// Listens at `path`, for processes of the user `uid` alone (and for root).
    pub fn bind_for(path: impl AsRef<Path>, uid: u32) -> Result<Self> {
        let path = path.as_ref();
        let doing = || format!("hand the socket {} to user {uid}", path.display());
        let listener = Self::bind(path)?;
        nix::unistd::chown(path, Some(nix::unistd::Uid::from_raw(uid)), None).doing(doing)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).doing(doing)?;
        Ok(listener)
    }

    /// Takes over a socket on which an earlier program of this process listened. Must be called within a tokio runtime.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Ok(Self { fd: watch(fd, Interest::READABLE).doing(|| "take over a listening socket")? })
    }

    /// Waits for the next peer.
    pub async fn accept(&self) -> io::Result<Stream> {
        let accepted =
            self.fd.async_io(Interest::READABLE, |fd| accept4(fd.as_raw_fd(), FLAGS).map_err(io::Error::from)).await?;
        // SAFETY: accept4 has just returned this descriptor and nothing else knows it.
        Stream::new(unsafe { OwnedFd::from_raw_fd(accepted) })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

/// What one receive brought.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the message; 0 when the peer has closed.
    pub len: usize,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// One end of a conversation.
#[derive(Debug)]
pub struct Stream {
    fd: AsyncFd<OwnedFd>,
}

impl Stream {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watch(fd, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// Connects to the listener at `path`.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let doing = || format!("connect to the socket {}", path.display());
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None).doing(doing)?;
        // Connecting to a unix socket never waits, except for a full backlog, which reads as EAGAIN: try again later.
        connect(fd.as_raw_fd(), &UnixAddr::new(path).doing(doing)?).doing(doing)?;
        Self::new(fd).doing(doing)
    }

    /// Two connected ends.
    pub fn pair() -> Result<(Self, Self)> {
        let doing = || "make a pair of sockets";
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, FLAGS).doing(doing)?;
        Ok((Self::new(a).doing(doing)?, Self::new(b).doing(doing)?))
    }

    /// Sends one message with descriptors attached.
    pub async fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let sent = self.fd.async_io(Interest::WRITABLE, |fd| {
            let slices = [IoSlice::new(message)];
            sendmsg::<()>(fd.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None).map_err(io::Error::from)
        });
        match sent.await? {
            len if len == message.len() => Ok(()),
            len => Err(io::Error::new(io::ErrorKind::WriteZero, format!("only {len} of {} bytes went", message.len()))),
        }
    }

    /// Receives one message into `buffer`.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Interest::READABLE, |fd| recv_once(fd, buffer)).await
    }

    /// The user at the other end, as the kernel recorded it at connect.
    pub fn peer_uid(&self) -> io::Result<u32> {
        let credentials = nix::sys::socket::getsockopt(&self.fd, nix::sys::socket::sockopt::PeerCredentials)?;
        Ok(credentials.uid())
    }

    /// Takes over one end that an earlier program of this process had. Must be called within a tokio runtime.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::new(fd).doing(|| "take over a socket")
    }

    /// The process at the other end, as the kernel recorded it at connect.
    pub fn peer_pid(&self) -> io::Result<i32> {
        let credentials = nix::sys::socket::getsockopt(&self.fd, nix::sys::socket::sockopt::PeerCredentials)?;
        Ok(credentials.pid())
    }
}

fn recv_once(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(fd.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    // Collected before anything is judged, so that what came is closed when the message is refused.
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just installed these descriptors for us and nothing else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message did not fit the buffer"));
    }
    Ok(Received { len: message.bytes, fds })
}
