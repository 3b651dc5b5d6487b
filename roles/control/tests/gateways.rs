//! Waypoints against the embedded API: from a Gateway to what runs it, and what changes that and what does not.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod world;

use api::{
    ConfigMap, Deployment, Gateway, GatewayClass, HorizontalPodAutoscaler, PodDisruptionBudget, Resource, Service,
    ServiceAccount,
};
use cluster::{Client, DeleteOptions, Patch};
use serde_json::json;
use world::{Api, create, eventually};

async fn waypoint(client: &Client, name: &str, metadata: serde_json::Value, infrastructure: serde_json::Value) {
    let mut object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata,
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
    });
    if !infrastructure.is_null() {
        object["spec"]["infrastructure"] = infrastructure;
    }
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = "shop".into();
    // As it is written: a group of "" is not left out.
    client.apply_value(object, "test").await.unwrap();
}

async fn condition(client: &Client, name: &str, kind: &str) -> Option<(String, String)> {
    let gateway: Gateway = client.get("shop", name).await.unwrap();
    let held = gateway.status.conditions.into_iter().find(|held| held.type_ == kind)?;
    Some((held.status, held.reason))
}

async fn programmed(client: &Client, name: &str, reason: &str) {
    eventually(&format!("{reason} of {name}"), || async {
        condition(client, name, "Programmed").await.filter(|(_, held)| held == reason)
    })
    .await;
}

/// What a kubelet and a deployment controller would say.
async fn pods_ready(client: &Client, name: &str, ready: i32) {
    let status = Patch::Merge(json!({"status": {"readyReplicas": ready, "replicas": 1}}));
    client.patch_status::<Deployment>("shop", name, status).await.unwrap();
}

async fn found<T: Resource>(client: &Client, name: &str) -> T {
    eventually(&format!("{} {name}", T::KIND), || async { client.find::<T>("shop", name).await.unwrap() }).await
}

async fn gone<T: Resource>(client: &Client, name: &str) {
    eventually(&format!("the end of {} {name}", T::KIND), || async {
        client.find::<T>("shop", name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waypoint_is_deployed_programmed_and_left_alone_by_a_restart() {
    let api = Api::start().await;
    let client = &api.client;
    let first = api.control(&["--leader-election=false"]);
    for class in ["istio", "istio-remote", "istio-waypoint"] {
        eventually(class, || async {
            let class: GatewayClass = client.find("", class).await.unwrap()?;
            class.status.conditions.iter().any(|held| held.type_ == "Accepted" && held.is_true()).then_some(())
        })
        .await;
    }
    waypoint(client, "waypoint", json!({}), json!(null)).await;
    programmed(client, "waypoint", "AddressNotUsable").await;
    pods_ready(client, "waypoint", 1).await;
    programmed(client, "waypoint", "Programmed").await;
    let service: Service = found(client, "waypoint").await;
    let gateway: Gateway = client.get("shop", "waypoint").await.unwrap();
    let addresses: Vec<_> = gateway.status.addresses.iter().map(|address| address.value.clone()).collect();
    assert_eq!(addresses, [service.spec.cluster_ip.as_str(), "waypoint.shop.svc.cluster.local"]);
    assert_eq!(gateway.metadata.annotation("gateway.istio.io/controller-version"), Some("5"));

    let versions = || async {
        let deployment: Deployment = client.get("shop", "waypoint").await.unwrap();
        let service: Service = client.get("shop", "waypoint").await.unwrap();
        let account: ServiceAccount = client.get("shop", "waypoint").await.unwrap();
        let gateway: Gateway = client.get("shop", "waypoint").await.unwrap();
        [deployment.metadata, service.metadata, account.metadata, gateway.metadata]
            .map(|metadata| metadata.resource_version)
    };
    let before = versions().await;
    first.shutdown.trigger();
    eventually("the end of the first control plane", || async { first.ended.is_finished().then_some(()) }).await;
    let _second = api.control(&["--leader-election=false"]);
    // Another gateway shows that the new one is at work; it looks at all of them in one pass.
    waypoint(client, "later", json!({}), json!(null)).await;
    programmed(client, "later", "AddressNotUsable").await;
    assert_eq!(versions().await, before);

    // What somebody takes away comes back.
    client.delete::<Service>("shop", "waypoint", &DeleteOptions::default()).await.unwrap();
    found::<Service>(client, "waypoint").await;
    let patch = Patch::Merge(json!({"spec": {"template": {"spec": {"serviceAccountName": "default"}}}}));
    client.patch::<Deployment>("shop", "waypoint", patch).await.unwrap();
    eventually("the account", || async {
        let deployment: Deployment = client.get("shop", "waypoint").await.unwrap();
        (deployment.spec.template.spec.service_account_name == "waypoint").then_some(())
    })
    .await;

    // And with the gateway goes everything.
    client.delete::<Gateway>("shop", "waypoint", &DeleteOptions::default()).await.unwrap();
    gone::<Deployment>(client, "waypoint").await;
    gone::<ServiceAccount>(client, "waypoint").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_tune_a_waypoint_and_bad_ones_leave_it_running() {
    let api = Api::start().await;
    let client = &api.client;
    let _control = api.control(&["--leader-election=false", "--waypoint-replicas=2"]);
    let reference = json!({"parametersRef": {"group": "", "kind": "ConfigMap", "name": "tuned"}});
    waypoint(client, "waypoint", json!({}), reference).await;
    eventually("the refusal", || async {
        let held = condition(client, "waypoint", "Accepted").await?;
        (held == ("False".to_owned(), "InvalidParameters".to_owned())).then_some(())
    })
    .await;
    let tune = |data: serde_json::Value| async move {
        create::<ConfigMap>(client, "shop", "tuned", json!({"data": data})).await
    };
    tune(
        json!({"horizontalPodAutoscaler": "spec: {maxReplicas: 4}", "podDisruptionBudget": "spec: {minAvailable: 1}"}),
    )
    .await;
    let autoscaler: HorizontalPodAutoscaler = found(client, "waypoint").await;
    assert_eq!(autoscaler.spec["maxReplicas"], 4);
    found::<PodDisruptionBudget>(client, "waypoint").await;
    let deployment: Deployment = client.get("shop", "waypoint").await.unwrap();
    assert_eq!(deployment.spec.replicas, Some(1), "the autoscaler decides, so that the server's own default stands");

    tune(json!({"podDisruptionBudget": "spec: {minAvailable: 1}"})).await;
    gone::<HorizontalPodAutoscaler>(client, "waypoint").await;
    eventually("the mesh's own number", || async {
        let deployment: Deployment = client.get("shop", "waypoint").await.unwrap();
        (deployment.spec.replicas == Some(2)).then_some(())
    })
    .await;
    tune(json!({"deployment": "spec: {replicas: lots}"})).await;
    eventually("the refusal", || async {
        condition(client, "waypoint", "Accepted").await.filter(|(_, reason)| reason == "InvalidParameters")
    })
    .await;
    let deployment: Deployment = client.get("shop", "waypoint").await.unwrap();
    assert_eq!(deployment.spec.replicas, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_made_for_a_gateway_is_left_alone() {
    let api = Api::start().await;
    let client = &api.client;
    let own = json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "mine"}}});
    create::<Service>(client, "shop", "waypoint", own).await;
    let _control = api.control(&["--leader-election=false"]);
    waypoint(client, "waypoint", json!({}), json!(null)).await;
    // Of another revision, and of a newer controller.
    waypoint(client, "canary", json!({"labels": {"istio.io/rev": "canary"}}), json!(null)).await;
    waypoint(client, "newer", json!({"annotations": {"gateway.istio.io/controller-version": "6"}}), json!(null)).await;
    found::<Deployment>(client, "waypoint").await;
    programmed(client, "waypoint", "AddressNotUsable").await;
    let service: Service = client.get("shop", "waypoint").await.unwrap();
    assert_eq!(service.spec.selector["app"], "mine");
    for name in ["canary", "newer"] {
        assert_eq!(client.find::<Deployment>("shop", name).await.unwrap(), None);
        assert_eq!(
            condition(client, name, "Accepted")
                .await
                .map(|(status, _)| status)
                .unwrap_or_default()
                .replace("Unknown", ""),
            ""
        );
    }
}
