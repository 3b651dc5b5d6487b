//! Addresses and folders of the cluster: pure.

use std::{net::Ipv4Addr, path::PathBuf};

/// The control plane's address, where every node's link ends.
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 254);
/// Bits of the network that the hub and the nodes share.
pub(crate) const HUB_PREFIX: u8 = 24;
/// Where the API answers, at the hub.
pub(crate) const API_PORT: u16 = 6443;
/// The `kubernetes` Service.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Every Service's range.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// Every pod's range; node N has 10.244.N.0/24 of it.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The cluster's DNS.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// One node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node(pub(crate) u8);

impl Node {
    pub(crate) fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    pub(crate) fn name(self) -> String {
        format!("n{}", self.0)
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, self.0)
    }

    pub(crate) fn pods(self) -> ipnet::Ipv4Net {
        ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 244, self.0, 0), 24)
    }
}

/// The folders of a cluster of one name. All of it is below `/var/tmp`: container layers want a real file system.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    root: PathBuf,
}

impl Folders {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        anyhow::ensure!(
            (1..=30).contains(&name.len()) && name.chars().all(legal),
            "a cluster's name is 1 to 30 lower-case letters, digits and dashes; {name:?} is not"
        );
        Ok(Self { root: PathBuf::from("/var/tmp/ambit-lab").join(name) })
    }

    pub(crate) fn root(&self) -> &PathBuf {
        &self.root
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn etcd(&self) -> PathBuf {
        self.root.join("etcd")
    }

    pub(crate) fn node(&self, node: Node) -> PathBuf {
        self.root.join(node.name())
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The process whose end ends the cluster.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.root.join("world.pid")
    }

    /// Its group below every hierarchy of control groups.
    pub(crate) fn cgroup(&self) -> String {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        format!("ambit-lab-{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for bad in ["", "..", "a/b", "A"] {
            assert!(Folders::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Folders::new("a").unwrap().cgroup(), "ambit-lab-a");
    }

    #[test]
    fn nodes_have_addresses_and_pods_of_their_own() {
        let nodes: Vec<_> = Node::all(2).map(|node| (node.name(), node.address(), node.pods().to_string())).collect();
        assert_eq!(nodes[1], ("n2".to_owned(), Ipv4Addr::new(10, 99, 0, 2), "10.244.2.0/24".to_owned()));
    }
}
