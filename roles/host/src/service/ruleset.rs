//! The nftables table that carries a [`Routing`] out: a pure function, so that it can be read in a test.
//!
//! One map leads from address, protocol and port to a chain per frontend, so the number of services costs nothing per
//! packet. New connections are translated where they enter the node, from pods and from the node's own processes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use linux::nft::{self, Chain, ChainKind, Element, Family, Field, FieldKind, Hook, Key, Rule, Set, Table, Verdict};

use super::routing::{Backend, Frontend, Protocol, Routing};

const TABLE: &str = "ambit-services";
const FRONTEND: [Key; 3] = [Key::Ip4Destination, Key::Protocol, Key::DestinationPort];
const PREFIX: i32 = -100;

/// The table of a node with this address.
pub(crate) fn table(routing: &Routing, node: Ipv4Addr) -> Table {
    let kinds = FRONTEND.map(Key::kind);
    let served = routing.frontends.iter().filter(|(_, backends)| !backends.is_empty());
    let refused = routing.frontends.iter().filter(|(_, backends)| backends.is_empty());
    let to_chain = |frontend: &Frontend| Element::verdict(key(frontend), Verdict::Goto(chain_name(frontend)));
    let mut table = Table::new(Family::Ip, TABLE)
        .set(Set::verdicts("services", kinds).elements(served.clone().map(|(frontend, _)| to_chain(frontend))))
        .set(Set::new("refused", kinds).elements(refused.map(|(frontend, _)| Element::member(key(frontend)))))
        .set(Set::new("hairpin", [FieldKind::Ip4, FieldKind::Ip4]).elements(hairpins(routing)));
    for (frontend, backends) in served {
        let to: Vec<SocketAddr> = backends.iter().map(|(address, port)| SocketAddr::from((*address, *port))).collect();
        let rule = with_protocol(Rule::new(), frontend.protocol).dnat_random(&to);
        table = table.chain(Chain::new(chain_name(frontend)).rule(rule));
    }
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        let rule = Rule::new().vmap(&FRONTEND, "services");
        table = table.chain(Chain::base(name, ChainKind::Nat, hook, PREFIX).rule(rule));
    }
    for (name, hook) in [("refuse-forward", Hook::Forward), ("refuse-output", Hook::Output)] {
        let rule = Rule::new().in_set(&FRONTEND, "refused").reject();
        table = table.chain(Chain::base(name, ChainKind::Filter, hook, 0).rule(rule));
    }
    // A pod that reaches itself by a service would see its own address as the peer's, and answer on its loopback.
    let rule = Rule::new().in_set(&[Key::Ip4Source, Key::Ip4Destination], "hairpin").snat(IpAddr::V4(node));
    table.chain(Chain::base("postrouting", ChainKind::Nat, Hook::Postrouting, 100).rule(rule))
}

/// Makes the node's table the one that carries `routing` out.
pub(crate) fn apply(routing: &Routing, node: Ipv4Addr) -> Result<(), linux::Error> {
    table(routing, node).apply(&linux::netns::NetNs::current()?)
}

/// Removes the table.
pub(crate) fn remove() -> Result<(), linux::Error> {
    nft::delete(&linux::netns::NetNs::current()?, Family::Ip, TABLE)
}

fn key(frontend: &Frontend) -> [Field; 3] {
    [Field::Ip4(frontend.address), Field::Protocol(protocol(frontend.protocol)), Field::Port(frontend.port)]
}

fn protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => nft::Protocol::Tcp.number(),
        Protocol::Udp => nft::Protocol::Udp.number(),
    }
}

fn with_protocol(rule: Rule, protocol: Protocol) -> Rule {
    match protocol {
        Protocol::Tcp => rule.tcp(),
        Protocol::Udp => rule.udp(),
    }
}

fn chain_name(frontend: &Frontend) -> String {
    let protocol = match frontend.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}-{protocol}-{}", frontend.address, frontend.port)
}

fn hairpins(routing: &Routing) -> Vec<Element> {
    let addresses = routing.frontends.values().flatten().map(|(address, _): &Backend| *address);
    let unique: std::collections::BTreeSet<Ipv4Addr> = addresses.collect();
    unique.into_iter().map(|address| Element::member([Field::Ip4(address), Field::Ip4(address)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(frontends: &[(&str, Protocol, u16, &[(&str, u16)])]) -> Routing {
        let frontends = frontends.iter().map(|(address, protocol, port, backends)| {
            let frontend = Frontend { address: address.parse().unwrap(), protocol: *protocol, port: *port };
            let backends = backends.iter().map(|(address, port)| (address.parse().unwrap(), *port)).collect();
            (frontend, backends)
        });
        Routing { frontends: frontends.collect() }
    }

    #[test]
    fn a_ruleset_reads_like_this() {
        let routing = routing(&[
            ("10.96.0.5", Protocol::Tcp, 80, &[("10.244.1.2", 8080), ("10.244.2.2", 8080)]),
            ("10.96.0.10", Protocol::Udp, 53, &[("10.244.1.3", 53)]),
            ("10.96.0.9", Protocol::Tcp, 443, &[]),
        ]);
        insta::assert_snapshot!(table(&routing, "172.30.0.11".parse().unwrap()));
    }

    #[test]
    fn without_services_only_the_hooks_remain() {
        let table = table(&Routing::default(), "172.30.0.11".parse().unwrap());
        assert_eq!(table.chains.len(), 5);
        assert!(table.sets.iter().all(|set| set.iter().next().is_none()));
    }
}
