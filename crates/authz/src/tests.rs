//! Every row of the corner table, and the order of evaluation.

use super::*;
use model::{Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch};
use rstest::rstest;

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

fn policy(action: Action, rules: Vec<Rule>) -> Authorization {
    let (namespace, name) = ("shop".into(), "p".into());
    Authorization { name, namespace, scope: PolicyScope::Namespace, action, rules, dry_run: false }
}

fn rule(clauses: Vec<Vec<Match>>) -> Rule {
    Rule { clauses, unusable: false }
}

fn one(wanted: Match) -> Vec<Rule> {
    vec![rule(vec![vec![wanted]])]
}

fn verdict(policies: &[Authorization], peer: Option<&str>, source: &str) -> Verdict {
    let peer = peer.map(|uri| uri.parse::<Identity>().unwrap());
    let destination = "10.0.0.2:8080".parse().unwrap();
    decide(policies, &Connection { peer: peer.as_ref(), source: source.parse().unwrap(), destination })
}

/// Whether rules match, seen through a deny policy.
fn matches(rules: Vec<Rule>, peer: Option<&str>) -> bool {
    !verdict(&[policy(Action::Deny, rules)], peer, "10.0.0.1:4000").is_allowed()
}

fn port(port: u16) -> Match {
    Match { destination_ports: vec![port], ..Match::default() }
}

fn exact(text: &str) -> Vec<StringMatch> {
    vec![StringMatch::Exact(text.into())]
}

fn account(namespace: &str, service_account: &str) -> Vec<ServiceAccountMatch> {
    vec![ServiceAccountMatch { namespace: namespace.into(), service_account: service_account.into() }]
}

#[rstest]
#[case::no_rules(vec![], false)]
#[case::rule_without_clauses(vec![rule(vec![])], true)]
#[case::clause_without_matches(vec![rule(vec![vec![]])], true)]
#[case::match_with_every_field_empty(one(Match::default()), false)]
#[case::empty_match_beside_one_that_fits(vec![rule(vec![vec![Match::default(), port(8080)]])], true)]
#[case::rules_are_or_ed(vec![rule(vec![vec![port(1)]]), rule(vec![vec![port(8080)]])], true)]
#[case::clauses_are_and_ed(vec![rule(vec![vec![port(8080)], vec![port(1)]])], false)]
#[case::matches_are_or_ed(vec![rule(vec![vec![port(1), port(8080)]])], true)]
#[case::fields_are_and_ed(one(Match { namespaces: exact("other"), ..port(8080) }), false)]
#[case::unusable_rule_of_a_deny(vec![Rule { unusable: true, clauses: vec![vec![port(1)]] }], true)]
fn nesting(#[case] rules: Vec<Rule>, #[case] matched: bool) {
    assert_eq!(matches(rules, Some(CLIENT)), matched);
}

#[rstest]
#[case::exact(StringMatch::Exact("cluster.local/ns/shop/sa/client".into()), true)]
#[case::scheme_is_not_part_of_it(StringMatch::Exact(CLIENT.into()), false)]
#[case::prefix(StringMatch::Prefix("cluster.local/".into()), true)]
#[case::suffix(StringMatch::Suffix("/sa/client".into()), true)]
#[case::other_suffix(StringMatch::Suffix("/sa/server".into()), false)]
#[case::presence(StringMatch::Presence, true)]
fn principals(#[case] principal: StringMatch, #[case] matched: bool) {
    let positive = || one(Match { principals: vec![principal.clone()], ..Match::default() });
    let negative = || one(Match { not_principals: vec![principal.clone()], ..Match::default() });
    assert_eq!(matches(positive(), Some(CLIENT)), matched);
    assert_eq!(matches(negative(), Some(CLIENT)), !matched);
    assert!(!matches(positive(), None), "no identity never matches a principal");
    assert!(matches(negative(), None), "no identity is not that principal");
}

#[rstest]
#[case::namespace(Match { namespaces: exact("shop"), ..Match::default() }, Some(CLIENT), true)]
#[case::namespace_of_nobody_is_empty(Match { namespaces: exact(""), ..Match::default() }, None, true)]
#[case::presence_of_no_namespace(Match { namespaces: vec![StringMatch::Presence], ..Match::default() }, None, false)]
#[case::not_namespace(Match { not_namespaces: exact("shop"), ..Match::default() }, Some(CLIENT), false)]
#[case::not_namespace_of_nobody(Match { not_namespaces: exact("shop"), ..Match::default() }, None, true)]
#[case::account(Match { service_accounts: account("shop", "client"), ..Match::default() }, Some(CLIENT), true)]
#[case::account_of_any_trust_domain(
    Match { service_accounts: account("shop", "client"), ..Match::default() }, Some("spiffe://far/ns/shop/sa/client"), true
)]
#[case::account_elsewhere(Match { service_accounts: account("other", "client"), ..Match::default() }, Some(CLIENT), false)]
#[case::account_of_nobody(Match { service_accounts: account("shop", "client"), ..Match::default() }, None, false)]
#[case::not_account(Match { not_service_accounts: account("shop", "client"), ..Match::default() }, Some(CLIENT), false)]
#[case::not_account_of_nobody(Match { not_service_accounts: account("shop", "client"), ..Match::default() }, None, true)]
#[case::not_port(Match { not_destination_ports: vec![8080], ..Match::default() }, Some(CLIENT), false)]
#[case::other_port(Match { not_destination_ports: vec![9090], ..Match::default() }, Some(CLIENT), true)]
fn fields(#[case] wanted: Match, #[case] peer: Option<&str>, #[case] matched: bool) {
    assert_eq!(matches(one(wanted), peer), matched);
}

#[rstest]
#[case("10.0.0.0/24", "10.0.0.1:1", true)]
#[case("10.0.0.0/24", "10.0.1.1:1", false)]
#[case("10.0.0.0/24", "[::ffff:10.0.0.1]:1", true)]
#[case("0.0.0.0/0", "[fd00::1]:1", false)]
#[case("fd00::/8", "[fd00::1]:1", true)]
fn addresses(#[case] range: &str, #[case] source: &str, #[case] matched: bool) {
    let range: Vec<_> = vec![range.parse().unwrap()];
    let positive = Match { source_ips: range.clone(), ..Match::default() };
    let negative = Match { not_source_ips: range, ..Match::default() };
    for (wanted, matched) in [(positive, matched), (negative, !matched)] {
        let denied = verdict(&[policy(Action::Deny, one(wanted))], None, source) != Verdict::Allow;
        assert_eq!(denied, matched);
    }
    let destination = Match { destination_ips: vec!["10.0.0.2/32".parse().unwrap()], ..Match::default() };
    assert!(matches(one(destination), None));
}

fn named(name: &str, action: Action, wanted: u16, dry_run: bool) -> Authorization {
    Authorization { name: name.into(), dry_run, ..policy(action, one(port(wanted))) }
}

#[rstest]
#[case::nothing_said(vec![], Ok(()))]
#[case::allow_that_matches(vec![named("a", Action::Allow, 8080, false)], Ok(()))]
#[case::allow_that_does_not(vec![named("a", Action::Allow, 1, false)], Err("allow policies exist, but none allowed"))]
#[case::deny_goes_first(
    vec![named("a", Action::Allow, 8080, false), named("d", Action::Deny, 8080, false)], Err("explicitly denied by: shop/d")
)]
#[case::deny_that_does_not_match(vec![named("d", Action::Deny, 1, false)], Ok(()))]
#[case::one_of_two_allows(vec![named("a", Action::Allow, 1, false), named("b", Action::Allow, 8080, false)], Ok(()))]
#[case::trial_denies_nothing(vec![named("d", Action::Deny, 8080, true)], Ok(()))]
#[case::trial_allow_does_not_close(vec![named("a", Action::Allow, 1, true)], Ok(()))]
#[case::allow_without_rules(vec![policy(Action::Allow, vec![])], Err("allow policies exist, but none allowed"))]
#[case::unusable_rule_of_an_allow(
    vec![policy(Action::Allow, vec![Rule { unusable: true, clauses: vec![] }])], Err("allow policies exist, but none allowed")
)]
#[case::usable_rule_beside_an_unusable_one(
    vec![policy(Action::Allow, vec![Rule { unusable: true, clauses: vec![] }, rule(vec![])])], Ok(())
)]
fn order(#[case] policies: Vec<Authorization>, #[case] expected: Result<(), &str>) {
    match verdict(&policies, Some(CLIENT), "10.0.0.1:4000") {
        Verdict::Allow => assert_eq!(expected, Ok(())),
        Verdict::Deny(why) => assert_eq!(Err(&*why.to_string()), expected),
    }
}

#[test]
fn strict_keeps_plaintext_out_and_identities_in() {
    let strict = policy(Action::Deny, one(Match { not_principals: vec![StringMatch::Presence], ..Match::default() }));
    assert!(!verdict(std::slice::from_ref(&strict), None, "10.0.0.1:1").is_allowed());
    assert!(verdict(&[strict], Some(CLIENT), "10.0.0.1:1").is_allowed());
}

#[test]
fn what_is_under_trial_is_only_told() {
    let policies = [
        named("d", Action::Deny, 8080, true),
        named("a", Action::Allow, 1, true),
        named("x", Action::Deny, 8080, false),
    ];
    let connection =
        Connection { peer: None, source: "10.0.0.1:1".parse().unwrap(), destination: "10.0.0.2:8080".parse().unwrap() };
    let mut told = Vec::new();
    trial(&policies, &connection, |policy| told.push(policy.key().to_string()));
    assert_eq!(told, ["shop/d"]);
}
