//! The thread that starts children: goes into a child's namespaces, starts it there, comes home.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::sync::{OnceLock, mpsc};

use nix::unistd::sethostname;

use nix::sched::{CloneFlags, setns, unshare};

use super::{Command, Doing, Error, Filter, MountNs, Place, Result, owned, pidfd};

type Job = Box<dyn FnOnce(&Home) + Send>;

/// The namespaces that the thread comes back to.
struct Home {
    mount: MountNs,
    pid: OwnedFd,
    uts: OwnedFd,
}

pub(super) fn spawn(command: Command) -> Result<(u32, OwnedFd)> {
    static SPAWNER: OnceLock<std::result::Result<mpsc::Sender<Job>, String>> = OnceLock::new();
    let doing = || "start a child process";
    let spawner = SPAWNER.get_or_init(|| start().map_err(|error| error.to_string()));
    let spawner = spawner.as_ref().map_err(|error| Error::malformed(doing(), error.clone()))?;
    let (answer, answered) = mpsc::sync_channel(1);
    let job: Job = Box::new(move |home| {
        let _ = answer.send(spawn_here(command, home));
    });
    let gone = |_| Error::malformed(doing(), "the spawning thread is gone");
    spawner.send(job).map_err(|_| gone(mpsc::RecvError))?;
    answered.recv().map_err(gone)?
}

fn start() -> Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let (ready, started) = mpsc::sync_channel(1);
    let work = move || {
        let home = match go_apart() {
            Ok(home) => home,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let _ = ready.send(Ok(()));
        while let Ok(job) = queue.recv() {
            job(&home);
        }
    };
    let doing = || "start the spawning thread";
    std::thread::Builder::new().name("spawner".to_owned()).spawn(work).doing(doing)?;
    started.recv().map_err(|_| Error::malformed(doing(), "it ended at once"))??;
    Ok(jobs)
}

/// Gives the thread a root and working directory of its own, without which the kernel refuses to change its mount
/// namespace.
fn go_apart() -> Result<Home> {
    let doing = || "prepare the spawning thread";
    unshare(CloneFlags::CLONE_FS).doing(doing)?;
    let open = |kind: &str| std::fs::File::open(format!("/proc/thread-self/ns/{kind}")).doing(doing);
    Ok(Home { mount: MountNs::current()?, pid: open("pid_for_children")?.into(), uts: open("uts")?.into() })
}

fn spawn_here(mut command: Command, home: &Home) -> Result<(u32, OwnedFd)> {
    let net = match command.net.take() {
        Some(ns) => ns,
        None => crate::netns::NetNs::current()?,
    };
    let name = command.program.to_string_lossy().into_owned();
    // `_away` brings the thread home only after the start, whatever became of it.
    net.run(|| Away::go(&command, home).and_then(|_away| start_child(command, &name)))?
}

fn start_child(mut command: Command, name: &str) -> Result<(u32, OwnedFd)> {
    if let Some(set_up) = command.set_up.take() {
        set_up()?;
    }
    let fds: Vec<(RawFd, RawFd)> = command.fds.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)).collect();
    let (die_with_parent, mount_proc) = (command.die_with_parent, command.mount_proc);
    let new_session = command.new_session;
    let filter = command.filter.take();
    // SAFETY: between fork and exec only system calls on memory prepared before: no allocation, no lock.
    unsafe {
        command.inner.pre_exec(move || {
            if new_session {
                nix::unistd::setsid()?;
            }
            prepare_child(die_with_parent, mount_proc)?;
            fds.iter().try_for_each(|&(fd, number)| hand_over(fd, number))?;
            filter.as_ref().map_or(Ok(()), Filter::apply)
        });
    }
    // Held until the child is listed, so that the reaper of orphans cannot mistake it for one.
    let mut owned = owned();
    let child = command.inner.spawn().doing(|| format!("run {name}"))?;
    let fd = pidfd(child.id())?;
    owned.insert(child.id());
    Ok((child.id(), fd))
}

fn prepare_child(die_with_parent: bool, mount_proc: bool) -> std::io::Result<()> {
    if die_with_parent {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    }
    if mount_proc {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let (kind, target) = (c"proc".as_ptr(), c"/proc".as_ptr());
        // SAFETY: constant strings and no data.
        if unsafe { libc::mount(kind, target, kind, flags, std::ptr::null()) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

fn hand_over(fd: RawFd, number: RawFd) -> std::io::Result<()> {
    // SAFETY: plain numbers; F_SETFD and dup2 touch this process's table of descriptors only.
    let done = unsafe { if fd == number { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, number) } };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// While it exists, this thread is in a child's namespaces; dropping it is the way home.
struct Away<'a> {
    home: &'a Home,
    left: CloneFlags,
}

impl<'a> Away<'a> {
    fn go(command: &Command, home: &'a Home) -> Result<Self> {
        let mut away = Away { home, left: CloneFlags::empty() };
        if command.new_pid {
            away.leave(CloneFlags::CLONE_NEWPID, || unshare(CloneFlags::CLONE_NEWPID))?;
        }
        if let Some(name) = &command.hostname {
            away.leave(CloneFlags::CLONE_NEWUTS, || unshare(CloneFlags::CLONE_NEWUTS))?;
            sethostname(name).doing(|| format!("set the host name {name}"))?;
        }
        match &command.mount {
            Place::Same => {}
            Place::New => away.leave(CloneFlags::CLONE_NEWNS, || unshare(CloneFlags::CLONE_NEWNS))?,
            Place::Join(ns) => away.leave(CloneFlags::CLONE_NEWNS, || setns(ns, CloneFlags::CLONE_NEWNS))?,
        }
        Ok(away)
    }

    fn leave(&mut self, kind: CloneFlags, how: impl FnOnce() -> nix::Result<()>) -> Result<()> {
        how().doing(|| format!("enter a namespace ({kind:?}) for a child"))?;
        self.left |= kind;
        Ok(())
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let back = [
            (CloneFlags::CLONE_NEWNS, std::os::fd::AsFd::as_fd(&self.home.mount)),
            (CloneFlags::CLONE_NEWPID, std::os::fd::AsFd::as_fd(&self.home.pid)),
            (CloneFlags::CLONE_NEWUTS, std::os::fd::AsFd::as_fd(&self.home.uts)),
        ];
        for (kind, fd) in back {
            if self.left.contains(kind)
                && let Err(error) = setns(fd, kind)
            {
                tracing::error!("could not leave a child's namespace ({kind:?}): {error}; ending");
                std::process::abort();
            }
        }
    }
}
