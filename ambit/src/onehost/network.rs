//! The links between nodes: one bridge in the hub, one veth pair to each node.

use super::layout::{HUB, HUB_PREFIX, Node};
use ipnet::{IpNet, Ipv4Net};
use linux::{
    Result,
    netlink::{Netlink, Route, VethEnd},
    netns::NetNs,
    sysctl,
};
use std::net::{IpAddr, Ipv4Addr};

const BRIDGE: &str = "hub0";
const MTU: u32 = 1500;

/// Makes the hub in its namespace: a bridge that holds the hub's address, and forwarding between nodes.
pub(crate) fn make_hub(hub: &NetNs) -> Result<()> {
    let mut links = Netlink::open(hub)?;
    up(&mut links, "lo")?;
    let bridge = links.create_bridge(BRIDGE, None)?;
    links.add_address(bridge, IpNet::V4(Ipv4Net::new_assert(HUB, HUB_PREFIX)))?;
    links.set_up(bridge)?;
    forward(hub)
}

/// Makes a node's namespace and its link to the hub, and teaches the hub where the node's pods are.
pub(crate) fn make_node(hub: &NetNs, node: &Node) -> Result<NetNs> {
    let namespace = NetNs::new_anonymous()?;
    let port = port_of(node);
    let mut hub_links = Netlink::open(hub)?;
    let index = hub_links.create_veth(&end(&port), &end("eth0"), &namespace, MTU)?;
    let bridge = hub_links.link(BRIDGE)?.index;
    hub_links.set_master(index, Some(bridge))?;
    hub_links.set_up(index)?;
    hub_links.add_route(&Route::to(IpNet::V4(node.pod_range)).via(IpAddr::V4(node.address)))?;

    let mut links = Netlink::open(&namespace)?;
    up(&mut links, "lo")?;
    let eth0 = links.link("eth0")?.index;
    links.add_address(eth0, IpNet::V4(Ipv4Net::new_assert(node.address, HUB_PREFIX)))?;
    links.set_up(eth0)?;
    let everything = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    links.add_route(&Route::to(everything).via(IpAddr::V4(HUB)))?;
    forward(&namespace)?;
    Ok(namespace)
}

/// The hub's end of a node's link: everything that enters or leaves the node can be seen there.
pub(crate) fn port_of(node: &Node) -> String {
    format!("to-{}", node.name)
}

/// Tries, in a namespace that is thrown away, what a mesh needs of the kernel.
pub(crate) fn probe() -> Result<()> {
    let (here, there) = (NetNs::new_anonymous()?, NetNs::new_anonymous()?);
    let mut links = Netlink::open(&here)?;
    links.create_bridge(BRIDGE, None)?;
    links.create_veth(&end("probe"), &end("eth0"), &there, MTU)?;
    linux::nft::probe(&here)
}

fn up(links: &mut Netlink, name: &str) -> Result<()> {
    let index = links.link(name)?.index;
    links.set_up(index)
}

fn end(name: &str) -> VethEnd<'_> {
    VethEnd { name, mac: None }
}

/// Forwards between links, and lets addresses be looked for on any of them.
fn forward(namespace: &NetNs) -> Result<()> {
    sysctl::write(namespace, "net.ipv4.ip_forward", "1")?;
    for setting in ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"] {
        sysctl::write(namespace, setting, "0")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onehost::layout;

    #[test]
    fn two_nodes_reach_each_other_over_the_hub() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: root is needed");
            return;
        }
        let hub = NetNs::new_anonymous().unwrap();
        make_hub(&hub).unwrap();
        let nodes = layout::nodes(2);
        let first = make_node(&hub, &nodes[0]).unwrap();
        let second = make_node(&hub, &nodes[1]).unwrap();
        let listener = second.run(|| std::net::TcpListener::bind((nodes[1].address, 0))).unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = first.run(|| std::net::TcpStream::connect((nodes[1].address, port))).unwrap().unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        assert_eq!(peer.ip(), IpAddr::V4(nodes[0].address));
    }
}
