//! Descriptors that the starter of this process handed over under agreed numbers.

use crate::error::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes descriptor `number` (3 or more); it is closed in children from now on. Each number can be taken once.
pub fn inherited_fd(number: RawFd) -> Result<OwnedFd> {
    let doing = || format!("take over inherited descriptor {number}");
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if number < 3 || taken.contains(&number) {
        return Err(Error::malformed(doing(), "it is not free to be taken"));
    }
    // SAFETY: fcntl on a number only looks it up; a number that is not open is answered with EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(Error::last(doing()));
    }
    taken.push(number);
    // SAFETY: the number is open (just checked), and `TAKEN` makes sure that it is owned once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_handed_over_is_refused() {
        for number in [0, 2, 1_000_000] {
            assert!(inherited_fd(number).is_err(), "{number}");
        }
    }
}
