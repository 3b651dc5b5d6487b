//! The node's own network: forwarding, the service range, and the ways to the pods of other nodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use api::{Node, Resource};
use ipnet::IpNet;
use linux::netlink::{Netlink, Route, Scope};
use linux::netns::NetNs;

const MAIN_TABLE: u32 = 254;

/// A way to the pods of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) pods: IpNet,
    pub(super) node: IpAddr,
}

/// The ways that should exist on the node called `own`.
pub(super) fn ways<'a>(nodes: impl IntoIterator<Item = &'a Node>, own: &str) -> BTreeSet<Way> {
    let others = nodes.into_iter().filter(|node| node.name() != own);
    let way = |node: &Node| {
        let internal = node.status.addresses.iter().find(|address| address.type_ == "InternalIP")?;
        Some(Way { pods: node.spec.pod_cidr.parse().ok()?, node: internal.address.parse().ok()? })
    };
    others.filter_map(way).collect()
}

/// The node's address and the interface that has it: the first that is neither loopback nor link-local.
pub(super) fn own_address() -> Result<Option<(u32, Ipv4Addr)>, linux::Error> {
    let addresses = Netlink::open(&NetNs::current()?)?.addresses()?;
    let usable = addresses.into_iter().filter_map(|(index, address)| match address.addr() {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_link_local() => Some((index, address)),
        _ => None,
    });
    Ok(usable.into_iter().next())
}

/// Makes the node a router, with a route for service addresses: they are translated before any packet leaves, but the
/// kernel first wants to know a way.
pub(crate) fn set_up(interface: u32, address: Ipv4Addr, services: IpNet) -> Result<(), linux::Error> {
    let here = NetNs::current()?;
    for (name, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.rp_filter", "2"),
        ("net.ipv4.conf.default.rp_filter", "2"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
    ] {
        linux::sysctl::write(&here, name, value)?;
    }
    let mut netlink = Netlink::open(&here)?;
    let loopback = netlink.link("lo")?;
    netlink.set_up(loopback.index)?;
    netlink.add_route(&Route::to(services).dev(interface).scope(Scope::Link).source(address.into()))
}

/// Adds the ways that are missing and removes those that were added before and are wanted no more.
pub(super) fn follow(known: &BTreeSet<Way>, wanted: &BTreeSet<Way>) -> Result<(), linux::Error> {
    let mut netlink = Netlink::open(&NetNs::current()?)?;
    for way in known.difference(wanted) {
        let existing = netlink.routes(MAIN_TABLE)?;
        let same = |route: &&Route| route.destination == way.pods && route.gateway == Some(way.node);
        if let Some(route) = existing.iter().find(same) {
            netlink.delete_route(route)?;
        }
    }
    for way in wanted.difference(known) {
        netlink.add_route(&Route::to(way.pods).via(way.node))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, range: &str, address: &str) -> Node {
        let mut node = Node { metadata: api::ObjectMeta::named("", name), ..Node::default() };
        node.spec.pod_cidr = range.to_owned();
        node.status.addresses.push(api::NodeAddress { type_: "InternalIP".into(), address: address.into() });
        node
    }

    #[test]
    fn there_is_a_way_to_every_other_node_that_is_known_well_enough() {
        let nodes = [
            node("n1", "10.244.1.0/24", "172.30.0.11"),
            node("n2", "10.244.2.0/24", "172.30.0.12"),
            node("n3", "", "172.30.0.13"),
        ];
        let expected = Way { pods: "10.244.2.0/24".parse().unwrap(), node: "172.30.0.12".parse().unwrap() };
        assert_eq!(ways(&nodes, "n1"), BTreeSet::from([expected]));
    }
}
