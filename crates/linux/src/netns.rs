//! Network namespaces, held by descriptor and never by name.
//! A [`NetNs`] is a reference-counted descriptor with the namespace's identity (device and inode of its file). The
//! only way to act inside one is [`NetNs::run`]: a closure that cannot await, on this thread, with the way back
//! guaranteed. Sockets made in the closure stay in the namespace whoever uses them later.

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Doing, Error, Result};

/// What tells one network namespace from another: the device and inode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetNsId {
    /// The device of the namespace file system.
    pub device: u64,
    /// The inode of the namespace.
    pub inode: u64,
}

impl fmt::Display for NetNsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// A network namespace, kept alive by the descriptor held here.
#[derive(Debug, Clone)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
    id: NetNsId,
}

thread_local! {
    /// Where this thread lives. Every excursion ends here, so it is looked up once.
    static HOME: OnceCell<NetNs> = const { OnceCell::new() };
}

impl NetNs {
    /// Opens the namespace behind a path such as `/proc/1234/ns/net` or `/var/run/netns/blue`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).doing(|| format!("open the network namespace {}", path.display()))?;
        Self::from_fd(file.into())
    }

    /// The namespace of the process `pid`.
    pub fn of_process(pid: u32) -> Result<Self> {
        Self::open(PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// Takes a descriptor that somebody handed over. Whether it is a network namespace is checked here.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let doing = || "use a descriptor as a network namespace";
        // SAFETY: NS_GET_NSTYPE takes no argument and only reads the kernel's record of the descriptor.
        let kind = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&fd), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(Error::malformed(doing(), "the descriptor is something else"));
        }
        let stat = nix::sys::stat::fstat(&fd).doing(doing)?;
        Ok(Self { fd: Arc::new(fd), id: NetNsId { device: stat.st_dev, inode: stat.st_ino } })
    }

    /// The namespace this thread is in.
    pub fn current() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// A new, empty namespace that exists only as long as its descriptors: no name, nothing left on disk.
    /// Nothing in it is up, not even the loopback.
    pub fn new_anonymous() -> Result<Self> {
        // A scratch thread makes it, so that no thread of the caller is ever away from home.
        let made = std::thread::Builder::new().name("netns".to_owned()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).doing(|| "make a network namespace")?;
            Self::current()
        });
        let thread = made.doing(|| "start a thread to make a network namespace")?;
        thread.join().map_err(|_| Error::malformed("make a network namespace", "the scratch thread panicked"))?
    }

    /// What tells this namespace from others.
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// A second, owned descriptor, for handing over to another process.
    pub fn try_clone_fd(&self) -> Result<OwnedFd> {
        self.fd.try_clone().doing(|| format!("duplicate the descriptor of {}", self.id))
    }

    /// Runs `act` inside the namespace and comes back. Blocking work is fine if short; awaiting is impossible.
    /// A thread that could not come back would do everything after in the wrong place, so the process ends then.
    pub fn run<T>(&self, act: impl FnOnce() -> T) -> Result<T> {
        let home = home()?;
        if home.id == self.id {
            return Ok(act());
        }
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET).doing(|| format!("enter the network namespace {}", self.id))?;
        let _way_back = WayBack(home);
        Ok(act())
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for NetNs {}

const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

fn home() -> Result<NetNs> {
    HOME.with(|cell| {
        if let Some(home) = cell.get() {
            return Ok(home.clone());
        }
        let home = NetNs::current()?;
        Ok(cell.get_or_init(|| home).clone())
    })
}

/// Brings the thread home when dropped, also when the closure panics.
struct WayBack(NetNs);

impl Drop for WayBack {
    fn drop(&mut self) {
        if let Err(error) = setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET) {
            tracing::error!("could not leave a network namespace: {error}; ending before anything happens in it");
            std::process::abort();
        }
    }
}
