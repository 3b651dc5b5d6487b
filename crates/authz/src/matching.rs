//! Whether a policy matches: or over rules, and over clauses, or over matches, and over fields, or over values.

use crate::Connection;
use ipnet::IpNet;
use model::{Action, Authorization, Identity, Match, Rule, ServiceAccountMatch, StringMatch};
use std::net::IpAddr;

const SCHEME: &str = "spiffe://";

/// The connection with its principal written out once.
pub(crate) struct Facts<'a> {
    connection: &'a Connection<'a>,
    /// Without its scheme.
    principal: Option<String>,
}

/// A rule without clauses matches; so does a clause without matches.
fn rule(rule: &Rule, action: Action, facts: &Facts<'_>) -> bool {
    if rule.unusable {
        return action == Action::Deny;
    }
    rule.clauses.iter().all(|matches| matches.is_empty() || matches.iter().any(|one| facts.fit(one)))
}

impl<'a> Facts<'a> {
    pub(crate) fn new(connection: &'a Connection<'a>) -> Self {
        let principal = connection.peer.map(|peer| {
            let uri = peer.to_string();
            uri.strip_prefix(SCHEME).map(str::to_owned).unwrap_or(uri)
        });
        Self { connection, principal }
    }

    /// A policy without rules never matches.
    pub(crate) fn policy_matches(&self, policy: &Authorization) -> bool {
        policy.rules.iter().any(|one| rule(one, policy.action, self))
    }

    /// A match with every field empty does not match.
    fn fit(&self, wanted: &Match) -> bool {
        *wanted != Match::default() && self.peer_fits(wanted) && self.addresses_fit(wanted)
    }

    fn peer_fits(&self, wanted: &Match) -> bool {
        let namespace = self.connection.peer.map_or("", |peer| &peer.namespace);
        let namespace_is = |text: &StringMatch| text_is(text, namespace);
        let principal_is =
            |text: &StringMatch| self.principal.as_deref().is_some_and(|principal| text_is(text, principal));
        let account_is =
            |account: &ServiceAccountMatch| self.connection.peer.is_some_and(|peer| is_account(peer, account));
        among(&wanted.namespaces, namespace_is)
            && none_of(&wanted.not_namespaces, namespace_is)
            && among(&wanted.principals, principal_is)
            && none_of(&wanted.not_principals, principal_is)
            && among(&wanted.service_accounts, account_is)
            && none_of(&wanted.not_service_accounts, account_is)
    }

    fn addresses_fit(&self, wanted: &Match) -> bool {
        let Connection { source, destination, .. } = self.connection;
        let source_is = |range: &IpNet| range_holds(range, source.ip());
        let destination_is = |range: &IpNet| range_holds(range, destination.ip());
        let port_is = |port: &u16| *port == destination.port();
        among(&wanted.source_ips, source_is)
            && none_of(&wanted.not_source_ips, source_is)
            && among(&wanted.destination_ips, destination_is)
            && none_of(&wanted.not_destination_ips, destination_is)
            && among(&wanted.destination_ports, port_is)
            && none_of(&wanted.not_destination_ports, port_is)
    }
}

/// No value is no constraint.
fn among<T>(values: &[T], fits: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(fits)
}

fn none_of<T>(values: &[T], fits: impl Fn(&T) -> bool) -> bool {
    !values.iter().any(fits)
}

fn text_is(wanted: &StringMatch, text: &str) -> bool {
    match wanted {
        StringMatch::Exact(exact) => **exact == *text,
        StringMatch::Prefix(prefix) => text.starts_with(&**prefix),
        StringMatch::Suffix(suffix) => text.ends_with(&**suffix),
        StringMatch::Presence => !text.is_empty(),
    }
}

fn is_account(peer: &Identity, account: &ServiceAccountMatch) -> bool {
    peer.namespace == account.namespace && peer.service_account == account.service_account
}

/// A dual-stack socket shows IPv4 peers as IPv4-mapped addresses; policies mean the IPv4 address.
fn range_holds(range: &IpNet, address: IpAddr) -> bool {
    range.contains(&address.to_canonical())
}
