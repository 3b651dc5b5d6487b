//! The one error of this crate: what was being done, what the kernel said, and what to do about it.
//! Callers that must tell failures apart ask for the kernel's own error number; nobody parses the text.

use std::fmt;
use std::io;

/// A request to the kernel that failed.
#[derive(Debug)]
pub struct Error {
    doing: String,
    source: io::Error,
}

/// The result of a request to the kernel.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error met while `doing` something, phrased as in "create the bridge hub0".
    pub fn new(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { doing: doing.into(), source: source.into() }
    }

    /// The kernel's last error met while `doing` something.
    pub(crate) fn last(doing: impl Into<String>) -> Self {
        Self::new(doing, io::Error::last_os_error())
    }

    /// An answer of the kernel that makes no sense.
    pub(crate) fn malformed(doing: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(doing, io::Error::new(io::ErrorKind::InvalidData, what.into()))
    }

    /// The kernel's error number, when the kernel is the one who refused.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// The kind of failure.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the thing to be made is there already.
    pub fn already_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether the thing asked for is not there.
    pub fn not_found(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH))
    }

    fn hint(&self) -> Option<&'static str> {
        match self.errno()? {
            libc::EPERM | libc::EACCES => Some("root with CAP_NET_ADMIN and CAP_SYS_ADMIN is needed"),
            libc::EMFILE => Some("raise the limit of open files (ulimit -n)"),
            libc::EADDRINUSE => Some("another process listens there; find it with `ss -ltnp`"),
            libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => Some("the kernel was built without it"),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.doing, self.source)?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Turns the kernel's refusal into an [`Error`] that says what was being done.
pub(crate) trait Doing<T> {
    /// Names what was being done; the text is only built on failure.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::new(doing(), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_done_and_what_to_do() {
        let error = Error::new("create the bridge hub0", io::Error::from_raw_os_error(libc::EPERM));
        let text = error.to_string();
        assert!(text.starts_with("could not create the bridge hub0: "), "{text}");
        assert!(text.ends_with("(root with CAP_NET_ADMIN and CAP_SYS_ADMIN is needed)"), "{text}");
        assert_eq!(error.errno(), Some(libc::EPERM));
    }
}
