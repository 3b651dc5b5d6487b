//! AuthorizationPolicy and PeerAuthentication as what node proxies enforce (control-plane A8).

use super::{policy, resolve, workload};
use model::{Match, PolicyScope, StringMatch};
use rstest::rstest;
use std::fmt::Write;

fn strings(list: &[StringMatch]) -> String {
    let text = |entry: &StringMatch| match entry {
        StringMatch::Exact(text) => text.to_string(),
        StringMatch::Prefix(text) => format!("{text}…"),
        StringMatch::Suffix(text) => format!("…{text}"),
        StringMatch::Presence => "any".to_owned(),
    };
    list.iter().map(text).collect::<Vec<_>>().join(" ")
}

fn field(out: &mut Vec<String>, name: &str, values: &str) {
    if !values.is_empty() {
        out.push(format!("{name}={values}"));
    }
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn show_match(entry: &Match) -> String {
    let accounts = |list: &[model::ServiceAccountMatch]| {
        list.iter()
            .map(|account| format!("{}/{}", account.namespace, account.service_account))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut out = Vec::new();
    field(&mut out, "ns", &strings(&entry.namespaces));
    field(&mut out, "!ns", &strings(&entry.not_namespaces));
    field(&mut out, "principal", &strings(&entry.principals));
    field(&mut out, "!principal", &strings(&entry.not_principals));
    field(&mut out, "sa", &accounts(&entry.service_accounts));
    field(&mut out, "!sa", &accounts(&entry.not_service_accounts));
    field(&mut out, "from", &list(&entry.source_ips));
    field(&mut out, "!from", &list(&entry.not_source_ips));
    field(&mut out, "to", &list(&entry.destination_ips));
    field(&mut out, "!to", &list(&entry.not_destination_ips));
    field(&mut out, "port", &list(&entry.destination_ports));
    field(&mut out, "!port", &list(&entry.not_destination_ports));
    format!("({})", out.join(", "))
}

/// Rules by lines, clauses joined by `and`, matches by `or`.
pub(super) fn show(policy: &model::Authorization) -> String {
    let mut out = format!("{:?} {:?}", policy.action, policy.scope);
    for rule in &policy.rules {
        let clauses = rule.clauses.iter().map(|clause| clause.iter().map(show_match).collect::<Vec<_>>().join(" or "));
        let clauses = clauses.collect::<Vec<_>>().join(" and ");
        write!(out, "\n- {}", if clauses.is_empty() { "everything" } else { &clauses }).unwrap();
    }
    out
}

/// A policy of namespace shop: as it is sent, and what its status says.
fn sent(spec: &str, annotations: &str) -> (Option<String>, String) {
    let changes = resolve(&format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: p, namespace: shop, annotations: {annotations}}}\nspec: {spec}"
    ));
    let reason = changes.statements[0].verdicts.first().map_or("", |verdict| verdict.reason);
    (policy(&changes, "shop/p").map(|policy| show(&policy)), reason.to_owned())
}

#[rstest]
#[case::allow_nothing("{}", "Allow Namespace", "Accepted")]
#[case::allow_everything("{rules: [{}]}", "Allow Namespace\n- everything", "Accepted")]
#[case::selector(
    "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}",
    "Deny WorkloadSelector\n- everything",
    "Accepted"
)]
#[case::to_before_from(
    "{rules: [{from: [{source: {namespaces: [a, b]}}, {source: {principals: ['*']}}], to: [{operation: {ports: ['80'], notPorts: ['81']}}]}]}",
    "Allow Namespace\n- (port=80, !port=81) and (ns=a b) or (principal=any)",
    "Accepted"
)]
#[case::strings(
    "{rules: [{from: [{source: {principals: ['a*', '*b', c], notNamespaces: [d]}}]}]}",
    "Allow Namespace\n- (!ns=d, principal=a… …b c)",
    "Accepted"
)]
#[case::accounts(
    "{rules: [{from: [{source: {serviceAccounts: [x, other/y]}}]}]}",
    "Allow Namespace\n- (sa=shop/x other/y)",
    "Accepted"
)]
#[case::addresses(
    "{rules: [{from: [{source: {ipBlocks: [10.0.0.1, 10.1.0.0/16], notIpBlocks: ['2001:db8::/32']}}]}]}",
    "Allow Namespace\n- (from=10.0.0.1/32 10.1.0.0/16, !from=2001:db8::/32)",
    "Accepted"
)]
#[case::each_condition_is_a_clause(
    "{rules: [{when: [{key: source.ip, values: [10.0.0.1]}, {key: destination.port, notValues: ['80']}, {key: source.namespace, values: [a], notValues: [b]}]}]}",
    "Allow Namespace\n- (from=10.0.0.1/32) and (!port=80) and (ns=a, !ns=b)",
    "Accepted"
)]
#[case::http_in_allow_drops_the_rule(
    "{rules: [{to: [{operation: {methods: [GET]}}]}, {from: [{source: {namespaces: [a]}}]}]}",
    "Allow Namespace\n- (ns=a)",
    "UnsupportedValue"
)]
#[case::http_in_deny_is_blanked(
    "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}, {to: [{operation: {paths: ['/']}}]}]}",
    "Deny Namespace\n- (port=80)\n- ()",
    "UnsupportedValue"
)]
#[case::http_condition_in_deny(
    "{action: DENY, rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]}",
    "Deny Namespace\n- ()",
    "UnsupportedValue"
)]
#[case::a_bad_address_in_allow_allows_nothing(
    "{rules: [{from: [{source: {ipBlocks: [nonsense]}}]}]}",
    "Allow Namespace\n- ()",
    "PartiallyInvalid"
)]
#[case::nothing_is_said_about_the_source(
    "{action: DENY, rules: [{from: [{source: {}}]}]}",
    "Deny Namespace\n- everything",
    "PartiallyInvalid"
)]
#[case::nothing_is_said_about_the_operation(
    "{action: DENY, rules: [{to: [{}]}]}",
    "Deny Namespace\n- everything",
    "PartiallyInvalid"
)]
#[case::accounts_in_a_condition(
    "{action: DENY, rules: [{when: [{key: source.serviceAccount, values: [x], notValues: [other/y]}]}]}",
    "Deny Namespace\n- (sa=shop/x, !sa=other/y)",
    "Accepted"
)]
#[case::a_principal_as_certificates_write_it(
    "{action: DENY, rules: [{from: [{source: {principals: ['spiffe://cluster.local/ns/a/sa/b']}}]}]}",
    "Deny Namespace\n- (principal=cluster.local/ns/a/sa/b)",
    "Accepted"
)]
#[case::a_condition_that_nobody_knows(
    "{action: DENY, rules: [{when: [{key: source.ipx, values: [10.0.0.1]}]}]}",
    "Deny Namespace\n- everything",
    "PartiallyInvalid"
)]
#[case::a_condition_without_values(
    "{action: DENY, rules: [{when: [{key: source.ip}]}]}",
    "Deny Namespace\n- everything",
    "PartiallyInvalid"
)]
#[case::a_bad_port_in_deny_denies_everything(
    "{action: DENY, rules: [{to: [{operation: {ports: ['http']}}]}]}",
    "Deny Namespace\n- everything",
    "PartiallyInvalid"
)]
fn policies_that_are_sent(#[case] spec: &str, #[case] expected: &str, #[case] reason: &str) {
    assert_eq!(sent(spec, "{}"), (Some(expected.to_owned()), reason.to_owned()));
}

#[rstest]
#[case::audit("{action: AUDIT, rules: [{}]}", "{}", "UnsupportedValue")]
#[case::custom("{action: CUSTOM, provider: {name: x}, rules: [{}]}", "{}", "UnsupportedValue")]
#[case::dry_run("{action: DENY, rules: [{}]}", "{istio.io/dry-run: 'true'}", "UnsupportedValue")]
#[case::a_waypoints("{targetRefs: [{kind: Service, name: web}], rules: [{}]}", "{}", "")]
#[case::a_waypoints_of_old("{targetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: w}}", "{}", "")]
fn policies_that_are_not_sent(#[case] spec: &str, #[case] annotations: &str, #[case] reason: &str) {
    assert_eq!(sent(spec, annotations), (None, reason.to_owned()));
}

#[test]
fn the_root_namespace_speaks_for_all() {
    let changes = resolve(
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: istio-system}}\n---\n\
         {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: q, namespace: istio-system}, spec: {selector: {matchLabels: {app: web}}}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, status: {podIP: 10.0.0.1}}",
    );
    assert_eq!(policy(&changes, "istio-system/p").unwrap().scope, PolicyScope::Global);
    assert_eq!(policy(&changes, "istio-system/q").unwrap().scope, PolicyScope::WorkloadSelector);
    assert_eq!(workload(&changes, "Kubernetes//Pod/shop/web").unwrap().authorization_policies, ["istio-system/q"]);
}

/// The policies of a pod labelled app=web in namespace shop under some PeerAuthentications, and the converted one.
fn under(policies: &[(&str, &str, &str)]) -> (Vec<String>, Option<String>) {
    let mut yaml = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, status: {podIP: 10.0.0.1}}".to_owned();
    for (number, (namespace, name, spec)) in policies.iter().enumerate() {
        write!(
            yaml,
            "\n---\n{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, spec: {spec}, \
             metadata: {{name: '{name}', namespace: {namespace}, creationTimestamp: '2026-01-01T00:00:{number:02}Z'}}}}"
        )
        .unwrap();
    }
    let changes = resolve(&yaml);
    assert_eq!(policy(&changes, "istio-system/istio_converted_static_strict").is_some(), !policies.is_empty());
    let web = workload(&changes, "Kubernetes//Pod/shop/web").unwrap();
    let converted = policy(&changes, "shop/converted_peer_authentication_ports").map(|policy| show(&policy));
    (web.authorization_policies, converted)
}

const STRICT: &str = "{mtls: {mode: STRICT}}";
const PERMISSIVE: &str = "{mtls: {mode: PERMISSIVE}}";
const DISABLE: &str = "{mtls: {mode: DISABLE}}";
const STATIC: &[&str] = &["istio-system/istio_converted_static_strict"];

#[rstest]
#[case::none(&[], &[])]
#[case::mesh(&[("istio-system", "m", STRICT)], STATIC)]
#[case::namespace_over_mesh(&[("istio-system", "m", STRICT), ("shop", "n", PERMISSIVE)], &[])]
#[case::disable_is_permissive(&[("istio-system", "m", STRICT), ("shop", "n", DISABLE)], &[])]
#[case::an_unset_namespace_inherits(&[("istio-system", "m", STRICT), ("shop", "n", "{}")], STATIC)]
#[case::another_namespace(&[("other", "n", STRICT)], &[])]
#[case::the_oldest_counts(&[("shop", "b", PERMISSIVE), ("shop", "a", STRICT)], &[])]
#[case::workload_over_namespace(&[("shop", "n", PERMISSIVE), ("shop", "w", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}")], STATIC)]
#[case::a_selector_that_misses(&[("shop", "w", "{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}")], &[])]
#[case::a_selector_in_the_root_namespace(&[("istio-system", "w", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}")], &[])]
fn strictness(#[case] policies: &[(&str, &str, &str)], #[case] expected: &[&str]) {
    let (named, converted) = under(policies);
    assert_eq!(named, expected);
    assert_eq!(converted, None);
}

#[rstest]
#[case::exceptions_from_strict(
    &[("shop", "ports", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {'9000': {mode: PERMISSIVE}, '8080': {mode: DISABLE}}}")],
    "Deny WorkloadSelector\n- (!principal=any) and (!port=8080) and (!port=9000)"
)]
#[case::strict_ports(
    &[("shop", "ports", "{selector: {matchLabels: {app: web}}, portLevelMtls: {'9000': {mode: STRICT}, '8080': {mode: STRICT}}}")],
    "Deny WorkloadSelector\n- (!principal=any, port=8080)\n- (!principal=any, port=9000)"
)]
#[case::an_exception_from_what_is_inherited(
    &[("shop", "n", STRICT), ("shop", "ports", "{selector: {matchLabels: {app: web}}, portLevelMtls: {'8080': {mode: DISABLE}}}")],
    "Deny WorkloadSelector\n- (!principal=any) and (!port=8080)"
)]
fn ports_that_differ(#[case] policies: &[(&str, &str, &str)], #[case] expected: &str) {
    let (named, converted) = under(policies);
    assert_eq!(named, ["shop/converted_peer_authentication_ports"]);
    assert_eq!(converted.as_deref(), Some(expected));
}

#[test]
fn ports_that_agree_change_nothing() {
    let ports = "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {'8080': {mode: STRICT}}}";
    assert_eq!(under(&[("shop", "ports", ports)]), (vec![STATIC[0].to_owned()], None));
}
