//! Creating, changing and refusing objects.

use crate::server::Lab;
use rstest::rstest;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {
        "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}})
}

#[tokio::test]
async fn an_object_lives_from_creation_to_deletion() {
    let lab = Lab::start().await;
    let created = lab.post(MAPS, map("a", json!({"k": "1"}))).await;
    assert_eq!(created.code, 201);
    assert!(created.body["metadata"]["uid"].is_string());
    assert_eq!(lab.post(MAPS, map("a", json!({}))).await.body["reason"], "AlreadyExists");
    let path = format!("{MAPS}/a");
    let mut value = lab.get(&path).await.body;
    value["data"]["k"] = "2".into();
    let first = value.clone();
    assert_eq!(lab.put(&path, &value).await.code, 200);
    let stale = lab.put(&path, &json!({"data": {"k": "3"}, "metadata": first["metadata"]})).await;
    assert_eq!((stale.code, stale.body["reason"].as_str()), (409, Some("Conflict")));
    assert!(stale.body["message"].as_str().unwrap().starts_with("Operation cannot be fulfilled on configmaps \"a\""));
    assert_eq!(lab.delete(&path).await.body["status"], "Success");
    assert_eq!(lab.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_no_change() {
    let lab = Lab::start().await;
    lab.post(MAPS, map("a", json!({"k": "1"}))).await;
    let path = format!("{MAPS}/a");
    let before = lab.get(&path).await.body;
    lab.patch(&path, "merge-patch+json", json!({"data": {"k": "1"}})).await;
    assert_eq!(lab.get(&path).await.body["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn generations_count_what_is_wanted_and_status_is_apart() {
    let lab = Lab::start().await;
    let mut sent = deployment("d");
    sent["status"] = json!({"replicas": 9});
    let created = lab.post(DEPLOYMENTS, sent).await.body;
    assert_eq!((&created["metadata"]["generation"], &created["status"]), (&json!(1), &json!({})));
    let path = format!("{DEPLOYMENTS}/d");
    lab.patch(
        &format!("{path}/status"),
        "merge-patch+json",
        json!({"status": {"replicas": 1}, "spec": {"replicas": 7}}),
    )
    .await;
    let value = lab.get(&path).await.body;
    assert_eq!((&value["metadata"]["generation"], &value["spec"]["replicas"]), (&json!(1), &json!(1)));
    assert_eq!(value["status"]["replicas"], 1);
    lab.patch(&path, "merge-patch+json", json!({"spec": {"replicas": 2}, "status": {"replicas": 5}})).await;
    let value = lab.get(&path).await.body;
    assert_eq!((&value["metadata"]["generation"], &value["status"]["replicas"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn scale_is_a_view_of_replicas() {
    let lab = Lab::start().await;
    lab.post(DEPLOYMENTS, deployment("d")).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let scale = lab.get(&path).await.body;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(1), &json!("app=a")));
    assert_eq!(
        lab.patch(&path, "merge-patch+json", json!({"spec": {"replicas": 4}})).await.body["spec"]["replicas"],
        4
    );
    assert_eq!(lab.get(&format!("{DEPLOYMENTS}/d")).await.body["spec"]["replicas"], 4);
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let lab = Lab::start().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, address: Value| json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    let first = lab.post(path, service("a", Value::Null)).await.body;
    assert!(first["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
    assert_eq!((&first["spec"]["ports"][0]["targetPort"], &first["spec"]["type"]), (&json!(80), &json!("ClusterIP")));
    assert_eq!(lab.post(path, service("b", "None".into())).await.body["spec"]["clusterIPs"], json!(["None"]));
    let taken = lab.post(path, service("c", "10.96.0.1".into())).await;
    assert!(taken.body["message"].as_str().unwrap().contains("provided IP is already allocated"), "{taken:?}");
    let outside = lab.post(path, service("c", "192.168.0.1".into())).await;
    assert!(outside.body["message"].as_str().unwrap().contains("not in the valid range"));
    assert_eq!(lab.post(path, service("c", "10.96.0.10".into())).await.code, 201);
    let moved = lab.patch(&format!("{path}/c"), "merge-patch+json", json!({"spec": {"clusterIP": "10.96.0.11"}})).await;
    assert!(moved.body["message"].as_str().unwrap().contains("may not change once set"));
    lab.delete(&format!("{path}/c")).await;
    assert_eq!(lab.post(path, service("d", "10.96.0.10".into())).await.code, 201);
}

#[rstest]
#[case::strict("?fieldValidation=Strict", 400, "strict decoding error: unknown field \"spec.replica\"")]
#[case::warn("?fieldValidation=Warn", 201, "")]
#[case::ignore("?fieldValidation=Ignore", 201, "")]
#[tokio::test]
async fn unknown_fields_are_treated_as_asked(#[case] query: &str, #[case] code: u16, #[case] message: &str) {
    let lab = Lab::start().await;
    let mut sent = deployment("d");
    sent["spec"]["replica"] = 3.into();
    let answer = lab.post(&format!("{DEPLOYMENTS}{query}"), sent).await;
    assert_eq!(answer.code, code);
    assert!(answer.body["message"].as_str().unwrap_or_default().contains(message), "{answer:?}");
    assert_eq!(answer.warnings.len(), usize::from(query.contains("Warn")));
    assert!(answer.body["spec"].get("replica").is_none());
}

#[rstest]
#[case::form(json!({"metadata": {"name": "d"}, "spec": {"replicas": "2"}}), 400, "cannot unmarshal string into Go struct field Deployment.spec.replicas of type int32")]
#[case::name(json!({"metadata": {"name": "D"}}), 422, "metadata.name: Invalid value: \"D\"")]
#[case::kind(json!({"kind": "Pod", "metadata": {"name": "d"}}), 400, "does not match the expected kind (Deployment)")]
#[case::namespace(json!({"metadata": {"name": "d", "namespace": "x"}}), 400, "does not match the namespace sent on the request")]
#[case::version(json!({"metadata": {"name": "d", "resourceVersion": "1"}}), 400, "resourceVersion should not be set on objects to be created")]
#[case::list(json!([]), 400, "cannot be handled as a Deployment")]
#[tokio::test]
async fn bad_objects_are_refused_in_the_words_of_kubernetes(
    #[case] part: Value,
    #[case] code: u16,
    #[case] message: &str,
) {
    let lab = Lab::start().await;
    let mut sent = deployment("d");
    match part.as_object() {
        Some(fields) => fields.iter().for_each(|(name, value)| sent[name] = value.clone()),
        None => sent = part,
    }
    let answer = lab.post(DEPLOYMENTS, sent).await;
    assert_eq!(answer.code, code, "{answer:?}");
    assert!(answer.body["message"].as_str().unwrap().contains(message), "{answer:?}");
}

#[tokio::test]
async fn apply_makes_merges_and_finds_conflicts() {
    let lab = Lab::start().await;
    let path = format!("{MAPS}/a");
    let apply = |manager: &str, force: bool| format!("{path}?fieldManager={manager}&force={force}");
    let intent =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    let form = "apply-patch+yaml";
    assert_eq!(lab.patch(&apply("me", false), form, intent(json!({"a": "1", "b": "1"}))).await.code, 201);
    let conflict = lab.patch(&apply("you", false), form, intent(json!({"a": "2", "c": "1"}))).await;
    assert_eq!(conflict.code, 409);
    assert_eq!(conflict.body["details"]["causes"][0]["field"], ".data.a");
    assert_eq!(lab.patch(&apply("you", true), form, intent(json!({"a": "2", "c": "1"}))).await.code, 200);
    let last = lab.patch(&apply("me", false), form, intent(json!({}))).await.body;
    assert_eq!(last["data"], json!({"a": "2", "c": "1"}));
    assert_eq!(lab.patch(&path, form, intent(json!({}))).await.code, 400);
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let lab = Lab::start().await;
    assert_eq!(lab.post(&format!("{MAPS}?dryRun=All"), map("a", json!({}))).await.code, 201);
    assert_eq!(lab.get(&format!("{MAPS}/a")).await.code, 404);
}

#[tokio::test]
async fn a_state_folder_outlives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let config = apiserver::Config {
        storage: apiserver::Storage::Directory(folder.path().to_owned()),
        ..apiserver::Config::default()
    };
    let uid = {
        let server = apiserver::Server::new(config.clone()).unwrap();
        drop(server);
        let lab = Lab::start_with(config.clone()).await;
        let uid = lab.post(MAPS, map("a", json!({"k": "v"}))).await.body["metadata"]["uid"].clone();
        lab.stop().await;
        uid
    };
    let lab = Lab::start_with(config).await;
    assert_eq!(lab.get(&format!("{MAPS}/a")).await.body["metadata"]["uid"], uid);
}
