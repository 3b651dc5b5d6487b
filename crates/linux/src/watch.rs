//! Registering a descriptor with tokio's reactor, in the one place that has to promise it stays open.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for `interest`. Must be called within a tokio runtime.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, is the same descriptor as long as it lives, and moves into the AsyncFd.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
