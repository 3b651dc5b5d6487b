//! Where a running one-host mesh is written down: `/run/ambit/<name>/`, with a lock that lives exactly as long as `up`.
//!
//! Nothing in the folder matters once the lock is free: whatever an `up` that was killed left there is removed by the next one.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// What `status` and `down` read of a running mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mesh {
    /// Process of `up`, in the machine's PID namespace.
    pub(crate) pid: i32,
    /// First process of the world, in the machine's PID namespace.
    pub(crate) world_pid: i32,
    /// Where the API answers.
    pub(crate) api: String,
    /// Names of the nodes.
    pub(crate) nodes: Vec<String>,
    /// Where objects are kept; none: in memory.
    pub(crate) state: Option<PathBuf>,
    /// Seconds since the epoch.
    pub(crate) started: i64,
    /// Everything that `up` waits for has happened.
    pub(crate) ready: bool,
}

/// The folder of the mesh of one name.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
}

/// The right to be the mesh of a name; ends with the process.
#[derive(Debug)]
pub(crate) struct Claim {
    dir: RunDir,
    _lock: File,
}

impl RunDir {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 40 || !name.chars().all(legal) {
            bail!("a mesh's name is 1 to 40 lower-case letters, digits and dashes; {name:?} is not");
        }
        Ok(Self { path: Path::new("/run/ambit").join(name) })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.path.join("pki")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    fn info(&self) -> PathBuf {
        self.path.join("mesh.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Becomes the mesh of this name, and clears away what an earlier one left.
    pub(crate) fn claim(&self) -> Result<Claim> {
        fs::create_dir_all(&self.path).with_context(|| format!("creating {}", self.path.display()))?;
        let lock = File::create(self.lock_file()).with_context(|| format!("opening {}", self.lock_file().display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "a mesh of this name runs already ({}): end it with `ambit down`, or choose another name with --name",
                self.path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", self.lock_file().display()));
            }
        }
        let claim = Claim { dir: self.clone(), _lock: lock };
        claim.clear()?;
        fs::create_dir_all(self.logs())?;
        fs::create_dir_all(self.pki())?;
        Ok(claim)
    }

    /// The mesh of this name, if it runs.
    pub(crate) fn running(&self) -> Option<Mesh> {
        let lock = File::open(self.lock_file()).ok()?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => serde_json::from_slice(&fs::read(self.info()).ok()?).ok(),
            _ => None,
        }
    }

    /// Waits until nobody holds the mesh's lock, and removes the folder.
    pub(crate) fn wait_ended(&self) -> Result<()> {
        if let Ok(lock) = File::open(self.lock_file()) {
            lock.lock().context("waiting for `ambit up` to end")?;
        }
        self.remove()
    }

    fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => {
                // Only succeeds when this was the last mesh.
                let _last = fs::remove_dir("/run/ambit");
                Ok(())
            }
        }
    }

    /// Names of all folders, running or not.
    pub(crate) fn names() -> Vec<String> {
        let Ok(entries) = fs::read_dir("/run/ambit") else { return Vec::new() };
        let mut names: Vec<_> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

impl Claim {
    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir.path)?.flatten() {
            if entry.file_name() == "lock" {
                continue;
            }
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("removing {}, left by an earlier mesh", path.display()))?;
        }
        Ok(())
    }

    /// Writes down what `status` shows.
    pub(crate) fn publish(&self, mesh: &Mesh) -> Result<()> {
        let temporary = self.dir.path.join("mesh.json.new");
        fs::write(&temporary, serde_json::to_vec_pretty(mesh)?)?;
        fs::rename(&temporary, self.dir.info()).context("writing mesh.json")
    }

    /// Removes the folder: the mesh has ended.
    pub(crate) fn release(self) -> Result<()> {
        self.dir.remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_claim_of_a_name_is_refused_until_the_first_is_released() {
        let name = format!("test-{}", std::process::id());
        let dir = RunDir::new(&name).unwrap();
        let claim = dir.claim().unwrap();
        assert!(dir.claim().unwrap_err().to_string().contains("runs already"));
        assert!(dir.running().is_none(), "nothing published yet");
        claim.release().unwrap();
        assert!(!dir.path.exists());
        dir.claim().unwrap().release().unwrap();
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for bad in ["", "..", "a/b", "A", "x y"] {
            assert!(RunDir::new(bad).is_err(), "{bad:?}");
        }
    }
}
