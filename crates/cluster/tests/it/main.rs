//! The client against a real API server: the embedded one, in this process.

mod server;

use std::time::Duration;

use api::{AuthorizationPolicy, ConfigMap, Namespace, ObjectMeta, PeerAuthentication, Pod, Resource, ServiceAccount};
use cluster::{Change, Changes, Client, DeleteOptions, Election, Patch, Scope};
use serde_json::json;
use server::Running;

fn config_map(name: &str, value: &str) -> ConfigMap {
    let data = [("key".to_owned(), value.to_owned())].into();
    ConfigMap { metadata: ObjectMeta::named("default", name), data, ..ConfigMap::default() }
}

async fn next<T: Resource>(changes: &mut Changes<T>) -> Change<T> {
    tokio::time::timeout(Duration::from_secs(20), changes.next()).await.expect("a change was to come")
}

/// Waits for the next change, which must be of this object.
async fn applied<T: Resource>(changes: &mut Changes<T>, name: &str) -> std::sync::Arc<T> {
    match next(changes).await {
        Change::Applied(object) if object.name() == name => object,
        other => panic!("{name} was to be applied, but: {other:?}"),
    }
}

#[tokio::test]
async fn objects_are_written_and_read() {
    let server = Running::start();
    let client = server.client().await;
    let created = client.create(&config_map("a", "1")).await.unwrap();
    assert!(!created.metadata.uid.is_empty() && created.metadata.creation_timestamp.is_some());
    assert!(client.create(&config_map("a", "1")).await.unwrap_err().is_already_exists());

    let merged: ConfigMap =
        client.patch("default", "a", Patch::Merge(json!({"data": {"other": "2", "key": null}}))).await.unwrap();
    assert_eq!(merged.data, [("other".to_owned(), "2".to_owned())].into());
    assert!(client.replace(&created).await.unwrap_err().is_conflict());

    let applied = client.apply(&config_map("b", "1"), "test").await.unwrap();
    assert_eq!(applied.data["key"], "1");
    assert_eq!(client.list::<ConfigMap>(&Scope::object("default", "b")).await.unwrap().len(), 1);
    assert_eq!(client.find::<ConfigMap>("default", "none").await.unwrap(), None);
    let error = client.get::<ConfigMap>("default", "none").await.unwrap_err();
    assert!(error.to_string().starts_with("cannot read ConfigMap default/none: "), "{error}");

    assert!(client.delete::<ConfigMap>("default", "a", &DeleteOptions::default().of(&created)).await.unwrap());
    assert!(!client.delete::<ConfigMap>("default", "a", &DeleteOptions::immediately()).await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn a_status_is_its_own_part() {
    let server = Running::start();
    let client = server.client().await;
    let account = ServiceAccount { metadata: ObjectMeta::named("default", "default"), ..ServiceAccount::default() };
    client.apply(&account, "test").await.unwrap();
    let pod = Pod::from_value(json!({
        "metadata": {"name": "a", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    client.create(&pod).await.unwrap();
    client.bind("default", "a", "n1").await.unwrap();
    let status = json!({"phase": "Running", "podIP": "10.0.0.1"});
    let pod: Pod = client.apply_status("default", "a", status, "kubelet").await.unwrap();
    assert_eq!((pod.spec.node_name.as_str(), pod.status.pod_ip.as_str()), ("n1", "10.0.0.1"));
    let on_node = client.list::<Pod>(&Scope::all().fields("spec.nodeName=n1")).await.unwrap();
    assert_eq!(on_node.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_store_follows_what_happens() {
    let server = Running::start();
    let client = server.client().await;
    client.create(&config_map("a", "1")).await.unwrap();
    let store = client.watch::<ConfigMap>(Scope::namespace("default").fields("metadata.name!=kube-root-ca.crt"));
    let mut changes = store.changes();
    applied(&mut changes, "a").await;
    assert!(matches!(next(&mut changes).await, Change::Synced));
    client.create(&config_map("b", "1")).await.unwrap();
    applied(&mut changes, "b").await;
    client.apply(&config_map("b", "2"), "test").await.unwrap();
    assert_eq!(applied(&mut changes, "b").await.data["key"], "2");
    client.delete::<ConfigMap>("default", "a", &DeleteOptions::default()).await.unwrap();
    assert!(matches!(next(&mut changes).await, Change::Deleted(object) if object.name() == "a"));
    assert_eq!((store.len(), store.get("default", "b").unwrap().data["key"].as_str()), (1, "2"));
    server.stop().await;
}

#[tokio::test]
async fn a_store_outlives_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start_at("127.0.0.1:0".parse().unwrap(), folder.path());
    let address = server.address;
    let client = server.client().await;
    client.create(&config_map("a", "1")).await.unwrap();
    client.create(&config_map("b", "1")).await.unwrap();
    let store = client.watch::<ConfigMap>(Scope::namespace("default").fields("metadata.name!=kube-root-ca.crt"));
    store.synced().await;
    let mut changes = store.changes();
    while !matches!(next(&mut changes).await, Change::Synced) {}
    server.stop().await;
    assert!(client.get::<ConfigMap>("default", "a").await.unwrap_err().is_unreachable());
    assert_eq!(store.len(), 2, "what is known stays known");

    let server = Running::start_at(address, folder.path());
    let client = server.client().await;
    client.delete::<ConfigMap>("default", "a", &DeleteOptions::default()).await.unwrap();
    client.apply(&config_map("b", "2"), "test").await.unwrap();
    let mut seen = [next(&mut changes).await, next(&mut changes).await].map(|change| match change {
        Change::Applied(object) => format!("+{}={}", object.name(), object.data["key"]),
        Change::Deleted(object) => format!("-{}", object.name()),
        other => format!("{other:?}"),
    });
    seen.sort();
    assert_eq!(seen, ["+b=2", "-a"]);
    server.stop().await;
}

#[tokio::test]
async fn a_kind_may_come_later() {
    let server = Running::start();
    let client = server.client().await;
    let store = client.watch::<PeerAuthentication>(Scope::all());
    let mut changes = store.changes();
    let mut manifests = vec![json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "strict"},
        "spec": {"mtls": {"mode": "STRICT"}},
    })];
    manifests.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mesh"}}));
    manifests.extend(api::crds());
    let applied_objects = client.apply_manifests(manifests, "test", "mesh").await.unwrap();
    assert_eq!(applied_objects.first().map(|applied| applied.kind.as_str()), Some("Namespace"));
    assert_eq!(applied_objects.last().map(|applied| applied.name.as_str()), Some("mesh/strict"));
    assert_eq!(applied(&mut changes, "strict").await.namespace(), "mesh");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_trims_keeps_less() {
    let server = Running::start();
    let client = server.client().await;
    let labels = [("a".to_owned(), "b".to_owned())].into();
    let metadata = ObjectMeta { labels, ..ObjectMeta::named("default", "web") };
    client.create(&ServiceAccount { metadata, ..ServiceAccount::default() }).await.unwrap();
    let trimming = client.clone().trimming(|account: &mut ServiceAccount| account.metadata.labels.clear());
    for (client, labels) in [(client, 1), (trimming, 0)] {
        let store = client.watch::<ServiceAccount>(Scope::namespace("default"));
        store.synced().await;
        assert_eq!(store.get("default", "web").unwrap().metadata.labels.len(), labels);
    }
    server.stop().await;
}

#[tokio::test]
async fn one_bad_object_stops_no_other() {
    let server = Running::start();
    let client = server.client().await;
    // A definition that lets everything pass, as an older version's may.
    let mut definitions = api::crds();
    definitions.retain(|definition| definition["metadata"]["name"] == "authorizationpolicies.security.istio.io");
    for version in definitions[0]["spec"]["versions"].as_array_mut().unwrap() {
        version["schema"] =
            json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    }
    client.apply_manifests(definitions, "test", "default").await.unwrap();
    let policy = |name: &str, rules: serde_json::Value| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": name},
            "spec": {"rules": rules},
        })
    };
    let policies = vec![policy("bad", json!("all")), policy("good", json!([{}])), policy("turns-bad", json!([{}]))];
    client.apply_manifests(policies, "test", "default").await.unwrap();
    let store = client.watch::<AuthorizationPolicy>(Scope::all());
    store.synced().await;
    assert_eq!(store.len(), 2);
    let rejected = store.rejected();
    assert_eq!(rejected[0].key.name, "bad");
    assert_eq!(rejected[0].error.path, "spec.rules");

    let mut changes = store.changes();
    while !matches!(next(&mut changes).await, Change::Synced) {}
    client.apply_manifests(vec![policy("turns-bad", json!(7))], "test", "default").await.unwrap();
    assert!(matches!(next(&mut changes).await, Change::Rejected(rejected) if rejected.key.name == "turns-bad"));
    assert_eq!(store.get("default", "turns-bad").unwrap().spec.rules.len(), 1, "the last good version stands");
    client.apply_manifests(vec![policy("bad", json!([]))], "test", "default").await.unwrap();
    applied(&mut changes, "bad").await;
    server.stop().await;
}

#[tokio::test]
async fn a_token_tells_whose_it_is() {
    let server = Running::start();
    let client = server.client().await;
    let account = ServiceAccount { metadata: ObjectMeta::named("default", "web"), ..ServiceAccount::default() };
    client.create(&account).await.unwrap();
    let audiences = ["istio-ca".to_owned()];
    let token = client.token_request("default", "web", &audiences, Some(3600), None).await.unwrap();
    let review = client.token_review(&token.token, &audiences).await.unwrap();
    assert!(review.authenticated, "{review:?}");
    assert_eq!(review.user.username, "system:serviceaccount:default:web");
    let other = client.token_review(&token.token, &["other".to_owned()]).await.unwrap();
    assert!(!other.authenticated);
    assert!(!client.token_review("forged", &audiences).await.unwrap().authenticated);
    server.stop().await;
}

async fn candidate(client: &Client, identity: &str) -> cluster::Leadership {
    let election = Election {
        duration: Duration::from_secs(3),
        retry: Duration::from_millis(100),
        ..Election::new("default", "leader", identity)
    };
    client.elect(election)
}

#[tokio::test]
async fn one_leads_at_a_time() {
    let server = Running::start();
    let client = server.client().await;
    let first = candidate(&client, "first").await;
    first.acquired().await;
    let second = candidate(&client, "second").await;
    first.resign().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), second.acquired()).await.expect("the lease was given up");
    let third = candidate(&client, "third").await;
    drop(second);
    tokio::time::timeout(Duration::from_secs(20), third.acquired()).await.expect("the lease lapsed");
    server.stop().await;
}

#[tokio::test]
async fn a_cluster_scoped_object_has_no_namespace() {
    let server = Running::start();
    let client = server.client().await;
    let namespace = Namespace { metadata: ObjectMeta::named("", "shop"), ..Namespace::default() };
    client.apply(&namespace, "test").await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}}));
    let labelled: Namespace = client.patch("", "shop", patch).await.unwrap();
    assert_eq!(labelled.metadata.label("istio.io/dataplane-mode"), Some("ambient"));
    server.stop().await;
}
