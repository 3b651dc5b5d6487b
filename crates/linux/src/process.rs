//! Child processes with namespaces of their own, waited for without signals.
//! A child inherits the namespaces of the thread that starts it, so one thread of ours exists to start children: it
//! goes where the child shall live, prepares the place with ordinary code (no tightrope between fork and exec),
//! starts the child and comes back. That thread lives as long as the process, which also gives PR_SET_PDEATHSIG
//! (bound to the starting *thread*) the meaning people expect.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Doing, Error, Result};
use crate::mount::MountNs;
use crate::netns::NetNs;
use crate::seccomp::Filter;
use crate::watch::watch;

mod own;
mod spawner;
mod supervise;

pub use nix::sys::signal::Signal;
pub use own::{
    Namespaces, become_user, die_with_parent, join, kill_group, new_session, replace, set_hostname, settle, unshare,
};
pub use supervise::supervise;

/// Which namespace of a kind the child lives in.
#[derive(Debug, Default)]
pub enum Place<T> {
    /// The same as this process.
    #[default]
    Same,
    /// A new one.
    New,
    /// An existing one.
    Join(T),
}

type SetUp = Box<dyn FnOnce() -> Result<()> + Send>;

/// A child to be.
pub struct Command {
    inner: std::process::Command,
    program: OsString,
    net: Option<NetNs>,
    mount: Place<MountNs>,
    new_pid: bool,
    hostname: Option<String>,
    set_up: Option<SetUp>,
    die_with_parent: bool,
    mount_proc: bool,
    new_session: bool,
    filter: Option<Filter>,
    fds: Vec<(OwnedFd, RawFd)>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command").field("inner", &self.inner).field("net", &self.net).finish_non_exhaustive()
    }
}

impl Command {
    /// A child that runs `program`, with this process's environment, until told otherwise.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            inner: std::process::Command::new(&program),
            program: program.as_ref().to_owned(),
            net: None,
            mount: Place::Same,
            new_pid: false,
            hostname: None,
            set_up: None,
            die_with_parent: false,
            mount_proc: false,
            new_session: false,
            filter: None,
            fds: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.inner.args(args);
        self
    }

    /// Names the child (argv\[0\]) differently from its program.
    #[must_use]
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.inner.arg0(name);
        self
    }

    /// Forgets the inherited environment.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.inner.env_clear();
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs(mut self, vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        self.inner.envs(vars);
        self
    }

    /// Starts in `dir`, as the child's mount namespace sees it.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.inner.current_dir(dir);
        self
    }

    /// Runs as another user and group.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.inner.gid(gid).uid(uid);
        self
    }

    /// Where standard input, output and error go.
    #[must_use]
    pub fn stdio(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Self {
        self.inner.stdin(stdin).stdout(stdout).stderr(stderr);
        self
    }

    /// Lives in this network namespace.
    #[must_use]
    pub fn net(mut self, ns: NetNs) -> Self {
        self.net = Some(ns);
        self
    }

    /// Lives in this mount namespace.
    #[must_use]
    pub fn mount(mut self, place: Place<MountNs>) -> Self {
        self.mount = place;
        self
    }

    /// Is process 1 of a new PID namespace: when it ends, everything below it ends.
    #[must_use]
    pub fn new_pid_namespace(mut self) -> Self {
        self.new_pid = true;
        self
    }

    /// Has a host name of its own.
    #[must_use]
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// Runs `prepare` in the child's network and mount namespaces before it starts; its error stops the start.
    #[must_use]
    pub fn set_up(mut self, prepare: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        self.set_up = Some(Box::new(prepare));
        self
    }

    /// Is killed when this process ends, however it ends.
    #[must_use]
    pub fn die_with_parent(mut self) -> Self {
        self.die_with_parent = true;
        self
    }

    /// Sees its own PID namespace at `/proc`; wants a mount namespace of its own.
    #[must_use]
    pub fn mount_proc(mut self) -> Self {
        self.mount_proc = true;
        self
    }

    /// Starts a session and process group of its own, so that it can be signalled with all it started.
    #[must_use]
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Makes only the system calls that `filter` lets through.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Hands `fd` over as descriptor `number` (3 or more).
    #[must_use]
    pub fn pass_fd(mut self, fd: OwnedFd, number: RawFd) -> Self {
        self.fds.push((fd, number));
        self
    }

    /// Starts the child. Must be called within a tokio runtime.
    pub fn spawn(self) -> Result<Child> {
        let (pid, pidfd) = spawner::spawn(self)?;
        let pidfd = watch(pidfd, Interest::READABLE).doing(|| "watch a child process")?;
        Ok(Child { pid, pidfd, exit: None })
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code by shell convention: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A running child. Dropping it leaves it running.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    exit: Option<Exit>,
}

impl Child {
    /// Its process id, as seen from here.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the end. May be dropped and called again.
    pub async fn wait(&mut self) -> Result<Exit> {
        let doing = || format!("wait for process {}", self.pid);
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let _ready = self.pidfd.readable().await.doing(doing)?;
        let exit = match waitid(Id::PIDFd(self.pidfd.get_ref().as_fd()), WaitPidFlag::WEXITED).doing(doing)? {
            WaitStatus::Exited(_, code) => Exit::Code(code),
            WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal as i32),
            other => return Err(Error::malformed(doing(), format!("unexpected {other:?}"))),
        };
        owned().remove(&self.pid);
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Sends a signal; a child that has ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // SAFETY: pidfd_send_signal reads its plain arguments only; a null siginfo means "as kill() would".
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.get_ref().as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) => Ok(()),
            _ => Err(Error::last(format!("send {signal} to process {}", self.pid))),
        }
    }
}

impl Child {
    /// Sends a signal to the child's process group, which it has when it started a session of its own.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        kill_group(self.pid, signal)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        owned().remove(&self.pid);
    }
}

/// Children that somebody here waits for; the reaper of orphans leaves them alone.
static OWNED: Mutex<Option<HashSet<u32>>> = Mutex::new(None);

struct Owned(MutexGuard<'static, Option<HashSet<u32>>>);

fn owned() -> Owned {
    Owned(OWNED.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Owned {
    fn insert(&mut self, pid: u32) {
        self.0.get_or_insert_default().insert(pid);
    }

    fn remove(&mut self, pid: &u32) {
        self.0.get_or_insert_default().remove(pid);
    }

    fn contains(&self, pid: &u32) -> bool {
        self.0.as_ref().is_some_and(|set| set.contains(pid))
    }
}

/// For process 1 of a PID namespace: buries the dead that nobody waits for, until the future is dropped.
pub async fn reap_orphans() -> Result<()> {
    let doing = || "listen for SIGCHLD";
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child()).doing(doing)?;
    loop {
        reap_once();
        if ended.recv().await.is_none() {
            return Ok(());
        }
    }
}

fn reap_once() {
    // The lock is held while looking, so that a child just started is owned before it can be taken for an orphan.
    let owned = owned();
    for pid in children_of_this_process() {
        if !owned.contains(&pid) {
            let _ = waitpid(Pid::from_raw(pid.cast_signed()), Some(WaitPidFlag::WNOHANG));
        }
    }
}

fn children_of_this_process() -> Vec<u32> {
    let me = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parent_in_stat(&stat) == Some(me)
    })
    .collect()
}

/// The parent's id in a line of `/proc/<pid>/stat`. The command name before it may hold spaces and parentheses.
fn parent_in_stat(stat: &str) -> Option<u32> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A descriptor that says when the process `pid`, not necessarily a child, has ended.
pub fn pidfd(pid: u32) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just returned this descriptor and nothing else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::last(format!("watch process {pid}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("12 (cat) S 7 12 1 0", Some(7))]
    #[case("12 (a) b (c) Z 4294967 1", Some(4_294_967))]
    #[case("", None)]
    #[case("12 cat S", None)]
    fn finds_the_parent(#[case] stat: &str, #[case] parent: Option<u32>) {
        assert_eq!(parent_in_stat(stat), parent);
    }
}
