//! Kernel settings of a network namespace, as under `/proc/sys`.
//! `/proc/sys/net` shows the namespace of the thread that opens it, so opening happens inside the namespace.

use std::path::PathBuf;

use crate::error::{Doing, Error, Result};
use crate::netns::NetNs;

/// Writes a setting such as `net.ipv4.ip_forward` inside `ns`. An interface name with dots goes with slashes:
/// `net/ipv4/conf/eth0.5/forwarding`.
pub fn write(ns: &NetNs, name: &str, value: &str) -> Result<()> {
    let path = path(name)?;
    ns.run(|| std::fs::write(&path, value))?.doing(|| format!("set {name} to {value} in {}", ns.id()))
}

/// Reads a setting inside `ns`, without the trailing newline.
pub fn read(ns: &NetNs, name: &str) -> Result<String> {
    let path = path(name)?;
    let text = ns.run(|| std::fs::read_to_string(&path))?.doing(|| format!("read {name} in {}", ns.id()))?;
    Ok(text.trim_end().to_owned())
}

fn path(name: &str) -> Result<PathBuf> {
    let separator = if name.contains('/') { '/' } else { '.' };
    let mut path = PathBuf::from("/proc/sys");
    for part in name.split(separator) {
        if part.is_empty() || part == ".." || part.contains('/') {
            return Err(Error::malformed(format!("find the setting {name}"), "not a setting's name"));
        }
        path.push(part);
    }
    Ok(path)
}
