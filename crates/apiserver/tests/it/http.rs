//! Who may ask, what can be found out, and what is too much.

use crate::server::Lab;
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case("/healthz", 200)]
#[case("/livez", 200)]
#[case("/readyz", 200)]
#[case("/version", 200)]
#[case("/api", 401)]
#[case("/api/v1/namespaces", 401)]
#[tokio::test]
async fn strangers_learn_only_that_the_server_lives(#[case] path: &str, #[case] code: u16) {
    let lab = Lab::start().await;
    assert_eq!(lab.call("GET", path, &[("authorization", "")], &Value::Null).await.code, code);
    let forged = lab.call("GET", path, &[("authorization", "Bearer forged")], &Value::Null).await;
    assert_eq!(forged.code, 401);
}

#[rstest]
#[case("/nothing")]
#[case("/api/v2")]
#[case("/apis/none.io")]
#[case("/api/v1/teapots")]
#[case("/api/v1/namespaces/default/pods/a/frob")]
#[tokio::test]
async fn unknown_paths_are_not_found(#[case] path: &str) {
    let answer = Lab::start().await.get(path).await;
    assert_eq!((answer.code, answer.body["kind"].as_str()), (404, Some("Status")), "{answer:?}");
}

#[tokio::test]
async fn kinds_that_are_not_served_say_so() {
    let lab = Lab::start().await;
    let answer = lab.get("/apis/apps/v1/namespaces/default/statefulsets").await;
    assert_eq!(answer.code, 501);
    assert_eq!(answer.body["message"], "statefulsets.apps are not served here yet");
}

#[tokio::test]
async fn discovery_comes_in_one_document_or_in_many() {
    let lab = Lab::start().await;
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let all = lab.call("GET", "/apis", &accept, &Value::Null).await.body;
    assert_eq!(all["kind"], "APIGroupDiscoveryList");
    assert_eq!(lab.get("/apis").await.body["kind"], "APIGroupList");
    assert_eq!(lab.get("/apis/apps/v1").await.body["resources"][0]["name"], "controllerrevisions");
    let document = lab.get("/openapi/v3/apis/apps/v1").await.body;
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(patch["parameters"].to_string().contains("fieldValidation"));
}

#[tokio::test]
async fn large_and_broken_bodies_are_refused() {
    let lab = Lab::start().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let headers = [("content-type", "application/json")];
    let huge = lab.send("POST", path, &headers, vec![b' '; 4 * 1024 * 1024]).await;
    assert_eq!(huge.status(), 413);
    let large = json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(2 * 1024 * 1024)}});
    assert_eq!(lab.post(path, large).await.code, 403);
    for broken in ["{", "nonsense", &"[".repeat(1000)] {
        assert_eq!(lab.send("POST", path, &headers, broken.to_owned()).await.status(), 400);
    }
    assert_eq!(lab.send("POST", path, &[("content-type", "text/xml")], "<a/>").await.status(), 415);
    assert_eq!(lab.patch(&format!("{path}/a"), "xml", json!({})).await.code, 415);
}

#[tokio::test]
async fn rights_come_from_roles() {
    let lab = Lab::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]});
    lab.post(&format!("{rbac}/namespaces/default/roles"), role).await;
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]});
    assert_eq!(lab.post(&format!("{rbac}/namespaces/default/rolebindings"), binding).await.code, 201);
    let jane = [("impersonate-user", "jane")];
    let get = async |path: &str| lab.call("GET", path, &jane, &Value::Null).await;
    assert_eq!(get("/api/v1/namespaces/default/configmaps/x").await.code, 404);
    let refused = get("/api/v1/namespaces/default/secrets").await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.body["message"],
        "secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(get("/api/v1/namespaces/kube-system/configmaps/x").await.code, 403);
    let review = json!({"spec": {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "configmaps", "namespace": "default"}}});
    let answer = lab.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review).await;
    assert_eq!(answer.body["status"]["allowed"], true);
}

#[tokio::test]
async fn nobody_gives_away_more_than_they_have() {
    let lab = Lab::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let admin = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [{"kind": "User", "name": "jane"}]});
    assert_eq!(lab.post(&format!("{rbac}/namespaces/default/rolebindings"), admin).await.code, 201);
    let jane = [("impersonate-user", "jane"), ("content-type", "application/json")];
    let bind = |role: &str| json!({"metadata": {"name": role}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": "joe"}]});
    let bindings = format!("{rbac}/namespaces/default/rolebindings");
    assert_eq!(lab.call("POST", &bindings, &jane, &bind("view")).await.code, 201);
    let refused = lab.call("POST", &bindings, &jane, &bind("cluster-admin")).await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.body["message"].as_str().unwrap().contains("attempting to grant RBAC permissions not currently held")
    );
    let role = |resource: &str| json!({"metadata": {"name": resource}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
    let roles = format!("{rbac}/namespaces/default/roles");
    assert_eq!(lab.call("POST", &roles, &jane, &role("pods")).await.code, 201);
    assert_eq!(lab.call("POST", &roles, &jane, &role("nodes")).await.code, 403);
}
