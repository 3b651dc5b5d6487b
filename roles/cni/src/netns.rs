//! Finding a pod's network namespace: from the path that the kubelet told the plugin, or from the processes of the
//! node. Whatever is found is checked before anything is done in it: it must not be the node's own, and must hold an
//! address of the pod.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use linux::netlink::Netlink;
use linux::netns::NetNs;

use crate::args::on_host;
use crate::error::Error;

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Finder {
    proc: PathBuf,
    host: NetNs,
}

impl Finder {
    /// Looks on the node that this agent runs on.
    pub(crate) fn new() -> Result<Self, Error> {
        let proc = on_host(Path::new("/proc"));
        // A chart that mounts the host's processes runs the agent in a network namespace of its own.
        let host = if proc.starts_with("/host") { NetNs::open(proc.join("1/ns/net"))? } else { NetNs::current()? };
        Ok(Self { proc, host })
    }

    /// The node's own namespace.
    pub(crate) fn host(&self) -> &NetNs {
        &self.host
    }

    /// The namespace at a path that the kubelet gave.
    pub(crate) fn at(&self, path: &str, pod: &str, addresses: &[IpAddr]) -> Result<NetNs, Error> {
        let ns = NetNs::open(on_host(Path::new(path)))?;
        self.check(&ns, pod, path, addresses)?;
        Ok(ns)
    }

    /// The namespace of the oldest process of the pod with this uid.
    pub(crate) fn of_uid(&self, uid: &str, pod: &str, addresses: &[IpAddr]) -> Result<NetNs, Error> {
        let path = oldest_process(&self.proc, uid).map(|pid| self.proc.join(format!("{pid}/ns/net")));
        let path = path.ok_or_else(|| Error::NoNamespace { pod: pod.to_owned() })?;
        let ns = NetNs::open(&path)?;
        self.check(&ns, pod, &path.to_string_lossy(), addresses)?;
        Ok(ns)
    }

    fn check(&self, ns: &NetNs, pod: &str, path: &str, addresses: &[IpAddr]) -> Result<(), Error> {
        let wrong = |why| Err(Error::WrongNamespace { pod: pod.to_owned(), path: path.to_owned(), why });
        if *ns == self.host {
            return wrong("it is the node's own");
        }
        let held = Netlink::open(ns)?.addresses()?;
        if !held.iter().any(|(_, net)| addresses.contains(&net.addr())) {
            return wrong("it holds none of the pod's addresses");
        }
        Ok(())
    }
}

fn oldest_process(proc: &Path, uid: &str) -> Option<u32> {
    let entries = fs::read_dir(proc).ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = pids.filter(|pid| {
        let read = |file: &str| fs::read(proc.join(pid.to_string()).join(file)).unwrap_or_default();
        in_cgroup_of(&String::from_utf8_lossy(&read("cgroup")), uid) || holds_sandbox_of(&read("cmdline"), uid)
    });
    ours.min_by_key(|pid| {
        let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).unwrap_or_default();
        (started(&stat).unwrap_or(u64::MAX), *pid)
    })
}

/// Whether a process's control groups are those of the pod. The systemd driver writes underscores for dashes.
fn in_cgroup_of(cgroups: &str, uid: &str) -> bool {
    !uid.is_empty() && (cgroups.contains(uid) || cgroups.contains(&uid.replace('-', "_")))
}

/// Whether a process is the one that holds the pod's sandbox on a node without control groups.
fn holds_sandbox_of(command_line: &[u8], uid: &str) -> bool {
    let mut words = command_line.split(|byte| *byte == 0);
    words.any(|word| word == b"--pod-uid") && words.next() == Some(uid.as_bytes())
}

/// When a process started, from its `stat` line. The name before may hold anything.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const UID: &str = "4b467d27-5c36-4882-ba62-67e8a44e48c2";

    #[rstest]
    #[case("0::/kubepods/besteffort/pod4b467d27-5c36-4882-ba62-67e8a44e48c2/abc", true)]
    #[case("0::/kubepods.slice/kubepods-pod4b467d27_5c36_4882_ba62_67e8a44e48c2.slice/cri-1.scope", true)]
    #[case("0::/kubepods/besteffort/pod00000000-5c36-4882-ba62-67e8a44e48c2/abc", false)]
    fn cgroups(#[case] text: &str, #[case] ours: bool) {
        assert_eq!(in_cgroup_of(text, UID), ours);
        assert!(!in_cgroup_of(text, ""));
    }

    #[test]
    fn the_oldest_process_of_the_pod_is_taken() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: u32, command: &str, cgroup: &str, started: u64| {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("cmdline"), command.replace(' ', "\0")).unwrap();
            fs::write(dir.join("cgroup"), cgroup).unwrap();
            let stat = format!("{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0");
            fs::write(dir.join("stat"), stat).unwrap();
        };
        process(9, "/bin/server", &format!("0::/pod{UID}"), 500);
        process(7, "/bin/ambit host pause --pod-uid 4b467d27-5c36-4882-ba62-67e8a44e48c2 --pod a/b", "0::/", 400);
        process(3, "/bin/ambit host pause --pod-uid other --pod a/b", "0::/", 1);
        assert_eq!(oldest_process(proc.path(), UID), Some(7));
        assert_eq!(oldest_process(proc.path(), "nobody"), None);
    }
}
