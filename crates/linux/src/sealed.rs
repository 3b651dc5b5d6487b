//! Memory that is written once and then cannot be changed by anybody, handed from process to process by descriptor.
//! It has no name, is never on disk, and is gone with its last descriptor: the place for what must outlive a process and
//! must not be read by others.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Doing, Error, Result};

/// Nothing of it can change: neither bytes nor length nor these seals.
const SEALS: SealFlag =
    SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Memory that is still written.
#[derive(Debug)]
pub struct Draft(File);

/// Memory that cannot be changed any more.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    len: u64,
}

impl Draft {
    /// Empty memory; `name` shows in /proc and means nothing.
    pub fn new(name: &str) -> Result<Self> {
        let doing = || format!("make memory for {name}");
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(name, flags).doing(doing)?;
        Ok(Self(fd.into()))
    }

    /// Ends the writing, for everybody and for good.
    pub fn seal(self) -> Result<Sealed> {
        fcntl(&self.0, FcntlArg::F_ADD_SEALS(SEALS)).doing(|| "seal memory")?;
        Sealed::from_fd(self.0.into())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sealed {
    /// Takes a descriptor that somebody handed over. Whether it is sealed memory is checked here.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let doing = || "use a descriptor as sealed memory";
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).doing(doing)?;
        if !SealFlag::from_bits_truncate(seals).contains(SEALS) {
            return Err(Error::malformed(doing(), "it can still be changed"));
        }
        let file = File::from(fd);
        let len = file.metadata().doing(doing)?.len();
        Ok(Self { file, len })
    }

    /// How much was written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads from the beginning, whatever other readers do.
    pub fn reader(&self) -> impl Read + use<'_> {
        Reader { file: &self.file, at: 0 }
    }

    /// The descriptor, for handing over.
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// All holders of a descriptor share its position, so each reader has one of its own.
struct Reader<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_can_be_read_by_all_and_changed_by_none() {
        let mut draft = Draft::new("test").unwrap();
        draft.write_all(b"kept").unwrap();
        let sealed = draft.seal().unwrap();
        assert_eq!(sealed.len(), 4);
        for _ in 0..2 {
            let mut text = String::new();
            sealed.reader().read_to_string(&mut text).unwrap();
            assert_eq!(text, "kept");
        }
        let mut file = File::from(sealed.into_fd());
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn what_is_not_sealed_is_refused() {
        let open = Draft::new("test").unwrap();
        assert!(Sealed::from_fd(open.0.into()).is_err());
        assert!(Sealed::from_fd(File::open("/dev/null").unwrap().into()).is_err());
    }
}
