//! Rules in the kernel, with real traffic through them.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use linux::netns::NetNs;
use linux::nft::{
    self, Chain, ChainKind, Element, Family, Field, FieldKind, Hook, Key, Protocol, Rule, Set, Table, Verdict,
};
use linux::socket::{ConnectOptions, ListenOptions, connect, listen_tcp, original_dst};
use tokio::net::TcpListener;

use crate::lab;

const SOON: Duration = Duration::from_secs(5);

fn listen(ns: &NetNs, addr: &str) -> TcpListener {
    TcpListener::from_std(listen_tcp(ns, addr.parse().unwrap(), &ListenOptions::default()).unwrap()).unwrap()
}

async fn reach(ns: &NetNs, to: &str) -> Result<tokio::net::TcpStream, linux::Error> {
    connect(Some(ns), to.parse().unwrap(), &ConnectOptions::default(), SOON).await
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn everything() -> Table {
    let by_service = [FieldKind::Ip4, FieldKind::Protocol, FieldKind::Port];
    let service = [Field::Ip4([10, 96, 0, 1].into()), Field::Protocol(6), Field::Port(443)];
    let keys = [Key::Ip4Destination, Key::Protocol, Key::DestinationPort];
    Table::new(Family::Inet, "everything")
        .set(Set::new("pods", [FieldKind::Ip4]).elements([
            Element::member([Field::Ip4([10, 0, 0, 2].into())]).comment("second"),
            Element::member([Field::Ip4([10, 0, 0, 1].into())]).comment("first"),
        ]))
        .set(
            Set::verdicts("services", by_service)
                .elements([Element::verdict(service, Verdict::Goto("one".to_owned()))]),
        )
        .set(
            Set::map("places", [FieldKind::Port], [FieldKind::Ip4, FieldKind::Port])
                .elements([Element::map([Field::Port(80)], [Field::Ip4([10, 0, 0, 9].into()), Field::Port(8080)])]),
        )
        .chain(
            Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, -100)
                .rule(Rule::new().vmap(&keys, "services"))
                .rule(Rule::new().tcp().dnat_map(&[Key::DestinationPort], "places", false))
                .rule(Rule::new().in_set(&[Key::Ip4Source], "pods").counter().accept()),
        )
        .chain(
            Chain::base("raw", ChainKind::Filter, Hook::Prerouting, -300)
                .rule(Rule::new().udp().sport(53).mark_not(0x539, 0xfff).set_ct_zone(1))
                .rule(Rule::new().iif("lo").notrack().comment("nobody asks")),
        )
        .chain(
            Chain::base("postrouting", ChainKind::Nat, Hook::Postrouting, 100)
                .rule(Rule::new().has_socket().tcp().snat("169.254.7.127".parse().unwrap()))
                .rule(Rule::new().skuid(0).saddr(net("10.0.0.0/8")).daddr_not(net("10.0.0.0/8")).masquerade()),
        )
        .chain(
            Chain::base("output", ChainKind::Route, Hook::Output, -150)
                .rule(Rule::new().ct_mark(0x111, 0xfff).mark_from_ct())
                .rule(Rule::new().mark(1, u32::MAX).set_ct_mark(0x111, 0xfff).set_mark(7, u32::MAX)),
        )
        .chain(
            Chain::new("one")
                .rule(Rule::new().tcp().dnat_random(&["10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()])),
        )
        .chain(
            Chain::new("refusals")
                .rule(Rule::new().daddr_local().tcp().reject_with_reset())
                .rule(Rule::new().protocol(Protocol::Udp).dport_not(53).reject())
                .rule(Rule::new().oif_not("lo").goto_random(&["one".to_owned()]))
                .rule(Rule::new().saddr_not(net("fd00::/8")).oif("eth0").back())
                .rule(Rule::new().drop()),
        )
}

#[test]
fn what_the_kernel_gives_back_is_what_it_was_given() {
    if !lab::may() {
        return;
    }
    let ns = NetNs::new_anonymous().unwrap();
    let wanted = everything();
    for _ in 0..2 {
        wanted.apply(&ns).unwrap();
        let read = nft::read(&ns, Family::Inet, "everything").unwrap().unwrap();
        assert_eq!(read.to_string(), wanted.to_string());
        assert_eq!(read, wanted);
    }
    nft::delete(&ns, Family::Inet, "everything").unwrap();
    nft::delete(&ns, Family::Inet, "everything").unwrap();
    assert_eq!(nft::read(&ns, Family::Inet, "everything").unwrap(), None);
    nft::probe(&ns).unwrap();
    assert_eq!(nft::tables(&ns).unwrap(), []);
}

#[test]
fn a_refused_change_changes_nothing() {
    if !lab::may() {
        return;
    }
    let ns = NetNs::new_anonymous().unwrap();
    let good = Table::new(Family::Ip, "t").chain(Chain::new("c").rule(Rule::new().counter()));
    good.apply(&ns).unwrap();
    let bad = Table::new(Family::Ip, "t").chain(Chain::new("c").rule(Rule::new().jump("nowhere")));
    let error = bad.apply(&ns).unwrap_err();
    assert!(error.to_string().contains("add a rule to chain c of the nftables table t: jump nowhere"), "{error}");
    assert_eq!(nft::read(&ns, Family::Ip, "t").unwrap(), Some(good));
}

#[test]
fn sets_change_element_by_element_and_hold_many() {
    if !lab::may() {
        return;
    }
    let ns = NetNs::new_anonymous().unwrap();
    Table::new(Family::Inet, "t").set(Set::new("pods", [FieldKind::Ip4])).apply(&ns).unwrap();
    let pod = |n: u32| Element::member([Field::Ip4((0x0a00_0000 + n).into())]).comment(format!("pod {n}"));
    let all: Vec<_> = (0..5000).map(pod).collect();
    let (family, table, set) = (Family::Inet, "t", "pods");
    nft::add_elements(&ns, family, table, set, &all).unwrap();
    assert_eq!(nft::elements(&ns, family, table, set).unwrap(), all);
    nft::delete_elements(&ns, family, table, set, &all[1..]).unwrap();
    assert!(nft::delete_elements(&ns, family, table, set, &all[..2]).unwrap_err().not_found());
    assert_eq!(nft::elements(&ns, family, table, set).unwrap(), all[..1]);
    nft::replace_elements(&ns, family, table, set, &all[3..5]).unwrap();
    assert_eq!(nft::elements(&ns, family, table, set).unwrap(), all[3..5]);
}

#[tokio::test]
async fn redirected_connections_remember_where_they_were_going() {
    if !lab::may() {
        return;
    }
    let wire = lab::Wire::new();
    let redirect = |v6: bool| {
        let loopback = if v6 { net("::1/128") } else { net("127.0.0.1/32") };
        Rule::new().tcp().daddr_not(loopback).dport_not(15008).redirect(15006)
    };
    let chain = Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, -100);
    Table::new(Family::Inet, "t").chain(chain.rule(redirect(false)).rule(redirect(true))).apply(&wire.right).unwrap();
    let proxy = listen(&wire.right, "[::]:15006");
    for to in ["10.9.0.2:80", "[fd09::2]:80"] {
        let _client = reach(&wire.left, to).await.unwrap();
        let (accepted, _) = proxy.accept().await.unwrap();
        assert_eq!(original_dst(&accepted).unwrap(), to.parse::<SocketAddr>().unwrap());
    }
    assert!(reach(&wire.left, "10.9.0.2:15008").await.is_err(), "not redirected, nobody listens");
}

#[tokio::test]
async fn services_lead_to_endpoints_and_hide_who_asks() {
    if !lab::may() {
        return;
    }
    let wire = lab::Wire::new();
    let service = [Field::Ip4([10, 96, 0, 1].into()), Field::Protocol(6), Field::Port(443)];
    let kinds = [FieldKind::Ip4, FieldKind::Protocol, FieldKind::Port];
    let keys = [Key::Ip4Destination, Key::Protocol, Key::DestinationPort];
    let table = Table::new(Family::Ip, "t")
        .set(Set::verdicts("services", kinds).elements([Element::verdict(service, Verdict::Goto("one".to_owned()))]))
        .chain(Chain::base("output", ChainKind::Nat, Hook::Output, -100).rule(Rule::new().vmap(&keys, "services")))
        .chain(Chain::new("one").rule(Rule::new().tcp().dnat_random(&["10.9.0.2:8443".parse().unwrap()])))
        .chain(
            Chain::base("postrouting", ChainKind::Nat, Hook::Postrouting, 100)
                .rule(Rule::new().tcp().has_socket().snat("10.9.0.77".parse().unwrap())),
        );
    table.apply(&wire.left).unwrap();
    let mut netlink = linux::netlink::Netlink::open(&wire.left).unwrap();
    let eth0 = netlink.link("eth0").unwrap().index;
    netlink.add_address(eth0, net("10.9.0.77/24")).unwrap();
    netlink
        .add_route(&linux::netlink::Route::to(net("10.96.0.0/16")).via("10.9.0.2".parse().unwrap()).dev(eth0))
        .unwrap();
    let server = listen(&wire.right, "0.0.0.0:8443");
    let _client = reach(&wire.left, "10.96.0.1:443").await.unwrap();
    let (_, from) = server.accept().await.unwrap();
    assert_eq!(from.ip(), "10.9.0.77".parse::<std::net::IpAddr>().unwrap());
}

#[tokio::test]
async fn refusals_reach_the_asker() {
    if !lab::may() {
        return;
    }
    let wire = lab::Wire::new();
    let _server = listen(&wire.right, "0.0.0.0:80");
    let refuse = Rule::new().tcp().dport(80).daddr(net("10.9.0.2/32")).reject_with_reset();
    let input = Chain::base("input", ChainKind::Filter, Hook::Input, 0);
    Table::new(Family::Inet, "t").chain(input.rule(refuse)).apply(&wire.right).unwrap();
    let error = reach(&wire.left, "10.9.0.2:80").await.unwrap_err();
    assert_eq!(error.errno(), Some(libc::ECONNREFUSED), "{error}");
}
