//! Addresses and names of a one-host mesh. All of them live in its own network namespaces, so every mesh has the same.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// The hub: where the API answers, and through which nodes reach each other.
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// Length of the hub network's prefix.
pub(crate) const HUB_PREFIX: u8 = 16;
/// Port of the API in the hub.
pub(crate) const API_PORT: u16 = 6443;
/// Address of Service `kubernetes`.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Address of Service `kube-dns`.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Nodes are numbered in one octet.
pub(crate) const MAX_NODES: u8 = 100;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// `n1`, `n2`, …
    pub(crate) name: String,
    /// Its address on the hub network.
    pub(crate) address: Ipv4Addr,
    /// Addresses of its pods.
    pub(crate) pod_range: Ipv4Net,
}

/// Nodes 1 to `count`.
pub(crate) fn nodes(count: u8) -> Vec<Node> {
    (1..=count.min(MAX_NODES))
        .map(|number| Node {
            name: format!("n{number}"),
            address: Ipv4Addr::new(172, 30, 0, 10 + number),
            pod_range: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, number, 0), 24),
        })
        .collect()
}
