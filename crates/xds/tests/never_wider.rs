//! A policy of which one part arrives malformed never lets in more than the same policy whole: for every kind of part, in every
//! place, seen through the evaluator.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use authz::{Connection, decide};
use model::Identity;
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message;
use proto::security as wire;
use wire::string_match::MatchType;
use xds::wds::decode_authorization;

fn text(kind: u8, part: &str) -> wire::StringMatch {
    let part = part.to_owned();
    let match_type = match kind {
        0 => MatchType::Exact(part),
        1 => MatchType::Prefix(part),
        2 => MatchType::Suffix(part),
        _ => MatchType::Presence(()),
    };
    wire::StringMatch { match_type: Some(match_type) }
}

fn texts() -> impl Strategy<Value = Vec<wire::StringMatch>> {
    let parts = vec!["a", "b", "cluster.local/ns/a/sa/a", "cluster.local/", "/sa/b"];
    vec((0..4u8, select(parts)).prop_map(|(kind, part)| text(kind, part)), 0..3)
}

fn ranges() -> impl Strategy<Value = Vec<wire::Address>> {
    let range = (select(vec![[10u8, 0, 0, 1], [10, 0, 0, 2], [10, 1, 0, 1]]), select(vec![0u32, 8, 30, 32]));
    vec(range.prop_map(|(address, length)| wire::Address { address: address.to_vec(), length }), 0..3)
}

fn one_match() -> impl Strategy<Value = wire::Match> {
    let ports = || vec(select(vec![80u32, 8080]), 0..2);
    (texts(), texts(), texts(), texts(), ranges(), ranges(), ranges(), ranges(), ports(), ports()).prop_map(|parts| {
        wire::Match {
            namespaces: parts.0,
            not_namespaces: parts.1,
            principals: parts.2,
            not_principals: parts.3,
            source_ips: parts.4,
            not_source_ips: parts.5,
            destination_ips: parts.6,
            not_destination_ips: parts.7,
            destination_ports: parts.8,
            not_destination_ports: parts.9,
            ..wire::Match::default()
        }
    })
}

fn policy() -> impl Strategy<Value = wire::Authorization> {
    let clause = vec(one_match(), 1..3).prop_map(|matches| wire::Clause { matches });
    let rule = vec(clause, 1..3).prop_map(|clauses| wire::Rule { clauses });
    (any::<bool>(), vec(rule, 1..3)).prop_map(|(deny, rules)| wire::Authorization {
        name: "p".to_owned(),
        namespace: "ns".to_owned(),
        action: i32::from(deny),
        rules,
        ..wire::Authorization::default()
    })
}

/// Breaks or adds one element of one match.
fn spoil(policy: &mut wire::Authorization, place: (usize, usize, usize), fault: u8) {
    let rules = policy.rules.len();
    let rule = &mut policy.rules[place.0 % rules];
    let clauses = rule.clauses.len();
    let clause = &mut rule.clauses[place.1 % clauses];
    let matches = clause.matches.len();
    let one = &mut clause.matches[place.2 % matches];
    let (no_address, too_long) = (
        wire::Address { address: vec![10, 0, 1], length: 8 },
        wire::Address { address: vec![10, 0, 0, 1], length: 33 },
    );
    match fault {
        0 => one.source_ips = vec![no_address],
        1 => one.not_source_ips = vec![too_long],
        2 => one.destination_ips.push(too_long),
        3 => one.not_destination_ips.push(no_address),
        4 => one.namespaces = vec![wire::StringMatch::default()],
        5 => one.not_namespaces = vec![wire::StringMatch::default()],
        6 => one.principals.push(wire::StringMatch::default()),
        7 => one.not_principals = vec![wire::StringMatch::default()],
        8 => one.destination_ports = vec![65_616],
        _ => one.not_destination_ports = vec![65_616],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spoilt_policy_lets_in_nobody_whom_the_whole_one_keeps_out(
        whole in policy(), place in any::<(usize, usize, usize)>(), fault in 0..10u8, proven in any::<bool>(),
    ) {
        let mut spoilt = whole.clone();
        spoil(&mut spoilt, place, fault);
        let read = |policy: &wire::Authorization| decode_authorization(&policy.encode_to_vec()).unwrap();
        let (whole, spoilt) = (read(&whole), read(&spoilt));
        for source in ["10.0.0.1:9", "10.1.0.1:9"] {
            for destination in ["10.0.0.2:80", "10.0.0.1:8080"] {
                for account in ["a", "b"] {
                    let peer = Identity::new("cluster.local", "a", account).unwrap();
                    let connection = Connection {
                        peer: proven.then_some(&peer),
                        source: source.parse().unwrap(),
                        destination: destination.parse().unwrap(),
                    };
                    let before = decide([&whole], &connection).is_allowed();
                    let after = decide([&spoilt], &connection).is_allowed();
                    prop_assert!(before || !after, "{connection:?}");
                }
            }
        }
    }
}
