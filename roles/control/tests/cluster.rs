//! The whole control plane against the embedded API: what a node proxy is served, what it is signed, what is written back.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod world;

use api::{AuthorizationPolicy, ConfigMap, Namespace, Resource, Secret, Service, ServiceAccount, ServiceEntry};
use cluster::{Scope, Store};
use identity::{CaClient, CertificateSource};
use model::{Identity, Str};
use parking_lot::Mutex;
use runtime::clock::Clock;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use world::{create, eventually, page, pod, world};
use xds::{
    client::{Batch, Change, Config, Rejection, Sink},
    wds::Address,
};

/// What a proxy holds.
#[derive(Clone, Default)]
struct Held {
    addresses: Arc<Mutex<BTreeMap<Str, Address>>>,
    policies: Arc<Mutex<BTreeMap<Str, model::Authorization>>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Sink for Held {
    fn apply(&mut self, batch: Batch) -> Vec<Rejection> {
        fn absorb<T>(held: &Mutex<BTreeMap<Str, T>>, changes: Vec<Change<T>>, name: impl Fn(&T) -> Str) {
            let mut held = held.lock();
            for change in changes {
                match change {
                    Change::Upsert(value) => held.insert(name(&value), value),
                    Change::Remove(name) => held.remove(&name),
                };
            }
        }
        match batch {
            Batch::Addresses(changes) => absorb(&self.addresses, changes, Address::name),
            Batch::Authorizations(changes) => absorb(&self.policies, changes, model::Authorization::key),
        }
        self.changed.send_modify(|count| *count += 1);
        Vec::new()
    }
}

impl Held {
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = changed.wait_for(|_| holds(self));
        assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(), "{what} did not come");
    }

    fn has(&self, name: &str) -> bool {
        self.addresses.lock().contains_key(name)
    }
}

fn node() -> proto::core::Node {
    let text = |text: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.to_owned())) };
    let fields = [("NAMESPACE".to_owned(), text("istio-system")), ("NODE_NAME".to_owned(), text("n1"))];
    proto::core::Node {
        id: "ztunnel~10.244.1.2~ztunnel.istio-system~istio-system.svc.cluster.local".to_owned(),
        metadata: Some(prost_types::Struct { fields: fields.into() }),
        ..proto::core::Node::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_proxy_is_served_and_signed() {
    let world = world().await;
    let ztunnel = pod(&world.client, "istio-system", "ztunnel", "n1", "10.244.1.2").await;
    pod(&world.client, "shop", "web", "n1", "10.244.1.3").await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    create::<Service>(&world.client, "shop", "web", json!({"spec": spec})).await;

    let channel = world.channel("ztunnel", Some(&ztunnel)).await;
    let held = Held::default();
    let (client, mut handle) = xds::client::Client::new(Config::new(node()), held.clone());
    let (xds_channel, proxy) = (channel.clone(), held.clone());
    tokio::spawn(client.run(move || std::future::ready(Ok::<_, std::convert::Infallible>(xds_channel.clone()))));
    tokio::time::timeout(Duration::from_secs(20), handle.synced.wait_for(|synced| *synced)).await.unwrap().unwrap();
    proxy.until("the pod", |held| held.has("Kubernetes//Pod/shop/web")).await;
    proxy.until("the service", |held| held.has("shop/web.shop.svc.cluster.local")).await;

    // A policy acts within a second of its making, and the status says that it does.
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "action": "DENY", "rules": [{}]});
    let made = Instant::now();
    create::<AuthorizationPolicy>(&world.client, "shop", "deny", json!({"spec": spec})).await;
    proxy.until("the policy", |held| held.policies.lock().contains_key("shop/deny")).await;
    assert!(made.elapsed() < Duration::from_secs(1), "{:?}", made.elapsed());
    let is_named = |held: &Held| {
        let addresses = held.addresses.lock();
        let Some(Address::Workload(web)) = addresses.get("Kubernetes//Pod/shop/web") else { return false };
        web.authorization_policies == ["shop/deny".into()]
    };
    proxy.until("the policy's name at the workload", is_named).await;
    let condition = eventually("the policy's condition", || async {
        let policy: AuthorizationPolicy = world.client.get("shop", "deny").await.unwrap();
        policy.status.conditions.into_iter().find(|condition| condition.type_ == "ZtunnelAccepted")
    })
    .await;
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "Accepted"));

    // The proxy gets the certificates of the pods on its node, at once even if one has only just come; and no others.
    let authority = CaClient::new(channel, Duration::from_secs(3600), true, Clock::system());
    let of = |account: &str| Identity::new("cluster.local", "shop", account).unwrap();
    let certificate = authority.fetch(&of("web")).await.unwrap();
    assert_eq!(*certificate.identity(), of("web"));
    pod(&world.client, "shop", "late", "n1", "10.244.1.4").await;
    authority.fetch(&of("late")).await.unwrap();
    pod(&world.client, "shop", "far", "n2", "10.244.2.4").await;
    assert!(authority.fetch(&of("far")).await.is_err());

    // Somebody else's token asks in vain, and so does one that is not bound to a pod.
    for (account, bound) in [("ztunnel", None), ("default", None)] {
        create::<ServiceAccount>(&world.client, "istio-system", account, json!({})).await;
        let other =
            CaClient::new(world.channel(account, bound).await, Duration::from_secs(3600), true, Clock::system());
        assert!(other.fetch(&of("web")).await.is_err(), "{account}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_gets_roots_addresses_and_pages() {
    let world = world().await;
    let spec = json!({"hosts": ["ext.example.com"], "resolution": "DNS", "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]});
    create::<ServiceEntry>(&world.client, "shop", "ext", json!({"spec": spec})).await;
    let addresses = eventually("allocated addresses", || async {
        let entry: ServiceEntry = world.client.get("shop", "ext").await.unwrap();
        (!entry.status.addresses.is_empty()).then_some(entry.status.addresses)
    })
    .await;
    let values: Vec<_> = addresses.iter().map(|address| address.value.as_str()).collect();
    assert_eq!(values, ["240.240.0.1", "2001:2::1"]);

    let secret: Secret = eventually("the authority's secret", || async {
        world.client.find::<Secret>("istio-system", "istio-ca-secret").await.unwrap()
    })
    .await;
    let root = String::from_utf8(secret.bytes("root-cert.pem").unwrap()).unwrap();
    // A namespace that comes later gets the roots as well, and gets them back when they are taken away.
    create::<Namespace>(&world.client, "", "later", json!({})).await;
    for _ in 0..2 {
        let held = eventually("the later namespace's roots", || async {
            world.client.find::<ConfigMap>("later", "istio-ca-root-cert").await.unwrap()
        })
        .await;
        assert_eq!(held.data["root-cert.pem"], root);
        world
            .client
            .delete::<ConfigMap>("later", "istio-ca-root-cert", &cluster::DeleteOptions::default())
            .await
            .unwrap();
    }

    let ready = eventually("readiness", || async {
        let page = page(world.http, "/ready").await;
        page.starts_with("HTTP/1.1 200").then_some(page)
    });
    ready.await;
    assert!(page(world.http, "/debug/ambientz").await.contains("ext.example.com"));
    assert!(page(world.http, "/metrics").await.contains("pilot_info{"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_cannot_be_read_keeps_out_and_says_so() {
    let world = world().await;
    // Definitions that let everything pass, as an older version's may.
    let mut definitions = api::crds();
    definitions.retain(|definition| definition["spec"]["group"] == "security.istio.io");
    for version in definitions.iter_mut().flat_map(|it| it["spec"]["versions"].as_array_mut().unwrap()) {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        version["schema"] = json!({ "openAPIV3Schema": anything });
    }
    world.client.apply_manifests(definitions, "test", "").await.unwrap();
    let ztunnel = pod(&world.client, "istio-system", "ztunnel", "n1", "10.244.1.2").await;
    pod(&world.client, "shop", "web", "n1", "10.244.1.3").await;
    let bad = |kind: &str, spec: Value| {
        let metadata = json!({"name": "bad", "namespace": "shop"});
        json!({"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    let selector = json!({"matchLabels": {"app": "web"}});
    let policies = vec![
        bad("AuthorizationPolicy", json!({"selector": selector, "action": "MAYBE"})),
        bad("PeerAuthentication", json!({"selector": selector, "mtls": "on"})),
    ];
    world.client.apply_manifests(policies, "test", "").await.unwrap();

    let channel = world.channel("ztunnel", Some(&ztunnel)).await;
    let held = Held::default();
    let (client, _handle) = xds::client::Client::new(Config::new(node()), held.clone());
    let proxy = held.clone();
    tokio::spawn(client.run(move || std::future::ready(Ok::<_, std::convert::Infallible>(channel.clone()))));
    let denies = |held: &Held| {
        let policies = held.policies.lock();
        let bad = policies.get("shop/bad");
        bad.is_some_and(|bad| bad.action == model::Action::Deny && bad.rules == [model::Rule::default()])
    };
    proxy.until("the policy that denies everything", denies).await;
    let names_both = |held: &Held| {
        let addresses = held.addresses.lock();
        let Some(Address::Workload(web)) = addresses.get("Kubernetes//Pod/shop/web") else { return false };
        web.authorization_policies == ["shop/bad".into(), "istio-system/istio_converted_static_strict".into()]
    };
    proxy.until("the pod that names it and mutual TLS", names_both).await;

    // The objects say what is wrong with them, and so do the metrics.
    let (policies, peers) = (world.client.watch(Scope::all()), world.client.watch(Scope::all()));
    let said = unreadable::<AuthorizationPolicy>(&policies, "ZtunnelAccepted").await;
    assert!(said.message.starts_with("spec.action: unknown variant `MAYBE`"), "{}", said.message);
    let said = unreadable::<api::PeerAuthentication>(&peers, "ambit.io/Readable").await;
    assert!(said.message.starts_with("spec.mtls: invalid type"), "{}", said.message);
    let written = peers.rejected()[0].value["metadata"]["resourceVersion"].clone();
    let metric = r#"ambit_unreadable_objects{type="AuthorizationPolicy",namespace="shop",name="bad"} 1"#;
    assert!(page(world.http, "/metrics").await.contains(metric));

    // Corrected, it means what it says, and says so; what did not change is not written to.
    let spec = json!({"selector": selector, "action": "ALLOW", "rules": [{}]});
    world.client.apply_manifests(vec![bad("AuthorizationPolicy", spec)], "test", "").await.unwrap();
    proxy
        .until("the corrected policy", |held| {
            held.policies.lock().get("shop/bad").is_some_and(|policy| policy.action == model::Action::Allow)
        })
        .await;
    eventually("the corrected policy's condition", || async {
        let policy: AuthorizationPolicy = world.client.get("shop", "bad").await.unwrap();
        (policy.status.conditions[0].reason == "Accepted").then_some(())
    })
    .await;
    assert_eq!(peers.rejected()[0].value["metadata"]["resourceVersion"], written);
    let spec = json!({"selector": selector, "mtls": {"mode": "PERMISSIVE"}});
    world.client.apply_manifests(vec![bad("PeerAuthentication", spec)], "test", "").await.unwrap();
    eventually("a status without condition", || async {
        let peer: api::PeerAuthentication = world.client.get("shop", "bad").await.unwrap();
        peer.status.conditions.is_empty().then_some(())
    })
    .await;
    assert!(!page(world.http, "/metrics").await.contains("ambit_unreadable_objects{"));
}

/// What the status of the one object that cannot be read says.
async fn unreadable<T: Resource>(store: &Store<T>, condition: &str) -> api::Condition {
    eventually(condition, || async {
        let rejected = store.rejected();
        let said = &rejected.first()?.value["status"]["conditions"][0];
        let said: api::Condition = api::read_part(said).ok()?;
        (said.type_ == condition && said.status == "False").then_some(said)
    })
    .await
}
