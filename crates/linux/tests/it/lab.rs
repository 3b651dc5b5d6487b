//! Small networks to test in: two namespaces with a wire between them.

use ipnet::IpNet;
use linux::netlink::{Netlink, VethEnd};
use linux::netns::NetNs;

/// Whether this process may make namespaces. Without, the test that asks does nothing and says so.
pub(crate) fn may() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root to make network namespaces");
    }
    root
}

/// A namespace with its loopback up.
pub(crate) fn namespace() -> NetNs {
    let ns = NetNs::new_anonymous().unwrap();
    let mut netlink = Netlink::open(&ns).unwrap();
    let lo = netlink.link("lo").unwrap().index;
    netlink.set_up(lo).unwrap();
    ns
}

/// Two namespaces, `left` with 10.9.0.1 and fd09::1, `right` with 10.9.0.2 and fd09::2, joined by `eth0`s.
pub(crate) struct Wire {
    pub(crate) left: NetNs,
    pub(crate) right: NetNs,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let (left, right) = (namespace(), namespace());
        let end = VethEnd { name: "eth0", mac: None };
        Netlink::open(&left).unwrap().create_veth(&end, &end, &right, 1500).unwrap();
        for (ns, host) in [(&left, 1), (&right, 2)] {
            let mut netlink = Netlink::open(ns).unwrap();
            let index = netlink.link("eth0").unwrap().index;
            netlink.set_up(index).unwrap();
            for address in [format!("10.9.0.{host}/24"), format!("fd09::{host}/64")] {
                netlink.add_address(index, address.parse::<IpNet>().unwrap()).unwrap();
            }
        }
        Self { left, right }
    }
}
