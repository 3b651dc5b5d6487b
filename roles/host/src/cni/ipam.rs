//! Addresses of pods, one file each: the file's name is the address, its content the container that holds it.
//!
//! Addresses go round robin, so that one just given back is not at once somebody else's. A lock on the folder makes
//! concurrent plugins take turns. The network's and the broadcast address and the first host are never given out.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::Error;

const LAST: &str = "last_reserved_ip";

/// The addresses of one node, locked while this lives.
#[derive(Debug)]
pub(super) struct Pool {
    folder: PathBuf,
    range: ipnet::Ipv4Net,
    _lock: Flock<File>,
}

impl Pool {
    pub(super) fn open(folder: &Path, range: ipnet::Ipv4Net) -> Result<Self, Error> {
        let store = |source| Error::Store { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(store)?;
        let file = File::create(folder.join("lock")).map_err(store)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| store(error.into()))?;
        Ok(Self { folder: folder.to_owned(), range, _lock: lock })
    }

    /// The address that `container` holds already, else the next free one.
    pub(super) fn take(&self, container: &str) -> Result<Ipv4Addr, Error> {
        let held = self.held()?;
        if let Some((address, _)) = held.iter().find(|(_, holder)| holder == container) {
            return Ok(*address);
        }
        let last = fs::read_to_string(self.folder.join(LAST)).ok().and_then(|text| text.trim().parse().ok());
        let taken = |address: &Ipv4Addr| held.iter().any(|(held, _)| held == address);
        let address = next_free(self.range, last, taken).ok_or(Error::Exhausted(self.range))?;
        self.write(&address.to_string(), container)?;
        self.write(LAST, &address.to_string())?;
        Ok(address)
    }

    /// The address that `container` holds.
    pub(super) fn held_by(&self, container: &str) -> Result<Option<Ipv4Addr>, Error> {
        Ok(self.held()?.into_iter().find(|(_, holder)| holder == container).map(|(address, _)| address))
    }

    /// Gives back whatever `container` holds; nothing is fine.
    pub(super) fn release(&self, container: &str) -> Result<(), Error> {
        for (address, holder) in self.held()? {
            if holder == container {
                fs::remove_file(self.folder.join(address.to_string())).map_err(|source| self.store(source))?;
            }
        }
        Ok(())
    }

    fn held(&self) -> Result<Vec<(Ipv4Addr, String)>, Error> {
        let entries = fs::read_dir(&self.folder).map_err(|source| self.store(source))?;
        let mut held = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.store(source))?;
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let holder = fs::read_to_string(entry.path()).map_err(|source| self.store(source))?;
            held.push((address, holder));
        }
        Ok(held)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        fs::write(self.folder.join(name), text).map_err(|source| self.store(source))
    }

    fn store(&self, source: io::Error) -> Error {
        Error::Store { path: self.folder.clone(), source }
    }
}

/// The first free address after `last`, once round the range.
fn next_free(range: ipnet::Ipv4Net, last: Option<Ipv4Addr>, taken: impl Fn(&Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let hosts = || range.hosts().skip(1);
    let after = hosts().filter(|address| last.is_some_and(|last| *address > last));
    after.chain(hosts()).find(|address| !taken(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(folder: &Path) -> Pool {
        Pool::open(folder, "10.244.1.0/29".parse().unwrap()).unwrap()
    }

    #[rstest::rstest]
    #[case::first(None, &[], Some("10.244.1.2"))]
    #[case::round_robin(Some("10.244.1.3"), &[], Some("10.244.1.4"))]
    #[case::skips_taken(Some("10.244.1.3"), &["10.244.1.4"], Some("10.244.1.5"))]
    #[case::wraps(Some("10.244.1.6"), &["10.244.1.2"], Some("10.244.1.3"))]
    #[case::foreign_last(Some("192.168.0.1"), &[], Some("10.244.1.2"))]
    #[case::full(None, &["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"], None)]
    fn chooses(#[case] last: Option<&str>, #[case] taken: &[&str], #[case] next: Option<&str>) {
        let last = last.map(|text| text.parse().unwrap());
        let found = next_free("10.244.1.0/29".parse().unwrap(), last, |a| taken.contains(&a.to_string().as_str()));
        assert_eq!(found.map(|address| address.to_string()).as_deref(), next);
    }

    #[test]
    fn an_address_is_kept_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let first = pool(folder.path()).take("a").unwrap();
        assert_eq!(pool(folder.path()).take("a").unwrap(), first, "asking again changes nothing");
        assert_ne!(pool(folder.path()).take("b").unwrap(), first);
        assert_eq!(pool(folder.path()).held_by("a").unwrap(), Some(first));
        pool(folder.path()).release("a").unwrap();
        pool(folder.path()).release("a").unwrap();
        assert_eq!(pool(folder.path()).held_by("a").unwrap(), None);
    }

    #[test]
    fn a_full_range_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for container in ["a", "b", "c", "d", "e"] {
            pool(folder.path()).take(container).unwrap();
        }
        assert!(matches!(pool(folder.path()).take("f"), Err(Error::Exhausted(_))));
    }
}
