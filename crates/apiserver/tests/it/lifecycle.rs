//! What follows a deletion.

use crate::server::Lab;
use rstest::rstest;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn owner_and_child(lab: &Lab) {
    let owner = lab.post(MAPS, json!({"metadata": {"name": "owner"}})).await.body;
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]});
    let child = json!({"metadata": {"name": "child", "ownerReferences": [reference]}});
    assert_eq!(lab.post(MAPS, child).await.code, 201);
}

#[rstest]
#[case("Background")]
#[case("Foreground")]
#[tokio::test]
async fn dependents_follow_their_owner(#[case] policy: &str) {
    let lab = Lab::start().await;
    owner_and_child(&lab).await;
    lab.delete(&format!("{MAPS}/owner?propagationPolicy={policy}")).await;
    lab.until(&format!("{MAPS}/child"), 404).await;
    lab.until(&format!("{MAPS}/owner"), 404).await;
}

#[tokio::test]
async fn orphans_stay() {
    let lab = Lab::start().await;
    owner_and_child(&lab).await;
    lab.delete(&format!("{MAPS}/owner?propagationPolicy=Orphan")).await;
    lab.until(&format!("{MAPS}/owner"), 404).await;
    let child = lab.get(&format!("{MAPS}/child")).await.body;
    assert!(child["metadata"].get("ownerReferences").is_none_or(|owners| owners == &json!([])), "{child}");
}

#[tokio::test]
async fn an_object_with_an_owner_that_never_was_goes() {
    let lab = Lab::start().await;
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "no-such-uid"});
    lab.post(MAPS, json!({"metadata": {"name": "lost", "ownerReferences": [reference]}})).await;
    lab.until(&format!("{MAPS}/lost"), 404).await;
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let lab = Lab::start().await;
    lab.post(MAPS, json!({"metadata": {"name": "a", "finalizers": ["ambit.io/x"]}})).await;
    let path = format!("{MAPS}/a");
    assert!(lab.delete(&path).await.body["metadata"]["deletionTimestamp"].is_string());
    let late =
        lab.patch(&path, "merge-patch+json", json!({"metadata": {"finalizers": ["ambit.io/x", "ambit.io/y"]}})).await;
    assert_eq!(late.body["metadata"]["finalizers"], json!(["ambit.io/x"]));
    lab.patch(&path, "merge-patch+json", json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(lab.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_namespace_takes_its_contents_with_it() {
    let lab = Lab::start().await;
    lab.namespace("shop").await;
    let maps = "/api/v1/namespaces/shop/configmaps";
    lab.post(maps, json!({"metadata": {"name": "held", "finalizers": ["ambit.io/x"]}})).await;
    lab.post(maps, json!({"metadata": {"name": "free"}})).await;
    lab.delete("/api/v1/namespaces/shop").await;
    lab.until(&format!("{maps}/free"), 404).await;
    let namespace = lab.get("/api/v1/namespaces/shop").await.body;
    assert_eq!(namespace["status"]["phase"], "Terminating");
    let refused = lab.post(maps, json!({"metadata": {"name": "new"}})).await;
    assert_eq!(refused.code, 403);
    assert!(refused.body["message"].as_str().unwrap().contains("because it is being terminated"));
    lab.patch(&format!("{maps}/held"), "merge-patch+json", json!({"metadata": {"finalizers": null}})).await;
    lab.until("/api/v1/namespaces/shop", 404).await;
    assert_eq!(lab.post(maps, json!({"metadata": {"name": "new"}})).await.code, 404);
}

#[tokio::test]
async fn a_pod_that_runs_gets_time_to_end() {
    let lab = Lab::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, node: Value| json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "a", "image": "x"}]}});
    lab.post(pods, pod("bound", "n1".into())).await;
    lab.post(pods, pod("free", Value::Null)).await;
    let marked = lab.delete(&format!("{pods}/bound")).await.body;
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(lab.get(&format!("{pods}/bound")).await.code, 200);
    lab.delete(&format!("{pods}/bound?gracePeriodSeconds=0")).await;
    assert_eq!(lab.get(&format!("{pods}/bound")).await.code, 404);
    lab.delete(&format!("{pods}/free")).await;
    assert_eq!(lab.get(&format!("{pods}/free")).await.code, 404);
}
