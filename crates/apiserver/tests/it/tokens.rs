//! Service-account tokens: asked for, believed, and bound to what they were made for.

use crate::server::Lab;
use serde_json::{Value, json};

async fn token(lab: &Lab, spec: Value) -> crate::server::Answer {
    lab.post("/api/v1/namespaces/default/serviceaccounts/sa/token", json!({"spec": spec})).await
}

async fn review(lab: &Lab, token: &Value, audience: &str) -> Value {
    let spec = json!({"token": token, "audiences": [audience]});
    lab.post("/apis/authentication.k8s.io/v1/tokenreviews", json!({"spec": spec})).await.body["status"].clone()
}

#[tokio::test]
async fn a_pods_token_names_the_pod_and_its_node_and_ends_with_it() {
    let lab = Lab::start().await;
    lab.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "sa"}})).await;
    lab.post("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let spec = json!({"serviceAccountName": "sa", "nodeName": "n1", "containers": [{"name": "a", "image": "x"}]});
    let pod = lab.post("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "p"}, "spec": spec})).await.body;
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]});
    let answer =
        token(&lab, json!({"audiences": ["istio-ca"], "expirationSeconds": 3600, "boundObjectRef": bound})).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    let text = &answer.body["status"]["token"];
    let status = review(&lab, text, "istio-ca").await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["istio-ca"])));
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:sa");
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/node-name"], json!(["n1"]));
    assert_eq!(review(&lab, text, "other").await["authenticated"], false);
    lab.delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await;
    let after = review(&lab, text, "istio-ca").await;
    assert_eq!(after["authenticated"], false);
    assert!(after["error"].as_str().unwrap().contains("pod that the token is bound to no longer exists"));
}

#[tokio::test]
async fn a_token_for_this_server_opens_it() {
    let lab = Lab::start().await;
    lab.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "sa"}})).await;
    let answer = token(&lab, json!({})).await.body;
    let bearer = format!("Bearer {}", answer["status"]["token"].as_str().unwrap());
    let who = lab
        .call(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &[("authorization", &bearer), ("content-type", "application/json")],
            &json!({}),
        )
        .await;
    assert_eq!(who.body["status"]["userInfo"]["username"], "system:serviceaccount:default:sa");
    let secrets = lab.call("GET", "/api/v1/secrets", &[("authorization", &bearer)], &Value::Null).await;
    assert_eq!(secrets.code, 403);
}

#[tokio::test]
async fn a_bad_request_for_a_token_is_refused() {
    let lab = Lab::start().await;
    assert_eq!(token(&lab, json!({})).await.code, 404);
    lab.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "sa"}})).await;
    assert_eq!(token(&lab, json!({"expirationSeconds": 5})).await.code, 422);
    let stranger = json!({"boundObjectRef": {"kind": "Pod", "name": "nobody"}});
    assert_eq!(token(&lab, stranger).await.code, 404);
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods_only() {
    let lab = Lab::start().await;
    lab.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "sa"}})).await;
    for node in ["n1", "n2"] {
        let spec = json!({"serviceAccountName": "sa", "nodeName": node, "containers": [{"name": "a", "image": "x"}]});
        let pod = json!({"metadata": {"name": format!("on-{node}")}, "spec": spec});
        assert_eq!(lab.post("/api/v1/namespaces/default/pods", pod).await.code, 201);
    }
    let headers = [
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
        ("content-type", "application/json"),
    ];
    let path = "/api/v1/namespaces/default/serviceaccounts/sa/token";
    let bound = |pod: &str| json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": pod}}});
    assert_eq!(lab.call("POST", path, &headers, &bound("on-n1")).await.code, 201);
    assert_eq!(lab.call("POST", path, &headers, &bound("on-n2")).await.code, 403);
    assert_eq!(lab.call("POST", path, &headers, &json!({"spec": {}})).await.code, 403);
}
