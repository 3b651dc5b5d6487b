//! A node and a pod with a wire between them.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use linux::netlink::{Netlink, Route, VethEnd};
use linux::netns::NetNs;
use linux::socket::{ConnectOptions, ListenOptions, connect, listen_tcp};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const NODE: [&str; 2] = ["10.9.0.1", "fd09::1"];
pub(crate) const POD: [&str; 2] = ["10.9.0.2", "fd09::2"];
pub(crate) const PROBE_V4: &str = "169.254.7.127";
pub(crate) const PROBE_V6: &str = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff";

const SOON: Duration = Duration::from_secs(5);

/// Whether this process may make namespaces. Without, the test that asks does nothing and says so.
pub(crate) fn may() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root to make network namespaces");
    }
    root
}

/// Two namespaces joined by `eth0`s.
pub(crate) struct Lab {
    pub(crate) node: NetNs,
    pub(crate) pod: NetNs,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let (node, pod) = (NetNs::new_anonymous().unwrap(), NetNs::new_anonymous().unwrap());
        let end = VethEnd { name: "eth0", mac: None };
        Netlink::open(&node).unwrap().create_veth(&end, &end, &pod, 1500).unwrap();
        for (ns, addresses) in [(&node, NODE), (&pod, POD)] {
            let mut netlink = Netlink::open(ns).unwrap();
            for name in ["lo", "eth0"] {
                let index = netlink.link(name).unwrap().index;
                netlink.set_up(index).unwrap();
            }
            let eth0 = netlink.link("eth0").unwrap().index;
            for (address, len) in addresses.into_iter().zip([24, 64]) {
                netlink.add_address(eth0, format!("{address}/{len}").parse::<IpNet>().unwrap()).unwrap();
            }
        }
        let mut netlink = Netlink::open(&pod).unwrap();
        let eth0 = netlink.link("eth0").unwrap().index;
        for (everywhere, gateway) in ["0.0.0.0/0", "::/0"].into_iter().zip(NODE) {
            let route = Route::to(everywhere.parse().unwrap()).via(gateway.parse().unwrap()).dev(eth0);
            netlink.add_route(&route).unwrap();
        }
        Self { node, pod }
    }

    /// Gives the node the addresses that probes come from.
    pub(crate) fn with_probe_addresses(self) -> Self {
        let mut netlink = Netlink::open(&self.node).unwrap();
        let eth0 = netlink.link("eth0").unwrap().index;
        for (address, len) in [(PROBE_V4, 32), (PROBE_V6, 128)] {
            netlink.add_address(eth0, format!("{address}/{len}").parse().unwrap()).unwrap();
        }
        self
    }
}

pub(crate) fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Listens on all addresses of both versions.
pub(crate) fn listen(ns: &NetNs, port: u16) -> TcpListener {
    let listener = listen_tcp(ns, at("::", port), &ListenOptions::default()).unwrap();
    TcpListener::from_std(listener).unwrap()
}

pub(crate) async fn reach(ns: &NetNs, to: SocketAddr, options: &ConnectOptions) -> Result<TcpStream, linux::Error> {
    connect(Some(ns), to, options, SOON).await
}
