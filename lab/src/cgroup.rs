//! Control groups of the nodes: one group a node in every version 1 hierarchy, made before a kubelet looks for it.

use anyhow::{Context, Result};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const ROOT: &str = "/sys/fs/cgroup";
/// What a kubelet and a container runtime use; `systemd` is a hierarchy without a controller.
const HIERARCHIES: [&str; 9] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"];

/// Makes the group `group`, a relative path, in every hierarchy, with the machine's processors and memory.
pub(crate) fn make(group: &str) -> Result<()> {
    for hierarchy in HIERARCHIES {
        let path = Path::new(ROOT).join(hierarchy).join(group);
        fs::create_dir_all(&path).with_context(|| format!("creating the control group {}", path.display()))?;
    }
    // A new group of this hierarchy has no processor and no memory until it is given some, from the top down.
    let top = Path::new(ROOT).join("cpuset");
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = fs::read_to_string(top.join(file)).with_context(|| format!("reading {file}"))?;
        let mut path = top.clone();
        for part in group.split('/') {
            path.push(part);
            fs::write(path.join(file), value.trim()).with_context(|| format!("setting {file} of {group}"))?;
        }
    }
    Ok(())
}

/// Removes the group `group` and all below it; their processes have ended.
pub(crate) fn remove(group: &str) -> Result<()> {
    for hierarchy in HIERARCHIES.into_iter().chain(["unified"]) {
        let path = Path::new(ROOT).join(hierarchy).join(group);
        remove_tree(&path).with_context(|| format!("removing the control group {}", path.display()))?;
    }
    Ok(())
}

/// Deepest first: the kernel removes empty groups only, and its files in them go by themselves.
fn remove_tree(path: &PathBuf) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
