//! The evaluator against a second one, written down from the contract's sentences (ztunnel.md §8.2) with none of its code:
//! loops instead of combinators, bits instead of an address library. On more than a hundred thousand generated pairs of
//! policies and connections both must say the same, and above all the evaluator must never let in what the sentences keep out.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use authz::{Connection, decide};
use ipnet::IpNet;
use model::{Action, Authorization, Identity, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Sets of policies.
const SETS: u32 = 2_600;
/// Connections that each set is asked about.
const CONNECTIONS: usize = 40;

/// What the sentences say.
mod sentences {
    use super::*;

    pub(super) fn lets_in(policies: &[Authorization], connection: &Connection<'_>) -> bool {
        // "Any enforced DENY matches → reject."
        for policy in policies {
            if policy.action == Action::Deny && !policy.dry_run && matches(policy, connection) {
                return false;
            }
        }
        // "No enforced ALLOW → allow."
        let mut one_allow_exists = false;
        // "Any enforced ALLOW matches → allow. Else reject."
        for policy in policies {
            if policy.action == Action::Allow && !policy.dry_run {
                one_allow_exists = true;
                if matches(policy, connection) {
                    return true;
                }
            }
        }
        !one_allow_exists
    }

    fn matches(policy: &Authorization, connection: &Connection<'_>) -> bool {
        // "OR over rules"; no rules never match.
        for rule in &policy.rules {
            if rule.unusable {
                // What is not understood never widens.
                if policy.action == Action::Deny {
                    return true;
                }
                continue;
            }
            // "AND over the clauses of a rule"; a rule without clauses matches.
            let mut every_clause = true;
            for clause in &rule.clauses {
                // "OR over the matches of a clause"; a clause without matches matches.
                let mut one_match = clause.is_empty();
                for wanted in clause {
                    if fits(wanted, connection) {
                        one_match = true;
                    }
                }
                if !one_match {
                    every_clause = false;
                }
            }
            if every_clause {
                return true;
            }
        }
        false
    }

    fn fits(wanted: &Match, connection: &Connection<'_>) -> bool {
        let nothing_is_said = wanted.namespaces.is_empty()
            && wanted.not_namespaces.is_empty()
            && wanted.principals.is_empty()
            && wanted.not_principals.is_empty()
            && wanted.service_accounts.is_empty()
            && wanted.not_service_accounts.is_empty()
            && wanted.source_ips.is_empty()
            && wanted.not_source_ips.is_empty()
            && wanted.destination_ips.is_empty()
            && wanted.not_destination_ips.is_empty()
            && wanted.destination_ports.is_empty()
            && wanted.not_destination_ports.is_empty();
        if nothing_is_said {
            return false;
        }
        let mut namespace = String::new();
        let mut principal = None;
        let mut account = None;
        if let Some(peer) = connection.peer {
            namespace = peer.namespace.to_string();
            principal = Some(format!("{}/ns/{}/sa/{}", peer.trust_domain, peer.namespace, peer.service_account));
            account = Some((peer.namespace.to_string(), peer.service_account.to_string()));
        }
        if !wanted.namespaces.is_empty() && !one_text(&wanted.namespaces, &namespace) {
            return false;
        }
        if one_text(&wanted.not_namespaces, &namespace) {
            return false;
        }
        match &principal {
            Some(principal) => {
                if !wanted.principals.is_empty() && !one_text(&wanted.principals, principal) {
                    return false;
                }
                if one_text(&wanted.not_principals, principal) {
                    return false;
                }
            }
            // "No peer identity: principals and service accounts never match."
            None if !wanted.principals.is_empty() => return false,
            None => {}
        }
        if !wanted.service_accounts.is_empty() && !one_account(&wanted.service_accounts, account.as_ref()) {
            return false;
        }
        if one_account(&wanted.not_service_accounts, account.as_ref()) {
            return false;
        }
        if !wanted.source_ips.is_empty() && !one_range(&wanted.source_ips, connection.source.ip()) {
            return false;
        }
        if one_range(&wanted.not_source_ips, connection.source.ip()) {
            return false;
        }
        if !wanted.destination_ips.is_empty() && !one_range(&wanted.destination_ips, connection.destination.ip()) {
            return false;
        }
        if one_range(&wanted.not_destination_ips, connection.destination.ip()) {
            return false;
        }
        let port = connection.destination.port();
        if !wanted.destination_ports.is_empty() && !wanted.destination_ports.contains(&port) {
            return false;
        }
        !wanted.not_destination_ports.contains(&port)
    }

    fn one_text(list: &[StringMatch], text: &str) -> bool {
        for wanted in list {
            let hit = match wanted {
                StringMatch::Exact(exact) => text.as_bytes() == exact.as_bytes(),
                StringMatch::Prefix(prefix) => {
                    text.len() >= prefix.len() && &text.as_bytes()[..prefix.len()] == prefix.as_bytes()
                }
                StringMatch::Suffix(suffix) => {
                    text.len() >= suffix.len() && &text.as_bytes()[text.len() - suffix.len()..] == suffix.as_bytes()
                }
                StringMatch::Presence => !text.is_empty(),
            };
            if hit {
                return true;
            }
        }
        false
    }

    fn one_account(list: &[ServiceAccountMatch], account: Option<&(String, String)>) -> bool {
        let Some((namespace, name)) = account else { return false };
        for wanted in list {
            if *wanted.namespace == **namespace && *wanted.service_account == **name {
                return true;
            }
        }
        false
    }

    fn one_range(list: &[IpNet], address: IpAddr) -> bool {
        for range in list {
            let (own, length, width) = match range.addr() {
                IpAddr::V4(own) => (u128::from(u32::from(own)), range.prefix_len(), 32),
                IpAddr::V6(own) => (u128::from(own), range.prefix_len(), 128),
            };
            let (asked, asked_width) = match address {
                IpAddr::V4(asked) => (u128::from(u32::from(asked)), 32),
                IpAddr::V6(asked) => match asked.to_ipv4_mapped() {
                    Some(mapped) => (u128::from(u32::from(mapped)), 32),
                    None => (u128::from(asked), 128),
                },
            };
            let mut same = width == asked_width;
            for bit in 0..u32::from(length) {
                let place = width - 1 - bit;
                if same && (own >> place) & 1 != (asked >> place) & 1 {
                    same = false;
                }
            }
            if same {
                return true;
            }
        }
        false
    }
}

// Few values, so that policies and connections meet often.

fn domain() -> impl Strategy<Value = &'static str> {
    select(vec!["cluster.local", "td"])
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "ab"])
}

fn address() -> impl Strategy<Value = IpAddr> {
    let texts = vec!["10.0.0.1", "10.0.0.2", "10.1.0.1", "fd00::1", "fd00::2", "::ffff:10.0.0.1"];
    select(texts).prop_map(|text| text.parse().unwrap())
}

fn range() -> impl Strategy<Value = IpNet> {
    let texts = vec![
        "10.0.0.1/32",
        "10.0.0.0/30",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "fd00::1/128",
        "fd00::/127",
        "::/0",
        "10.1.0.1/9",
    ];
    select(texts).prop_map(|text| text.parse().unwrap())
}

fn port() -> impl Strategy<Value = u16> {
    select(vec![80, 8080, 0, 65535])
}

fn text() -> impl Strategy<Value = StringMatch> {
    let part = prop_oneof![
        name().prop_map(str::to_owned),
        (domain(), name(), name()).prop_map(|(domain, ns, sa)| format!("{domain}/ns/{ns}/sa/{sa}")),
        Just("cluster.local/".to_owned()),
        Just("/sa/a".to_owned()),
        Just(String::new()),
    ];
    (0..4u8, part).prop_map(|(kind, part)| match kind {
        0 => StringMatch::Exact(part.into()),
        1 => StringMatch::Prefix(part.into()),
        2 => StringMatch::Suffix(part.into()),
        _ => StringMatch::Presence,
    })
}

fn account() -> impl Strategy<Value = ServiceAccountMatch> {
    (name(), name()).prop_map(|(namespace, service_account)| ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: service_account.into(),
    })
}

/// Mostly empty, as fields of real policies are.
fn field<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![5 => Just(Vec::new()).boxed(), 2 => vec(value, 1..3).boxed()]
}

fn one_match() -> impl Strategy<Value = Match> {
    let peer = (field(text()), field(text()), field(text()), field(text()), field(account()), field(account()));
    let place = (field(range()), field(range()), field(range()), field(range()), field(port()), field(port()));
    (peer, place).prop_map(|(peer, place)| Match {
        namespaces: peer.0,
        not_namespaces: peer.1,
        principals: peer.2,
        not_principals: peer.3,
        service_accounts: peer.4,
        not_service_accounts: peer.5,
        source_ips: place.0,
        not_source_ips: place.1,
        destination_ips: place.2,
        not_destination_ips: place.3,
        destination_ports: place.4,
        not_destination_ports: place.5,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let unusable = prop::bool::weighted(0.05);
    (vec(vec(one_match(), 0..3), 0..3), unusable).prop_map(|(clauses, unusable)| Rule { clauses, unusable })
}

fn policy() -> impl Strategy<Value = Authorization> {
    (any::<bool>(), prop::bool::weighted(0.1), vec(rule(), 0..3)).prop_map(|(deny, dry_run, rules)| Authorization {
        name: "p".into(),
        namespace: "ns".into(),
        scope: PolicyScope::Namespace,
        action: if deny { Action::Deny } else { Action::Allow },
        rules,
        dry_run,
    })
}

type Asked = (Option<Identity>, SocketAddr, SocketAddr);

fn connection() -> impl Strategy<Value = Asked> {
    let peer = (domain(), name(), name()).prop_map(|(domain, ns, sa)| Identity::new(domain, ns, sa).unwrap());
    (prop::option::weighted(0.8, peer), address(), address(), port())
        .prop_map(|(peer, from, to, port)| (peer, SocketAddr::new(from, 40_000), SocketAddr::new(to, port)))
}

#[test]
fn a_hundred_thousand_pairs_are_decided_as_the_sentences_say() {
    let (pairs, let_in) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let config = ProptestConfig { cases: SETS, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(policies in vec(policy(), 0..4), asked in vec(connection(), CONNECTIONS))| {
        for (peer, source, destination) in &asked {
            let connection = Connection { peer: peer.as_ref(), source: *source, destination: *destination };
            let ours = decide(&policies, &connection).is_allowed();
            let said = sentences::lets_in(&policies, &connection);
            prop_assert!(said || !ours, "more permissive: {connection:?}");
            prop_assert_eq!(ours, said, "stricter: {:?}", connection);
            pairs.fetch_add(1, Ordering::Relaxed);
            let_in.fetch_add(usize::from(ours), Ordering::Relaxed);
        }
    });
    let (pairs, let_in) = (pairs.into_inner(), let_in.into_inner());
    assert!(pairs >= 100_000, "{pairs}");
    // Both answers are common, or the comparison would prove nothing.
    assert!(let_in > pairs / 10 && let_in < pairs * 9 / 10, "{let_in} of {pairs} were let in");
}
