//! Links, addresses, routes and rules: made, listed, taken away.

use linux::netlink::{MacAddress, Netlink, Route, Rule, Scope, VethEnd};
use linux::netns::NetNs;

use crate::lab;

#[test]
fn a_bridge_with_a_port_whose_other_end_is_elsewhere() {
    if !lab::may() {
        return;
    }
    let (here, there) = (lab::namespace(), NetNs::new_anonymous().unwrap());
    let mut netlink = Netlink::open(&here).unwrap();
    let bridge = netlink.create_bridge("hub0", None).unwrap();
    let mac = MacAddress([2, 0, 0, 0, 0, 7]);
    let port = VethEnd { name: "port1", mac: None };
    let far = VethEnd { name: "eth0", mac: Some(mac) };
    let port = netlink.create_veth(&port, &far, &there, 1400).unwrap();
    netlink.set_master(port, Some(bridge)).unwrap();
    netlink.set_up(port).unwrap();
    let listed = netlink.link("port1").unwrap();
    assert_eq!((listed.master, listed.mtu, listed.up), (Some(bridge), 1400, true));
    let mut far_netlink = Netlink::open(&there).unwrap();
    let far = far_netlink.link("eth0").unwrap();
    assert_eq!((far.mac, far.up), (Some(mac), false));
    far_netlink.rename(far.index, "uplink").unwrap();
    assert!(far_netlink.link("eth0").unwrap_err().not_found());
    netlink.delete_link(port).unwrap();
    netlink.delete_link(port).unwrap();
    assert!(far_netlink.link("uplink").is_err(), "the peer goes with its end");
    let twice = netlink.create_bridge("hub0", None).unwrap_err();
    assert!(twice.already_exists(), "{twice}");
}

#[test]
fn marked_packets_can_be_delivered_locally() {
    if !lab::may() {
        return;
    }
    let ns = lab::namespace();
    let mut netlink = Netlink::open(&ns).unwrap();
    let lo = netlink.link("lo").unwrap().index;
    for (v6, everywhere) in [(false, "0.0.0.0/0"), (true, "::/0")] {
        let route = Route::to(everywhere.parse().unwrap()).dev(lo).scope(Scope::Host).table(100);
        let rule = Rule { v6, priority: 32764, mark: 0x111, mask: 0xfff, table: 100 };
        for _ in 0..2 {
            netlink.add_route(&route).unwrap();
            netlink.add_rule(&rule).unwrap();
        }
        let routes = netlink.routes(100).unwrap();
        let found = routes.iter().filter(|found| found.destination == route.destination).count();
        assert_eq!((found, netlink.rules().unwrap().contains(&rule)), (1, true), "{routes:?}");
        netlink.delete_rule(&rule).unwrap();
        netlink.delete_rule(&rule).unwrap();
        netlink.delete_route(&route).unwrap();
        netlink.delete_route(&route).unwrap();
    }
    assert_eq!((netlink.routes(100).unwrap().len(), netlink.rules().unwrap().len()), (0, 0));
}

#[test]
fn routes_by_way_of_a_gateway_that_no_prefix_covers() {
    if !lab::may() {
        return;
    }
    let wire = lab::Wire::new();
    let mut netlink = Netlink::open(&wire.left).unwrap();
    let eth0 = netlink.link("eth0").unwrap().index;
    let gateway = "169.254.1.1".parse().unwrap();
    let source = "10.9.0.1".parse().unwrap();
    let route = Route::to("0.0.0.0/0".parse().unwrap()).via(gateway).dev(eth0).onlink().source(source);
    netlink.add_route(&route).unwrap();
    netlink.add_neighbour(eth0, gateway, MacAddress([2, 0, 0, 0, 0, 9])).unwrap();
    assert!(netlink.routes(254).unwrap().contains(&route));
    assert!(netlink.holds_address(source).unwrap());
    netlink.delete_address(eth0, "10.9.0.1/24".parse().unwrap()).unwrap();
    assert!(!netlink.holds_address(source).unwrap());
}
