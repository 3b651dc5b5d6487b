//! What is put into a pod's network namespace: three nftables tables and a routing rule, for both IP versions.
//!
//! The tables are values ([`PodRules::tables`]); applying compares first and does nothing when they are in place, and
//! reads back after. Marks: what the node proxy sends carries [`PROXY_MARK`]; connections it opened *into* the pod are
//! remembered by [`CONNECTION_MARK`], and their answers are routed back to the proxy, whatever address it had borrowed.

mod host;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use linux::netlink::{Netlink, Route, Rule as RouteRule, Scope};
use linux::netns::NetNs;
use linux::nft::{self, Chain, ChainKind, Family, Hook, Rule, Table};
use linux::sysctl;

use crate::enrolment::Enrolment;

pub use host::HostRules;

/// The mark on packets that the node proxy sends.
const PROXY_MARK: u32 = 0x539;
/// The mark of connections that the node proxy opened into the pod.
const CONNECTION_MARK: u32 = 0x111;
/// Which bits of marks are ours.
const MASK: u32 = 0xfff;
/// Packets with the connection mark are routed by this table.
const ROUTE_TABLE: u32 = 100;
const ROUTE_PRIORITY: u32 = 32764;

const OUTBOUND: u16 = 15001;
const INBOUND_PLAINTEXT: u16 = 15006;
const INBOUND_HBONE: u16 = 15008;
const DNS_PROXY: u16 = 15053;
const DNS: u16 = 53;

/// The tables, each with the usual place of what `iptables` has under that name.
const NAT: &str = "istio-ambient-nat";
const MANGLE: &str = "istio-ambient-mangle";
const RAW: &str = "istio-ambient-raw";

/// Why rules are not in place.
#[derive(Debug, thiserror::Error)]
pub enum PodRulesError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    /// Something else changed them at once.
    #[error(
        "the table {table} reads back differently than written; another program rewrites nftables in this namespace"
    )]
    Changed {
        /// Which table.
        table: String,
    },
}

/// The rules for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRules {
    /// How the pod is in the mesh.
    pub enrolment: Enrolment,
    /// Where probes of the node come from, IPv4.
    pub probe_v4: Ipv4Addr,
    /// Where probes of the node come from, IPv6.
    pub probe_v6: Ipv6Addr,
    /// Whether IPv6 is captured.
    pub ipv6: bool,
}

/// What differs between the IP versions.
struct Version {
    v6: bool,
    loopback: IpNet,
    probe: IpNet,
}

impl PodRules {
    fn versions(&self) -> Vec<Version> {
        let host = |address: IpAddr| IpNet::from(address);
        let v4 = Version { v6: false, loopback: host(Ipv4Addr::LOCALHOST.into()), probe: host(self.probe_v4.into()) };
        let v6 = Version { v6: true, loopback: host(Ipv6Addr::LOCALHOST.into()), probe: host(self.probe_v6.into()) };
        if self.ipv6 { vec![v4, v6] } else { vec![v4] }
    }

    /// The tables as they should be.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.mangle(), self.nat()];
        if self.enrolment.dns_capture {
            tables.push(self.raw());
        }
        tables
    }

    fn mangle(&self) -> Table {
        let remember = Rule::new().mark(PROXY_MARK, MASK).set_ct_mark(CONNECTION_MARK, MASK);
        let recall = Rule::new().ct_mark(CONNECTION_MARK, MASK).mark_from_ct();
        // Output is of type route: a packet whose mark changed is routed anew.
        table(MANGLE, [ChainKind::Filter, ChainKind::Route], -150, vec![remember], vec![recall])
    }

    fn nat(&self) -> Table {
        let prerouting = self.rerouted().chain(self.versions().iter().flat_map(|it| self.nat_in(it))).collect();
        let output = self.versions().iter().flat_map(|it| self.nat_out(it)).collect();
        table(NAT, [ChainKind::Nat, ChainKind::Nat], -100, prerouting, output)
    }

    /// What arrives from a virtual machine in the pod is outbound traffic.
    fn rerouted(&self) -> impl Iterator<Item = Rule> {
        self.enrolment
            .virtual_interfaces
            .iter()
            .flat_map(|name| [Rule::new().iif(name).tcp().redirect(OUTBOUND), Rule::new().iif(name).tcp().back()])
    }

    fn nat_in(&self, version: &Version) -> Vec<Rule> {
        if self.enrolment.bypass_inbound {
            return Vec::new();
        }
        vec![
            Rule::new().saddr(version.probe).tcp().accept(),
            Rule::new()
                .daddr_not(version.loopback)
                .tcp()
                .dport_not(INBOUND_HBONE)
                .mark_not(PROXY_MARK, MASK)
                .redirect(INBOUND_PLAINTEXT),
        ]
    }

    fn nat_out(&self, version: &Version) -> Vec<Rule> {
        let own = |rule: Rule| rule.mark_not(PROXY_MARK, MASK);
        let dns = [
            own(Rule::new().ip_version(version.v6).oif_not("lo").udp().dport(DNS)).redirect(DNS_PROXY),
            own(Rule::new().daddr_not(version.loopback).tcp().dport(DNS)).redirect(DNS_PROXY),
        ];
        let mut rules = vec![Rule::new().daddr(version.probe).tcp().accept()];
        rules.extend(dns.into_iter().filter(|_| self.enrolment.dns_capture));
        rules.extend([
            Rule::new().ip_version(version.v6).tcp().mark(CONNECTION_MARK, MASK).accept(),
            // A pod that calls itself by its own address is not captured.
            Rule::new().daddr_not(version.loopback).oif("lo").accept(),
            own(Rule::new().daddr_not(version.loopback).tcp()).redirect(OUTBOUND),
        ]);
        rules
    }

    /// Queries of the pod and of the proxy on its behalf have equal addresses; zones keep them apart.
    fn raw(&self) -> Table {
        let answers = Rule::new().udp().sport(DNS).mark_not(PROXY_MARK, MASK).set_ct_zone(1);
        let queries = Rule::new().udp().dport(DNS).mark(PROXY_MARK, MASK).set_ct_zone(1);
        table(RAW, [ChainKind::Filter, ChainKind::Filter], -300, vec![answers], vec![queries])
    }

    /// Puts the rules in place. Returns whether anything had to be changed.
    pub fn apply(&self, ns: &NetNs) -> Result<bool, PodRulesError> {
        let wanted = self.tables();
        let in_place = in_place(ns, &wanted)?.is_none();
        if !in_place {
            nft::apply(ns, &wanted)?;
            if let Some(table) = self::in_place(ns, &wanted)? {
                return Err(PodRulesError::Changed { table });
            }
        }
        if !self.enrolment.dns_capture {
            nft::delete(ns, Family::Inet, RAW)?;
        }
        self.apply_routes(ns)?;
        Ok(!in_place)
    }

    fn apply_routes(&self, ns: &NetNs) -> Result<(), linux::Error> {
        let mut netlink = Netlink::open(ns)?;
        let lo = netlink.link("lo")?.index;
        for version in self.versions() {
            if version.v6 && ipv6_is_off(ns) {
                continue;
            }
            netlink.add_rule(&rule(version.v6))?;
            netlink.add_route(&route(version.v6, lo))?;
        }
        Ok(())
    }

    /// Takes away everything that [`PodRules::apply`] may have put there, under whatever settings.
    pub fn remove(ns: &NetNs) -> Result<(), PodRulesError> {
        for table in [NAT, MANGLE, RAW] {
            nft::delete(ns, Family::Inet, table)?;
        }
        let mut netlink = Netlink::open(ns)?;
        let lo = netlink.link("lo")?.index;
        for v6 in [false, true] {
            netlink.delete_rule(&rule(v6))?;
            netlink.delete_route(&route(v6, lo))?;
        }
        Ok(())
    }
}

/// Base chains that jump to a chain each.
fn table(name: &str, kinds: [ChainKind; 2], priority: i32, prerouting: Vec<Rule>, output: Vec<Rule>) -> Table {
    let [arriving, leaving] = kinds;
    let base =
        |name: &str, kind, hook, to: &str| Chain::base(name, kind, hook, priority).rule(Rule::new().counter().jump(to));
    Table::new(Family::Inet, name)
        .chain(base("prerouting", arriving, Hook::Prerouting, "istio-prerouting"))
        .chain(base("output", leaving, Hook::Output, "istio-output"))
        .chain(Chain::new("istio-prerouting").rules(prerouting))
        .chain(Chain::new("istio-output").rules(output))
}

/// The first table that is not as wanted.
fn in_place(ns: &NetNs, wanted: &[Table]) -> Result<Option<String>, linux::Error> {
    for table in wanted {
        if nft::read(ns, table.family, &table.name)?.as_ref() != Some(table) {
            return Ok(Some(table.name.clone()));
        }
    }
    Ok(None)
}

fn everywhere(v6: bool) -> IpNet {
    if v6 { ipnet::Ipv6Net::default().into() } else { ipnet::Ipv4Net::default().into() }
}

fn rule(v6: bool) -> RouteRule {
    RouteRule { v6, priority: ROUTE_PRIORITY, mark: CONNECTION_MARK, mask: MASK, table: ROUTE_TABLE }
}

fn route(v6: bool, lo: u32) -> Route {
    Route::to(everywhere(v6)).dev(lo).scope(Scope::Host).table(ROUTE_TABLE)
}

/// Whether the namespace has no IPv6: there is nothing to route then.
fn ipv6_is_off(ns: &NetNs) -> bool {
    sysctl::read(ns, "net.ipv6.conf.lo.disable_ipv6").map_or(true, |value| value == "1")
}
