//! Each check by a table: objects in, codes out.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn objects(list: Value) -> Objects {
    let mut objects = Objects::default();
    for value in list.as_array().unwrap() {
        objects.add(value.clone(), None);
    }
    objects
}

fn object(kind: &str, name: &str, rest: Value) -> Value {
    let group = match kind {
        "Namespace" | "Pod" | "Service" => "v1",
        "Gateway" => "gateway.networking.k8s.io/v1",
        "NetworkPolicy" => "networking.k8s.io/v1",
        "ServiceEntry" | "Sidecar" => "networking.istio.io/v1",
        _ => "security.istio.io/v1",
    };
    let mut object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": name}});
    if kind != "Namespace" {
        object["metadata"]["namespace"] = "shop".into();
    }
    for (key, value) in rest.as_object().unwrap() {
        match key.as_str() {
            "labels" => object["metadata"]["labels"] = value.clone(),
            key => object[key] = value.clone(),
        }
    }
    object
}

fn ambient() -> Value {
    object("Namespace", "shop", json!({"labels": {"istio.io/dataplane-mode": "ambient"}}))
}

fn policy(spec: Value) -> Value {
    object("AuthorizationPolicy", "p", json!({"spec": spec}))
}

fn web() -> Value {
    object("Pod", "web", json!({"labels": {"app": "web"}}))
}

#[rstest]
#[case::fine(json!([ambient(), web(), policy(json!({"selector": {"matchLabels": {"app": "web"}}, "rules": [{}]}))]), &[])]
#[case::not_enrolled(json!([object("Namespace", "default", json!({})), object("Namespace", "kube-system", json!({}))]), &["IST0102"])]
#[case::invalid(json!([ambient(), policy(json!({"action": "DENY"}))]), &["IST0106"])]
#[case::unreadable(json!([ambient(), policy(json!({"action": "MAYBE"}))]), &["IST0106"])]
#[case::no_workload(json!([ambient(), web(), policy(json!({"selector": {"matchLabels": {"app": "db"}}, "rules": [{}]}))]), &["IST0127"])]
#[case::no_target(
    json!([object("Service", "s", json!({})), policy(json!({"targetRefs": [{"kind": "Service", "group": "", "name": "gone"}], "rules": [{}]}))]),
    &["IST0101"],
)]
#[case::target(
    json!([object("Service", "s", json!({})), policy(json!({"targetRefs": [{"kind": "Service", "group": "", "name": "s"}], "rules": [{}]}))]),
    &[],
)]
#[case::no_waypoint(
    json!([object("Namespace", "shop", json!({"labels": {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "w"}})),
        object("Gateway", "other", json!({}))]),
    &["IST0101"],
)]
#[case::opted_out(
    json!([object("Namespace", "shop", json!({"labels": {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "none"}})),
        object("Gateway", "other", json!({}))]),
    &[],
)]
#[case::selects_a_waypoint(
    json!([object("Pod", "w", json!({"labels": {"app": "w", "gateway.istio.io/managed": "istio.io-mesh-controller"}})),
        policy(json!({"selector": {"matchLabels": {"app": "w"}}, "rules": [{}]}))]),
    &["IST0166"],
)]
#[case::sidecars(json!([object("Sidecar", "s", json!({}))]), &["IST0167"])]
#[case::port_names(
    json!([object("Service", "s", json!({"spec": {"ports": [
        {"name": "http-web", "port": 80}, {"name": "web", "port": 81}, {"name": "x", "port": 82, "appProtocol": "http"},
        {"name": "dns", "port": 53, "protocol": "UDP"}]}}))]),
    &["IST0118"],
)]
#[case::conditions(
    json!([object("Gateway", "w", json!({"status": {"conditions": [
        {"type": "Programmed", "status": "False", "reason": "AddressNotUsable"}, {"type": "Accepted", "status": "True"}]}}))]),
    &["IST0171"],
)]
#[case::network_policy(
    json!([ambient(), web(), object("NetworkPolicy", "n", json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"ports": [{"port": 8080}]}]}}))]),
    &["AMB0001"],
)]
#[case::network_policy_with_the_tunnel(
    json!([ambient(), web(), object("NetworkPolicy", "n", json!({"spec": {"podSelector": {},
        "ingress": [{"ports": [{"port": 8080}]}, {"ports": [{"port": 15000, "endPort": 15010}]}]}}))]),
    &[],
)]
#[case::network_policy_for_others(
    json!([ambient(), web(), object("NetworkPolicy", "n", json!({"spec": {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": []}}))]),
    &[],
)]
fn findings(#[case] list: Value, #[case] expected: &[&str]) {
    let found = checks::all(&objects(list));
    let codes: Vec<_> = found.iter().map(|finding| finding.kind.code).collect();
    assert_eq!(codes, expected, "{found:?}");
}

#[test]
fn a_finding_is_told_as_upstream_tells_it() {
    let found = checks::all(&objects(json!([object("Namespace", "default", json!({}))])));
    let text = found[0].to_string();
    assert!(text.starts_with("Info [IST0102] (Namespace default) The namespace is not"), "{text}");
    assert!(suppresses("IST0102=Namespace default", &found[0]) && suppresses("IST0102=Namespace *", &found[0]));
    assert!(!suppresses("IST0101=Namespace default", &found[0]) && !suppresses("IST0102=Namespace shop", &found[0]));
}

#[test]
fn files_are_read_and_replace_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {action: DENY}\n";
    std::fs::write(&path, text).unwrap();
    let mut objects = objects(json!([policy(json!({"rules": [{}]}))]));
    read_files(folder.path(), false, None, &mut objects).unwrap();
    assert_eq!(objects.list.len(), 1);
    let found = checks::all(&objects);
    assert_eq!(found[0].kind.code, "IST0106");
    assert!(found[0].to_string().contains(&path.display().to_string()), "{}", found[0]);
    let wrong = validate(&ValidateArgs { files: vec![path] }).unwrap_err().to_string();
    assert!(wrong.contains("AuthorizationPolicy shop/p: spec.rules: "), "{wrong}");
}
