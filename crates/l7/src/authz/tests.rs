//! What each field of a policy lets in and keeps out.

use super::*;
use crate::config::{Here, Target};
use proto::l7 as wire;
use rstest::rstest;

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn policy(action: Action, rules: Vec<wire::PolicyRule>) -> Arc<Policy> {
    let action = action.into();
    Arc::new(Policy::new(&wire::Policy {
        namespace: "shop".into(),
        name: "p".into(),
        action,
        rules,
        ..Default::default()
    }))
}

fn to(operation: wire::Operation) -> wire::PolicyRule {
    wire::PolicyRule { to: vec![operation], ..Default::default() }
}

fn from(source: wire::Source) -> wire::PolicyRule {
    wire::PolicyRule { from: vec![source], ..Default::default() }
}

fn when(key: &str, values: &[&str], not_values: &[&str]) -> wire::PolicyRule {
    let condition = wire::Condition { key: key.into(), values: strings(values), not_values: strings(not_values) };
    wire::PolicyRule { when: vec![condition], ..Default::default() }
}

/// A GET of `/api/items` at `web.shop` from `shop/client`, with a token.
fn matches(rule: wire::PolicyRule) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert("x-team", "red".parse().unwrap());
    let claims = Claims {
        principal: "https://issuer/alice".into(),
        audiences: strings(&["shop", "bank"]),
        presenter: Some("app".into()),
        all: serde_json::json!({"groups": ["admin", "dev"], "realm": {"role": "writer"}, "level": 3}),
    };
    let peer = identity("spiffe://cluster.local/ns/shop/sa/client");
    let request = Request {
        peer: Some(&peer),
        source: "10.0.0.7".parse().unwrap(),
        remote: "192.0.2.1".parse().unwrap(),
        destination: Some("10.96.0.1".parse().unwrap()),
        port: 80,
        server_name: None,
        http: Some(Http {
            method: "GET",
            authority: "Web.shop:80",
            path: "/api/items",
            headers: &headers,
            claims: Some(&claims),
        }),
    };
    decide(&[&policy(Action::Allow, vec![rule])], &request) == Verdict::Allow
}

#[rstest]
#[case::host(wire::Operation { hosts: strings(&["web.shop"]), ..Default::default() }, true)]
#[case::host_suffix(wire::Operation { hosts: strings(&["*.shop"]), ..Default::default() }, true)]
#[case::host_other(wire::Operation { hosts: strings(&["db.shop"]), ..Default::default() }, false)]
#[case::not_host(wire::Operation { not_hosts: strings(&["web.shop"]), ..Default::default() }, false)]
#[case::port(wire::Operation { ports: strings(&["80"]), ..Default::default() }, true)]
#[case::not_port(wire::Operation { not_ports: strings(&["80"]), ..Default::default() }, false)]
#[case::method(wire::Operation { methods: strings(&["GET", "HEAD"]), ..Default::default() }, true)]
#[case::method_case(wire::Operation { methods: strings(&["get"]), ..Default::default() }, false)]
#[case::not_method(wire::Operation { not_methods: strings(&["GET"]), ..Default::default() }, false)]
#[case::path(wire::Operation { paths: strings(&["/api/items"]), ..Default::default() }, true)]
#[case::path_prefix(wire::Operation { paths: strings(&["/api/*"]), ..Default::default() }, true)]
#[case::path_suffix(wire::Operation { paths: strings(&["*/items"]), ..Default::default() }, true)]
#[case::path_template(wire::Operation { paths: strings(&["/{*}/items"]), ..Default::default() }, true)]
#[case::path_template_one(wire::Operation { paths: strings(&["/{*}"]), ..Default::default() }, false)]
#[case::path_template_many(wire::Operation { paths: strings(&["/{**}"]), ..Default::default() }, true)]
#[case::path_bad_template(wire::Operation { paths: strings(&["/{x}/items"]), ..Default::default() }, false)]
#[case::not_path(wire::Operation { not_paths: strings(&["/api*"]), ..Default::default() }, false)]
#[case::all_fields(wire::Operation { methods: strings(&["GET"]), paths: strings(&["/other"]), ..Default::default() }, false)]
#[case::empty(wire::Operation::default(), true)]
fn operations(#[case] operation: wire::Operation, #[case] expected: bool) {
    assert_eq!(matches(to(operation)), expected);
}

#[rstest]
#[case::principal(wire::Source { principals: strings(&["cluster.local/ns/shop/sa/client"]), ..Default::default() }, true)]
#[case::principal_suffix(wire::Source { principals: strings(&["*/sa/client"]), ..Default::default() }, true)]
#[case::principal_other(wire::Source { principals: strings(&["cluster.local/ns/shop/sa/x"]), ..Default::default() }, false)]
#[case::not_principal(wire::Source { not_principals: strings(&["*"]), ..Default::default() }, false)]
#[case::namespace(wire::Source { namespaces: strings(&["shop"]), ..Default::default() }, true)]
#[case::not_namespace(wire::Source { not_namespaces: strings(&["shop"]), ..Default::default() }, false)]
#[case::account(wire::Source { service_accounts: strings(&["client"]), ..Default::default() }, true)]
#[case::account_full(wire::Source { service_accounts: strings(&["shop/client"]), ..Default::default() }, true)]
#[case::account_elsewhere(wire::Source { service_accounts: strings(&["bank/client"]), ..Default::default() }, false)]
#[case::not_account(wire::Source { not_service_accounts: strings(&["client"]), ..Default::default() }, false)]
#[case::trust_domain(wire::Source { trust_domains: strings(&["cluster.local"]), ..Default::default() }, true)]
#[case::not_trust_domain(wire::Source { not_trust_domains: strings(&["cluster.local"]), ..Default::default() }, false)]
#[case::ip(wire::Source { ip_blocks: strings(&["10.0.0.0/8"]), ..Default::default() }, true)]
#[case::ip_single(wire::Source { ip_blocks: strings(&["10.0.0.7"]), ..Default::default() }, true)]
#[case::not_ip(wire::Source { not_ip_blocks: strings(&["10.0.0.0/8"]), ..Default::default() }, false)]
#[case::bad_ip(wire::Source { not_ip_blocks: strings(&["ten"]), ..Default::default() }, false)]
#[case::remote(wire::Source { remote_ip_blocks: strings(&["192.0.2.0/24"]), ..Default::default() }, true)]
#[case::not_remote(wire::Source { not_remote_ip_blocks: strings(&["192.0.2.1"]), ..Default::default() }, false)]
#[case::request_principal(wire::Source { request_principals: strings(&["https://issuer/*"]), ..Default::default() }, true)]
#[case::not_request_principal(wire::Source { not_request_principals: strings(&["*"]), ..Default::default() }, false)]
fn sources(#[case] source: wire::Source, #[case] expected: bool) {
    assert_eq!(matches(from(source)), expected);
}

#[rstest]
#[case("request.headers[x-team]", &["red"], &[], true)]
#[case("request.headers[X-Team]", &["re*"], &[], true)]
#[case("request.headers[x-team]", &[], &["red"], false)]
#[case("request.headers[x-none]", &["*"], &[], false)]
#[case("request.headers[x-none]", &[], &["red"], true)]
#[case("source.ip", &["10.0.0.0/24"], &[], true)]
#[case("remote.ip", &["192.0.2.1"], &[], true)]
#[case("source.namespace", &["shop"], &[], true)]
#[case("source.serviceAccount", &["client"], &[], true)]
#[case("source.trustDomain", &["cluster.local"], &[], true)]
#[case("source.principal", &["cluster.local/*"], &[], true)]
#[case("request.auth.principal", &["https://issuer/alice"], &[], true)]
#[case("request.auth.audiences", &["bank"], &[], true)]
#[case("request.auth.audiences", &[], &["bank"], false)]
#[case("request.auth.presenter", &["app"], &[], true)]
#[case("request.auth.claims[groups]", &["dev"], &[], true)]
#[case("request.auth.claims[realm][role]", &["writer"], &[], true)]
#[case("request.auth.claims[level]", &["3"], &[], true)]
#[case("request.auth.claims[realm][none]", &["*"], &[], false)]
#[case("destination.ip", &["10.96.0.1"], &[], true)]
#[case("destination.port", &["80", "81"], &[], true)]
#[case("destination.port", &["81"], &[], false)]
#[case("connection.sni", &["*"], &[], false)]
#[case("what.is.this", &[], &["x"], false)]
#[case("request.headers[]", &[], &["x"], false)]
fn conditions(#[case] key: &str, #[case] values: &[&str], #[case] not_values: &[&str], #[case] expected: bool) {
    assert_eq!(matches(when(key, values, not_values)), expected);
}

fn connection() -> Request<'static> {
    Request {
        peer: None,
        source: "10.0.0.7".parse().unwrap(),
        remote: "10.0.0.7".parse().unwrap(),
        destination: None,
        port: 80,
        server_name: None,
        http: None,
    }
}

#[rstest]
#[case::allow(Action::Allow, false)]
#[case::deny(Action::Deny, false)]
fn what_is_not_http_never_profits_from_a_http_part(#[case] action: Action, #[case] expected: bool) {
    let rule = to(wire::Operation { paths: strings(&["/open"]), ..Default::default() });
    let allowed = decide(&[&policy(action, vec![rule])], &connection()) == Verdict::Allow;
    assert_eq!(allowed, expected);
}

#[rstest]
#[case::allow(Action::Allow, false)]
#[case::deny(Action::Deny, false)]
#[case::custom(Action::Custom, false)]
#[case::audit(Action::Audit, true)]
fn what_cannot_be_read_never_widens(#[case] action: Action, #[case] expected: bool) {
    let rule = wire::PolicyRule { unusable: true, ..Default::default() };
    let allowed = decide(&[&policy(action, vec![rule])], &connection()) == Verdict::Allow;
    assert_eq!(allowed, expected);
}

#[test]
fn no_rules_match_nothing_and_an_empty_rule_everything() {
    let nothing = policy(Action::Allow, Vec::new());
    assert_eq!(decide(&[&nothing], &connection()), Verdict::NotAllowed);
    assert_eq!(decide(&[&policy(Action::Deny, Vec::new())], &connection()), Verdict::Allow);
    let everything = policy(Action::Allow, vec![wire::PolicyRule::default()]);
    assert_eq!(decide(&[&nothing, &everything], &connection()), Verdict::Allow);
    let deny = policy(Action::Deny, vec![wire::PolicyRule::default()]);
    assert_eq!(decide(&[&everything, &deny], &connection()), Verdict::Denied("shop/p".into()));
}

#[test]
fn policies_cover_what_they_name() {
    let service = wire::ServiceKey { namespace: "shop".into(), hostname: "web".into() };
    let parent = wire::Parent { parent: Some(wire::parent::Parent::Service(service)), ..Default::default() };
    let gateway = wire::GatewayKey { namespace: "shop".into(), name: "waypoint".into() };
    let gateway = wire::Parent { parent: Some(wire::parent::Parent::Gateway(gateway)), ..Default::default() };
    let web = model::NamespacedHostname { namespace: "shop".into(), hostname: "web".into() };
    let db = model::NamespacedHostname { namespace: "shop".into(), hostname: "db".into() };
    let covers = |targets: &[Target], service| {
        let here = Here { namespace: "shop", gateway: "waypoint", service: Some(service) };
        targets.iter().any(|target| target.covers(&here))
    };
    let one = Target::all(&[parent], &[]);
    assert!(covers(&one, &web) && !covers(&one, &db));
    assert!(covers(&Target::all(&[gateway], &[]), &db));
    assert!(covers(&Target::all(&[], &["*".into()]), &db));
    assert!(!covers(&Target::all(&[], &["other".into()]), &db));
}
