//! Server-side apply as Kubernetes does it.

use super::*;
use crate::catalog::Catalog;
use crate::object::Object;
use rstest::rstest;
use serde_json::json;

fn context(manager: &str) -> Context {
    Context {
        kind: Catalog::built_in().find("apps", "v1", "deployments").unwrap(),
        namespace: "a".into(),
        user: None,
        manager: manager.into(),
        subresource: String::new(),
        dry_run: false,
    }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "a"}, "spec": spec})
}

fn containers(list: Value) -> Value {
    json!({"template": {"spec": {"containers": list}}})
}

#[test]
fn a_first_apply_owns_what_it_says() {
    let value = apply_first(&context("me"), &deployment(containers(json!([{"name": "c", "image": "x"}]))));
    assert_eq!(
        value.pointer("/metadata/managedFields/0/fieldsV1"),
        Some(&json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}":
            {".": {}, "f:image": {}, "f:name": {}}}}}}}))
    );
}

#[test]
fn what_is_no_longer_applied_goes() {
    let first = apply_first(&context("me"), &deployment(json!({"replicas": 2, "minReadySeconds": 5})));
    let second = apply(&context("me"), &first, &deployment(json!({"replicas": 2})), false).unwrap();
    assert_eq!(second["spec"], json!({"replicas": 2}));
}

#[test]
fn what_another_owns_too_stays() {
    let first = apply_first(&context("me"), &deployment(json!({"replicas": 2, "minReadySeconds": 5})));
    let shared = apply(&context("you"), &first, &deployment(json!({"minReadySeconds": 5})), false).unwrap();
    let third = apply(&context("me"), &shared, &deployment(json!({"replicas": 2})), false).unwrap();
    assert_eq!(third["spec"], json!({"replicas": 2, "minReadySeconds": 5}));
}

#[test]
fn another_value_for_an_owned_field_is_a_conflict_unless_forced() {
    let first = apply_first(&context("me"), &deployment(json!({"replicas": 2})));
    let other = deployment(json!({"replicas": 3}));
    let refused = apply(&context("you"), &first, &other, false).unwrap_err();
    assert_eq!(refused.code(), 409);
    assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"me\" using apps/v1: .spec.replicas");
    let forced = apply(&context("you"), &first, &other, true).unwrap();
    assert_eq!(forced.pointer("/spec/replicas"), Some(&json!(3)));
    let entries = forced.list("/metadata/managedFields");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].text("/manager"), "you");
}

#[test]
fn lists_merge_by_their_keys() {
    let first = apply_first(
        &context("me"),
        &deployment(containers(
            json!([{"name": "a", "image": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]),
        )),
    );
    let both =
        apply(&context("you"), &first, &deployment(containers(json!([{"name": "b", "image": "y"}]))), false).unwrap();
    assert_eq!(both.list("/spec/template/spec/containers").len(), 2);
    // A port without a protocol is the same as one with the default.
    let again = deployment(containers(json!([{"name": "a", "image": "x", "ports": [{"containerPort": 80}]}])));
    let same = apply(&context("me"), &both, &again, false).unwrap();
    assert_eq!(same.list("/spec/template/spec/containers/0/ports").len(), 1);
    let alone = apply(&context("you"), &same, &deployment(json!({})), false).unwrap();
    assert_eq!(alone.list("/spec/template/spec/containers").len(), 1);
}

#[test]
fn an_update_takes_over_what_it_changes() {
    let first = apply_first(&context("me"), &deployment(json!({"replicas": 2, "paused": true})));
    let mut changed = first.clone();
    changed["spec"]["replicas"] = json!(7);
    record(&context("kubectl"), Some(&first), &mut changed);
    let owners: Vec<(&str, &Value)> = changed
        .list("/metadata/managedFields")
        .iter()
        .map(|entry| (entry.text("/manager"), &entry["fieldsV1"]["f:spec"]))
        .collect();
    assert_eq!(owners, [("me", &json!({"f:paused": {}})), ("kubectl", &json!({"f:replicas": {}}))]);
    let refused = apply(&context("me"), &changed, &deployment(json!({"replicas": 2, "paused": true})), false);
    assert!(refused.unwrap_err().message().contains("conflict with \"kubectl\" using apps/v1: .spec.replicas"));
}

#[test]
fn an_apply_that_says_nothing_new_changes_nothing() {
    let first = apply_first(&context("me"), &deployment(json!({"replicas": 2})));
    let mut changed = first.clone();
    changed["spec"]["paused"] = json!(true);
    record(&context("kubectl"), Some(&first), &mut changed);
    assert_eq!(apply(&context("me"), &changed, &deployment(json!({"replicas": 2})), true).unwrap(), changed);
}

#[rstest]
#[case(json!({"f:a": {".": {}, "f:b": {}}, "f:l": {"k:{\"y\":1,\"x\":2}": {}, "v:\"z\"": {}}}),
    Some(json!({"f:a": {".": {}, "f:b": {}}, "f:l": {"k:{\"x\":2,\"y\":1}": {}, "v:\"z\"": {}}})))]
#[case(json!({"x": {}}), None)]
#[case(json!({"k:[]": {}}), None)]
#[case(json!([]), None)]
fn sets_are_read_and_written(#[case] text: Value, #[case] expected: Option<Value>) {
    assert_eq!(Set::from_json(&text).map(|set| set.to_json()), expected);
}
