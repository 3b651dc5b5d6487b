//! Mounts of the mount namespace that this thread is in, made as set-up of a child (see [`crate::process::Command`]).
//! Nothing here leaks out of a namespace made private first.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Doing, Result};

/// A mount namespace, kept alive by the descriptor held here.
#[derive(Debug, Clone)]
pub struct MountNs(Arc<OwnedFd>);

impl MountNs {
    /// Opens the namespace behind a path such as `/proc/1234/ns/mnt`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).doing(|| format!("open the mount namespace {}", path.display()))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// The namespace of the process `pid`.
    pub fn of_process(pid: u32) -> Result<Self> {
        Self::open(format!("/proc/{pid}/ns/mnt"))
    }

    /// The namespace this thread is in.
    pub fn current() -> Result<Self> {
        Self::open("/proc/thread-self/ns/mnt")
    }
}

impl AsFd for MountNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const NONE: Option<&str> = None;

/// Cuts the namespace off from its parent: later mounts stay here, and those made there no longer arrive.
pub fn make_private() -> Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).doing(|| "make all mounts private")
}

/// Shows `source`, with what is mounted below it, at `target` too. A missing target is created to match.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let doing = || format!("bind {} to {}", source.display(), target.display());
    let is_dir = fs::metadata(source).doing(doing)?.is_dir();
    create_like(target, is_dir).doing(doing)?;
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).doing(doing)
}

/// Makes the mount at `target` read-only.
pub fn make_read_only(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(NONE, target, NONE, flags, NONE).doing(|| format!("make {} read-only", target.display()))
}

/// Mounts an empty file system in memory at `target`, made if missing, with permissions `mode`.
pub fn tmpfs(target: impl AsRef<Path>, mode: u32) -> Result<()> {
    let target = target.as_ref();
    let doing = || format!("mount a tmpfs on {}", target.display());
    fs::create_dir_all(target).doing(doing)?;
    let data = format!("mode={mode:o}");
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(data.as_str()))
        .doing(doing)
}

/// Mounts the process list of this process's PID namespace at `target`.
pub fn proc(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), target, Some("proc"), flags, NONE).doing(|| format!("mount /proc on {}", target.display()))
}

/// Mounts the devices of this process's network namespace at `target`.
pub fn sysfs(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), target, Some("sysfs"), flags, NONE).doing(|| format!("mount sysfs on {}", target.display()))
}

/// Shares later mounts with namespaces that are made from this one, as container runtimes want it.
pub fn make_shared() -> Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).doing(|| "make all mounts shared")
}

/// Whether the file system at `path` is a tmpfs.
pub fn is_tmpfs(path: impl AsRef<Path>) -> Result<bool> {
    let path = path.as_ref();
    let stat = nix::sys::statfs::statfs(path).doing(|| format!("ask what file system {} is", path.display()))?;
    Ok(stat.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

/// Takes the topmost mount at `target` away, at once for new users and for the rest when they are done.
pub fn unmount(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    umount2(target, MntFlags::MNT_DETACH).doing(|| format!("unmount {}", target.display()))
}

/// Lays a tmpfs over `dir` in which everything that was there shows through: what is created in it afterwards
/// exists only in this namespace. Existing children are the same files as before, so writes *into* them do reach
/// the original. A child that cannot be shown is left out with a warning.
pub fn shadow(dir: impl AsRef<Path>) -> Result<()> {
    let dir = dir.as_ref();
    let doing = || format!("shadow {}", dir.display());
    let below = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir).doing(doing)?;
    let meta = below.metadata().doing(doing)?;
    let under = PathBuf::from(format!("/proc/self/fd/{}", below.as_raw_fd()));
    let children = fs::read_dir(&under).and_then(Iterator::collect::<io::Result<Vec<_>>>).doing(doing)?;
    tmpfs(dir, meta.permissions().mode() & 0o7777)?;
    chown(dir, Some(meta.uid()), Some(meta.gid())).doing(doing)?;
    for child in children {
        if let Err(error) = show_through(&under, dir, &child) {
            tracing::warn!("{} does not show through the shadow of its directory: {error}", child.path().display());
        }
    }
    Ok(())
}

fn show_through(under: &Path, dir: &Path, child: &fs::DirEntry) -> io::Result<()> {
    let kind = child.file_type()?;
    let (from, to) = (under.join(child.file_name()), dir.join(child.file_name()));
    if kind.is_symlink() {
        return symlink(fs::read_link(&from)?, &to);
    }
    create_like(&to, kind.is_dir())?;
    mount(Some(&from), &to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    Ok(())
}

/// A place to mount on: a directory or an empty file, with its parents.
fn create_like(target: &Path, is_dir: bool) -> io::Result<()> {
    if is_dir {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
