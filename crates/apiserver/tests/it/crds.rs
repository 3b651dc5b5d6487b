//! Custom resources: registered at run time, kept to their schema.

use crate::server::Lab;
use rstest::rstest;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TEAPOTS: &str = "/apis/tea.io/v1/namespaces/default/teapots";

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "port": {"x-kubernetes-int-or-string": true}}},
        "status": {"type": "object", "properties": {"full": {"type": "boolean"}}}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}}, "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]})
    };
    json!({"metadata": {"name": "teapots.tea.io"}, "spec": {"group": "tea.io", "scope": "Namespaced",
        "names": {"kind": "Teapot", "plural": "teapots", "shortNames": ["tp"]},
        "versions": [version("v1", true), version("v1beta1", false)]}})
}

async fn lab() -> Lab {
    let lab = Lab::start().await;
    let answer = lab.post(DEFINITIONS, definition()).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    assert_eq!(answer.body["status"]["conditions"][1]["type"], "Established");
    assert_eq!(answer.body["status"]["conditions"][1]["status"], "True");
    lab
}

#[tokio::test]
async fn a_custom_resource_is_served_at_once() {
    let lab = lab().await;
    let spec = json!({"size": 3, "free": {"x": {"y": 1}}, "port": "http"});
    let made = lab.post(TEAPOTS, json!({"metadata": {"name": "a"}, "spec": spec, "status": {"full": true}})).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!((&made.body["spec"]["colour"], &made.body["spec"]["free"]["x"]["y"]), (&json!("red"), &json!(1)));
    assert!(made.body.get("status").is_none());
    let older = lab.get("/apis/tea.io/v1beta1/namespaces/default/teapots/a").await.body;
    assert_eq!(older["apiVersion"], "tea.io/v1beta1");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = lab.call("GET", TEAPOTS, &accept, &Value::Null).await.body;
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3]));
    let full = json!({"status": {"full": true}});
    assert_eq!(lab.patch(&format!("{TEAPOTS}/a/status"), "merge-patch+json", full).await.body["status"]["full"], true);
    let strategic = lab.patch(&format!("{TEAPOTS}/a"), "strategic-merge-patch+json", json!({})).await;
    assert_eq!(strategic.code, 415);
}

#[rstest]
#[case(json!({}), "spec.size: Required value")]
#[case(json!({"size": 0}), "should be greater than or equal to 1")]
#[case(json!({"size": "big"}), "must be of type integer")]
#[case(json!({"size": 1, "colour": "green"}), "Unsupported value: \"green\": supported values: \"red\", \"blue\"")]
#[case(json!({"size": 1, "port": true}), "must be of type integer,string")]
#[tokio::test]
async fn what_breaks_the_schema_is_refused(#[case] spec: Value, #[case] message: &str) {
    let answer = lab().await.post(TEAPOTS, json!({"metadata": {"name": "a"}, "spec": spec})).await;
    assert_eq!(answer.code, 422);
    assert!(answer.body["message"].as_str().unwrap().contains(message), "{answer:?}");
    assert!(answer.body["message"].as_str().unwrap().starts_with("Teapot.tea.io \"a\" is invalid: "));
}

#[tokio::test]
async fn undeclared_fields_are_dropped_with_a_warning() {
    let sent = json!({"metadata": {"name": "a"}, "spec": {"size": 1, "lid": true}});
    let answer = lab().await.post(TEAPOTS, sent).await;
    assert_eq!(answer.warnings, ["299 - \"unknown field \\\"spec.lid\\\"\""]);
    assert!(answer.body["spec"].get("lid").is_none());
}

#[tokio::test]
async fn a_broken_definition_stops_nothing() {
    let lab = lab().await;
    let mut broken = definition();
    broken["metadata"]["name"] = "cups.tea.io".into();
    broken["spec"]["names"] = json!({"kind": "Cup", "plural": "cups"});
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = "objekt".into();
    let answer = lab.post(DEFINITIONS, broken).await;
    assert_eq!(answer.code, 422);
    let expected = "spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Unsupported value: \"objekt\"";
    assert!(answer.body["message"].as_str().unwrap().contains(expected), "{answer:?}");
    assert_eq!(lab.get(TEAPOTS).await.code, 200);
}

#[tokio::test]
async fn names_that_are_taken_are_not_accepted() {
    let lab = lab().await;
    let mut other = definition();
    other["metadata"]["name"] = "pots.tea.io".into();
    other["spec"]["names"]["plural"] = "pots".into();
    let answer = lab.post(DEFINITIONS, other).await.body;
    assert_eq!(answer["status"]["conditions"][0]["status"], "False");
    assert_eq!(lab.get("/apis/tea.io/v1/pots").await.code, 404);
}

#[tokio::test]
async fn objects_go_with_their_definition() {
    let lab = lab().await;
    lab.post(TEAPOTS, json!({"metadata": {"name": "a"}, "spec": {"size": 1}})).await;
    lab.delete(&format!("{DEFINITIONS}/teapots.tea.io")).await;
    assert_eq!(lab.get(TEAPOTS).await.code, 404);
    lab.post(DEFINITIONS, definition()).await;
    lab.until(&format!("{TEAPOTS}/a"), 404).await;
}

#[tokio::test]
async fn the_meshs_own_kinds_are_checked_beyond_their_schema() {
    const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/default/authorizationpolicies";
    let lab = Lab::start().await;
    let mut definitions = api::crds();
    definitions.retain(|definition| definition["spec"]["names"]["kind"] == "AuthorizationPolicy");
    assert_eq!(lab.post(DEFINITIONS, definitions.remove(0)).await.code, 201);
    let policy = |ports: Value| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "a"},
            "spec": {"rules": [{"to": [{"operation": {"ports": ports}}]}]},
        })
    };
    let refused = lab.post(POLICIES, policy(json!(["80", "http"]))).await;
    assert_eq!(refused.code, 422);
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.contains("spec.rules[0].to[0].operation.ports[1]: Invalid value: \"http\": "), "{message}");
    assert_eq!(lab.post(POLICIES, policy(json!(["80"]))).await.code, 201);
}
