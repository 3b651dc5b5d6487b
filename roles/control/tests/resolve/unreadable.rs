//! Objects that do not have their kind's shape: what they do, and what their status says.

use super::{policies::show, policy, resolve, resolver, workload};
use api::{AuthorizationPolicy, PeerAuthentication, Service};
use control::{
    resolve::{Changes, Kind, Resolver, Statement, Subject},
    settings::Mesh,
};
use rstest::rstest;
use serde_json::{Value, json};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, status: {podIP: 10.0.0.1}}";

fn reject<T: Kind>(resolver: &mut Resolver, namespace: &str, name: &str, mut value: Value) {
    value["metadata"]["namespace"] = namespace.into();
    value["metadata"]["name"] = name.into();
    let error = T::from_value(value.clone()).unwrap_err();
    resolver.reject::<T>(namespace, name, error, &value);
}

fn with_unreadable<T: Kind>(namespace: &str, value: Value) -> Changes {
    let mut resolver = resolver(POD, Mesh::default());
    reject::<T>(&mut resolver, namespace, "p", value);
    resolver.resolve()
}

fn said(changes: &Changes, subject: Subject) -> &Statement {
    changes.statements.iter().find(|said| said.subject == subject).unwrap()
}

#[rstest]
#[case::unknown_action("shop", json!({"action": "MAYBE", "selector": {"matchLabels": {"app": "web"}}}), "Deny WorkloadSelector\n- everything")]
#[case::unreadable_allow("shop", json!({"rules": "all"}), "Allow Namespace\n- ()")]
#[case::one_unreadable_rule("shop", json!({"rules": [{"from": [{"source": {"namespaces": "a"}}]}, {"from": [{"source": {"namespaces": ["b"]}}]}]}), "Allow Namespace\n- ()\n- (ns=b)")]
#[case::a_list_for_a_rule("shop", json!({"rules": [[]]}), "Allow Namespace\n- ()")]
#[case::unreadable_deny("shop", json!({"action": "DENY", "rules": [{"to": 80}]}), "Deny Namespace\n- everything")]
#[case::unreadable_selector("shop", json!({"selector": "app=web", "rules": [{}]}), "Deny Namespace\n- everything")]
#[case::unreadable_target("shop", json!({"targetRefs": "web", "rules": [{}]}), "Deny Namespace\n- everything")]
#[case::no_spec_to_speak_of("istio-system", json!(7), "Deny Global\n- everything")]
fn a_policy_that_cannot_be_read_lets_nobody_in(#[case] namespace: &str, #[case] spec: Value, #[case] expected: &str) {
    let changes = with_unreadable::<AuthorizationPolicy>(namespace, json!({"spec": spec}));
    assert_eq!(show(&policy(&changes, &format!("{namespace}/p")).unwrap()), expected);
    let verdict = &said(&changes, Subject::Policy).verdicts[0];
    assert_eq!((verdict.type_, verdict.holds, verdict.reason), ("ZtunnelAccepted", false, "Invalid"));
    assert!(verdict.message.starts_with("spec"), "{}", verdict.message);
    let named = workload(&changes, "Kubernetes//Pod/shop/web").unwrap().authorization_policies;
    assert_eq!(named == ["shop/p"], expected.contains("WorkloadSelector"), "{named:?}");
}

#[test]
fn a_waypoints_policy_that_cannot_be_read_is_still_the_waypoints() {
    let spec = json!({"targetRefs": [{"kind": "Service", "name": "web"}], "action": "MAYBE"});
    let changes = with_unreadable::<AuthorizationPolicy>("shop", json!({"spec": spec}));
    assert_eq!(policy(&changes, "shop/p"), None);
    assert!(said(&changes, Subject::Policy).verdicts.is_empty());
    assert_eq!(said(&changes, Subject::PolicyTargets).verdicts[0].reason, "Invalid");
}

#[test]
fn a_policy_is_judged_by_what_it_says_now() {
    let mut resolver = resolver(POD, Mesh::default());
    let good = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"rules": [{}]}});
    super::set::<AuthorizationPolicy>(&mut resolver, good.clone());
    resolver.resolve();
    reject::<AuthorizationPolicy>(&mut resolver, "shop", "p", json!({"spec": {"action": "DENI", "rules": [{}]}}));
    assert_eq!(show(&policy(&resolver.resolve(), "shop/p").unwrap()), "Deny Namespace\n- everything");
    // It heals,
    super::set::<AuthorizationPolicy>(&mut resolver, good);
    let changes = resolver.resolve();
    assert_eq!(show(&policy(&changes, "shop/p").unwrap()), "Allow Namespace\n- everything");
    assert_eq!(said(&changes, Subject::Policy).verdicts[0].reason, "Accepted");
    // and goes.
    reject::<AuthorizationPolicy>(&mut resolver, "shop", "p", json!({"spec": 7}));
    resolver.resolve();
    resolver.remove::<AuthorizationPolicy>("shop", "p");
    assert!(resolver.resolve().authorizations["shop/p"].is_none());
}

#[rstest]
#[case::a_mode(json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "MAYBE"}}), &["istio-system/istio_converted_static_strict"], None)]
#[case::a_port(json!({"selector": {"matchLabels": {"app": "web"}}, "portLevelMtls": {"80": 7}}), &["shop/converted_peer_authentication_p"], Some("Deny WorkloadSelector\n- (!principal=any, port=80)"))]
#[case::the_selector(json!({"selector": "app=web", "mtls": {"mode": "PERMISSIVE"}}), &["istio-system/istio_converted_static_strict"], Some("Deny Namespace\n- (!principal=any)"))]
fn what_cannot_be_read_of_a_peer_authentication_is_strict(
    #[case] spec: Value,
    #[case] named: &[&str],
    #[case] converted: Option<&str>,
) {
    let changes = with_unreadable::<PeerAuthentication>("shop", json!({"spec": spec}));
    assert_eq!(workload(&changes, "Kubernetes//Pod/shop/web").unwrap().authorization_policies, named);
    let policy = policy(&changes, "shop/converted_peer_authentication_p").map(|policy| show(&policy));
    assert_eq!(policy.as_deref(), converted);
    let verdict = &said(&changes, Subject::Shape("PeerAuthentication")).verdicts[0];
    assert_eq!((verdict.type_, verdict.holds), ("ambit.io/Readable", false));
}

#[test]
fn what_was_known_of_anything_else_stands_and_its_status_is_taken_back() {
    let service = |conditions: Value| json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.1"}, "status": {"conditions": conditions}});
    let mut resolver = resolver(POD, Mesh::default());
    super::set::<Service>(&mut resolver, service(json!([])));
    resolver.resolve();
    reject::<Service>(&mut resolver, "shop", "web", json!({"spec": {"ports": [{"port": "http"}]}}));
    let changes = resolver.resolve();
    assert!(changes.addresses.is_empty());
    let statement = said(&changes, Subject::Shape("Service"));
    assert!(statement.verdicts[0].message.starts_with("spec.ports[0].port: invalid type"), "{statement:?}");

    // Corrected, but its status has yet to hear of it; whoever wrote that status may have been another replica.
    let conditions = json!([{"type": "ambit.io/Readable", "status": "False"}, {"type": "Other", "status": "True"}]);
    super::set::<Service>(&mut resolver, service(conditions));
    let changes = resolver.resolve();
    let statement = said(&changes, Subject::Shape("Service"));
    assert!(statement.verdicts.is_empty());
    assert_eq!(statement.held.iter().map(|held| held.type_.as_str()).collect::<Vec<_>>(), ["ambit.io/Readable"]);
    super::set::<Service>(&mut resolver, service(json!([])));
    assert!(said(&resolver.resolve(), Subject::Shape("Service")).held.is_empty());
}

#[test]
fn a_world_without_poison_says_nothing_of_shapes() {
    assert!(resolve(POD).statements.is_empty());
}
