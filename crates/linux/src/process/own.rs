//! What a process changes about itself, for good. For small single-threaded programs on their way to another one
//! (launchers, inits); a process with threads uses [`super::Command`] instead.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns, unshare as nix_unshare};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, sethostname, setsid, setuid};

use crate::error::{Doing, Error, Result};
use crate::mount;
use crate::netns::NetNs;

/// Kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// Mounts. Leaving makes all mounts private.
    pub mount: bool,
    /// Host name.
    pub uts: bool,
    /// Network.
    pub net: bool,
}

/// Leaves the shared namespaces of these kinds for new ones.
pub fn unshare(kinds: Namespaces) -> Result<()> {
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWNS, kinds.mount);
    flags.set(CloneFlags::CLONE_NEWUTS, kinds.uts);
    flags.set(CloneFlags::CLONE_NEWNET, kinds.net);
    nix_unshare(flags).doing(|| format!("make namespaces ({flags:?})"))?;
    if kinds.mount { mount::make_private() } else { Ok(()) }
}

/// Moves into the network namespace `ns`.
pub fn settle(ns: &NetNs) -> Result<()> {
    setns(ns, CloneFlags::CLONE_NEWNET).doing(|| format!("move into the network namespace {}", ns.id()))
}

/// Moves into namespaces of the process `pid`; with its mounts also to its root directory.
pub fn join(pid: u32, kinds: Namespaces) -> Result<()> {
    let wanted = [
        ("net", CloneFlags::CLONE_NEWNET, kinds.net),
        ("uts", CloneFlags::CLONE_NEWUTS, kinds.uts),
        ("mnt", CloneFlags::CLONE_NEWNS, kinds.mount),
    ];
    // All are opened before the first is entered: another mount namespace may show another /proc.
    let mut opened = Vec::new();
    for (name, kind, _) in wanted.into_iter().filter(|(_, _, wanted)| *wanted) {
        let doing = || format!("join the {name} namespace of process {pid}");
        opened.push((name, kind, File::open(format!("/proc/{pid}/ns/{name}")).doing(doing)?));
    }
    for (name, kind, file) in opened {
        setns(file, kind).doing(|| format!("join the {name} namespace of process {pid}"))?;
    }
    Ok(())
}

/// Becomes `program`, which finds `descriptors` open under their present numbers and nothing else but the standard ones.
/// Returns only if it could not, and everything is as before.
pub fn replace(program: &Path, args: &[String], descriptors: &[BorrowedFd<'_>]) -> Error {
    let doing = || format!("become {}", program.display());
    let pass = |flags| descriptors.iter().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop));
    if let Err(error) = pass(FdFlag::empty()) {
        return Error::new(doing(), error);
    }
    let error = std::process::Command::new(program).args(args).exec();
    // Nobody else may inherit them later.
    let _ = pass(FdFlag::FD_CLOEXEC);
    Error::new(doing(), error)
}

/// Is killed when the starter ends. `starter` is its process id, to notice that it has ended before; 0 skips that.
pub fn die_with_parent(starter: u32) -> Result<()> {
    let doing = || "arrange to end with the starter";
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).doing(doing)?;
    if starter != 0 && getppid().as_raw().cast_unsigned() != starter {
        return Err(Error::malformed(doing(), "it has ended already"));
    }
    Ok(())
}

/// Sets the host name of this process's UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    sethostname(name).doing(|| format!("set the host name {name}"))
}

/// Becomes another user and group, without supplementary groups; there is no way back.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    let doing = || format!("become user {uid}, group {gid}");
    setgroups(&[]).doing(doing)?;
    setgid(Gid::from_raw(gid)).doing(doing)?;
    setuid(Uid::from_raw(uid)).doing(doing)
}

/// Starts a session and process group of its own.
pub fn new_session() -> Result<()> {
    setsid().map(drop).doing(|| "start a session")
}

/// Sends a signal to a whole process group; a group that has ended is no error.
pub fn kill_group(group: u32, signal: Signal) -> Result<()> {
    match killpg(Pid::from_raw(group.cast_signed()), signal) {
        Err(nix::errno::Errno::ESRCH) => Ok(()),
        other => other.doing(|| format!("send {signal} to process group {group}")),
    }
}
