//! Which rule a request follows, and what that rule does with it (§2.3): pure, one snapshot and one request head in, one
//! [`plan::Plan`] out.

pub mod cors;
pub mod filter;
mod matcher;
pub mod plan;
pub mod rule;
mod table;

pub use table::{Selected, Table};

pub(crate) use table::Host;

use crate::config::BadResource;
use http::HeaderMap;
use matcher::Matcher;
use model::Str;
use proto::l7 as wire;
use rule::{Origin, Rule};
use std::sync::Arc;
use table::Entry;

/// What routes see of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host, with a port if the client wrote one, in lower case.
    pub authority: &'a str,
    /// Port that the client addressed.
    pub port: u16,
    /// Path, normalized.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Kubernetes namespace of the client, if it is known.
    pub source_namespace: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// The authority without its port.
    pub fn host(&self) -> &'a str {
        host(self.authority)
    }
}

/// An authority without its port.
pub fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

/// One route, ready for use.
#[derive(Debug)]
pub struct Route {
    /// Where it is from.
    pub origin: Origin,
    /// What it attaches to.
    pub parents: Vec<wire::Parent>,
    hostnames: Vec<Host>,
    rules: Vec<(Arc<Rule>, Vec<wire::Match>)>,
}

impl Route {
    /// A route; one bad part makes all of it unusable, so that no rule is left to catch what the bad one meant.
    pub fn new(wire: &wire::Route) -> Result<Self, BadResource> {
        let origin = Origin {
            kind: wire.kind(),
            namespace: Str::from(wire.namespace.as_str()),
            name: Str::from(wire.name.as_str()),
            created: wire.created,
        };
        let mut rules = Vec::with_capacity(wire.rules.len());
        for (index, rule) in wire.rules.iter().enumerate() {
            rule.matches.iter().try_for_each(|one| Matcher::new(one).map(drop))?;
            rules.push((Arc::new(Rule::new(&origin, index, rule)?), rule.matches.clone()));
        }
        let hostnames = wire.hostnames.iter().map(|host| Host::new(host)).collect();
        Ok(Self { origin, parents: wire.parents.clone(), hostnames, rules })
    }

    /// The hosts that count at a listener for `listener`; none: the route says nothing there.
    fn hosts_at(&self, listener: &Host) -> Vec<Host> {
        if self.hostnames.is_empty() {
            return vec![listener.clone()];
        }
        self.hostnames.iter().filter_map(|host| host.meet(listener)).collect()
    }
}

/// The table of what attaches to one parent: each route with the port that it is limited to. `listener` bounds the hosts;
/// without one, as at a service, hosts do not matter.
pub fn table<'a>(routes: impl IntoIterator<Item = (&'a Route, Option<u16>)>, listener: Option<&str>) -> Table {
    let listener = listener.map(Host::new);
    let mut entries = Vec::new();
    for (route, port) in routes {
        let in_order = route.origin.kind == wire::route::Kind::VirtualService;
        let hosts = listener.as_ref().map_or_else(|| vec![Host::Any], |listener| route.hosts_at(listener));
        for host in &hosts {
            for (number, (rule, matches)) in route.rules.iter().enumerate() {
                // Checked when the route was made.
                let matchers = matches.iter().filter_map(|one| Matcher::new(one).ok());
                let any = matches.is_empty().then(Matcher::any);
                for (index, matcher) in matchers.chain(any).enumerate() {
                    let (host, rule) = (host.clone(), rule.clone());
                    entries.push(Entry { host, port, matcher, rule, position: (number, index), in_order });
                }
            }
        }
    }
    Table::new(entries)
}
