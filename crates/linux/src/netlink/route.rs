//! Routes and the rules that pick a routing table.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{Netlink, family};
use crate::error::Result;

/// How far away a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Anywhere.
    #[default]
    Universe,
    /// On the link itself.
    Link,
    /// This machine: packets are delivered here.
    Host,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to; a prefix of length 0 is the default route.
    pub destination: IpNet,
    /// By way of which neighbour.
    pub gateway: Option<IpAddr>,
    /// Out of which interface.
    pub interface: Option<u32>,
    /// Believe that the gateway is on the link even if no prefix says so.
    pub onlink: bool,
    /// How far away it is. [`Scope::Host`] makes the kernel deliver here (type `local`).
    pub scope: Scope,
    /// In which table; 254 is the main one.
    pub table: u32,
    /// The preferred source address.
    pub source: Option<IpAddr>,
}

impl Route {
    /// A route in the main table, without a way yet.
    pub fn to(destination: IpNet) -> Self {
        Self {
            destination,
            gateway: None,
            interface: None,
            onlink: false,
            scope: Scope::Universe,
            table: u32::from(RouteHeader::RT_TABLE_MAIN),
            source: None,
        }
    }

    /// Goes by way of `gateway`.
    #[must_use]
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Goes out of this interface.
    #[must_use]
    pub fn dev(mut self, interface: u32) -> Self {
        self.interface = Some(interface);
        self
    }

    /// The gateway is on the link, whatever the prefixes say.
    #[must_use]
    pub fn onlink(mut self) -> Self {
        self.onlink = true;
        self
    }

    /// Has this scope.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Lives in this table.
    #[must_use]
    pub fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// Packets without a source address get this one.
    #[must_use]
    pub fn source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.destination.addr().is_ipv6());
        message.header.destination_prefix_length = self.destination.prefix_len();
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = if self.scope == Scope::Host { RouteType::Local } else { RouteType::Unicast };
        message.header.scope = match self.scope {
            Scope::Universe => RouteScope::Universe,
            Scope::Link => RouteScope::Link,
            Scope::Host => RouteScope::Host,
        };
        if self.onlink {
            message.header.flags = RouteFlags::Onlink;
        }
        if self.destination.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(self.destination.network().into()));
        }
        message.attributes.push(RouteAttribute::Table(self.table));
        message.attributes.extend(self.gateway.map(|ip| RouteAttribute::Gateway(ip.into())));
        message.attributes.extend(self.interface.map(RouteAttribute::Oif));
        message.attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        message
    }
}

/// A rule that sends marked packets to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// For IPv6 rather than IPv4.
    pub v6: bool,
    /// Rules are tried from the lowest number.
    pub priority: u32,
    /// Packets whose mark, under the mask, is this.
    pub mark: u32,
    /// Which bits of the mark count.
    pub mask: u32,
    /// Look here.
    pub table: u32,
}

impl Rule {
    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family(self.v6);
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Priority(self.priority),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(self.mask),
            RuleAttribute::Table(self.table),
        ];
        message
    }
}

impl Netlink {
    /// Adds a route, replacing one to the same destination in the same table.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        self.change(RouteNetlinkMessage::NewRoute(route.message()), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("add the route {route:?}")
        })
    }

    /// Removes a route; one that is not there is no error.
    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        let deleted =
            self.change(RouteNetlinkMessage::DelRoute(route.message()), 0, || format!("delete the route {route:?}"));
        absent_is_fine(deleted)
    }

    /// The routes of one table.
    pub fn routes(&mut self, table: u32) -> Result<Vec<Route>> {
        let mut found = Vec::new();
        for v6 in [false, true] {
            let mut request = RouteMessage::default();
            request.header.address_family = family(v6);
            let answers =
                self.dump(RouteNetlinkMessage::GetRoute(request), || format!("list the routes of table {table}"))?;
            found.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => read_route(&message, v6),
                _ => None,
            }));
        }
        found.retain(|route| route.table == table);
        Ok(found)
    }

    /// Adds a rule; one that is there already is no error.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<()> {
        // The kernel does not look for doubles itself on every version.
        if self.rules()?.contains(rule) {
            return Ok(());
        }
        self.change(RouteNetlinkMessage::NewRule(rule.message()), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add the rule {rule:?}")
        })
    }

    /// Removes a rule; one that is not there is no error.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<()> {
        let deleted =
            self.change(RouteNetlinkMessage::DelRule(rule.message()), 0, || format!("delete the rule {rule:?}"));
        absent_is_fine(deleted)
    }

    /// The rules about marks. Others are not listed.
    pub fn rules(&mut self) -> Result<Vec<Rule>> {
        let mut found = Vec::new();
        for v6 in [false, true] {
            let mut request = RuleMessage::default();
            request.header.family = family(v6);
            let answers = self.dump(RouteNetlinkMessage::GetRule(request), || "list the rules".to_owned())?;
            found.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRule(message) => read_rule(&message, v6),
                _ => None,
            }));
        }
        Ok(found)
    }
}

fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.not_found() => Ok(()),
        other => other,
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn read_route(message: &RouteMessage, v6: bool) -> Option<Route> {
    let anywhere: IpAddr =
        if v6 { std::net::Ipv6Addr::UNSPECIFIED.into() } else { std::net::Ipv4Addr::UNSPECIFIED.into() };
    let mut destination = anywhere;
    let mut route = Route::to(IpNet::new(anywhere, 0).ok()?);
    route.table = u32::from(message.header.table);
    route.onlink = message.header.flags.contains(RouteFlags::Onlink);
    route.scope = match (message.header.kind, message.header.scope) {
        (RouteType::Local, _) | (_, RouteScope::Host) => Scope::Host,
        (_, RouteScope::Link) => Scope::Link,
        _ => Scope::Universe,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = address(to)?,
            RouteAttribute::Gateway(via) => route.gateway = address(via),
            RouteAttribute::PrefSource(from) => route.source = address(from),
            RouteAttribute::Oif(index) => route.interface = Some(*index),
            RouteAttribute::Table(table) => route.table = *table,
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(route)
}

fn read_rule(message: &RuleMessage, v6: bool) -> Option<Rule> {
    let mut rule = Rule { v6, priority: 0, mark: 0, mask: u32::MAX, table: u32::from(message.header.table) };
    let mut marked = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::FwMark(mark) => (rule.mark, marked) = (*mark, true),
            RuleAttribute::FwMask(mask) => rule.mask = *mask,
            RuleAttribute::Table(table) => rule.table = *table,
            _ => {}
        }
    }
    marked.then_some(rule)
}
