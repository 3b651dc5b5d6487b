//! The control plane when what it stands on fails: the API goes and comes back, kinds are missing, settings change, no cluster at all.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod world;

use api::{AuthorizationPolicy, ConfigMap, Namespace, Service};
use clap::Parser;
use cluster::{Client, Source};
use runtime::Shutdown;
use serde_json::json;
use std::{net::TcpListener, path::Path, time::Duration};
use world::{create, eventually, free_port, page};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: control::Args,
}

/// An API that can be ended and started again: its objects outlive it.
struct Api {
    client: Client,
    folder: tempfile::TempDir,
    port: u16,
    running: Option<(Shutdown, tokio::task::JoinHandle<()>)>,
}

impl Api {
    async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "test", "user": {"token": "admin"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string();
        std::fs::write(folder.path().join("kubeconfig"), &text).unwrap();
        let client = Client::connect(&Source::Text(text)).await.unwrap();
        let mut api = Self { client, folder, port, running: None };
        api.run();
        for namespace in ["istio-system", "shop"] {
            create::<Namespace>(&api.client, "", namespace, json!({})).await;
        }
        api
    }

    fn run(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        let config = apiserver::Config {
            admin_token: Some("admin".to_owned()),
            storage: apiserver::Storage::Directory(self.folder.path().join("objects")),
            ..apiserver::Config::default()
        };
        let (server, shutdown) = (apiserver::Server::new(config).unwrap(), Shutdown::new());
        let wish = shutdown.clone();
        let ended = tokio::spawn(async move { drop(server.serve(vec![listener], wish.triggered()).await) });
        self.running = Some((shutdown, ended));
    }

    async fn end(&mut self) {
        let (shutdown, ended) = self.running.take().unwrap();
        shutdown.trigger();
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the API ends").unwrap();
    }

    fn kubeconfig(&self) -> String {
        format!("--kubeconfig={}", self.folder.path().join("kubeconfig").display())
    }
}

/// A control plane with these flags; its HTTP port.
fn control(flags: &[String]) -> (u16, Shutdown) {
    let (http, shutdown) = (free_port(), Shutdown::new());
    let own = [
        "control".to_owned(),
        format!("--httpAddr=127.0.0.1:{http}"),
        format!("--secureGRPCAddr=127.0.0.1:{}", free_port()),
        format!("--monitoringAddr=127.0.0.1:{}", free_port()),
        format!("--httpsAddr=127.0.0.1:{}", free_port()),
        format!("--grpcAddr=127.0.0.1:{}", free_port()),
        "--leader-election=false".to_owned(),
    ];
    let args = Command::parse_from(own.iter().chain(flags)).args;
    tokio::spawn(control::run(args, shutdown.clone()));
    (http, shutdown)
}

async fn ready(http: u16) {
    eventually("readiness", || async { page(http, "/ready").await.starts_with("HTTP/1.1 200").then_some(()) }).await;
}

async fn shows(http: u16, path: &str, text: &str) {
    eventually(text, || async { page(http, path).await.contains(text).then_some(()) }).await;
}

async fn service(client: &Client, name: &str, address: &str) {
    let spec = json!({"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]});
    create::<Service>(client, "shop", name, json!({"spec": spec})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_from_memory_while_the_api_is_gone_and_recovers_by_itself() {
    let mut api = Api::start().await;
    api.client.apply_manifests(api::crds(), "test", "").await.unwrap();
    service(&api.client, "before", "10.96.0.10").await;
    let (http, shutdown) = control(&[api.kubeconfig()]);
    ready(http).await;
    shows(http, "/debug/registryz", "before.shop.svc").await;

    api.end().await;
    assert!(page(http, "/ready").await.starts_with("HTTP/1.1 200"), "what is known is still true");
    assert!(page(http, "/debug/registryz").await.contains("before.shop.svc"));
    api.run();
    service(&api.client, "after", "10.96.0.11").await;
    shows(http, "/debug/registryz", "after.shop.svc").await;
    shows(http, "/debug/registryz", "before.shop.svc").await;
    shutdown.trigger();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_that_are_missing_are_followed_from_the_moment_they_appear() {
    let api = Api::start().await;
    let (http, shutdown) = control(&[api.kubeconfig()]);
    ready(http).await;
    api.client.apply_manifests(api::crds(), "test", "").await.unwrap();
    let policy = json!({"spec": {"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["other"]}}]}]}});
    create::<AuthorizationPolicy>(&api.client, "shop", "late", policy).await;
    shows(http, "/debug/authorizationz", "\"late\"").await;
    shutdown.trigger();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_act_as_soon_as_they_are_written() {
    let api = Api::start().await;
    api.client.apply_manifests(api::crds(), "test", "").await.unwrap();
    service(&api.client, "web", "10.96.0.10").await;
    let (http, shutdown) = control(&[api.kubeconfig()]);
    ready(http).await;
    shows(http, "/debug/registryz", "web.shop.svc").await;
    let settings = |text: &str| json!({"data": {"mesh": text}});
    let text = "discoverySelectors: [{matchLabels: {mesh: 'yes'}}]\nnonsense: 1\n";
    create::<ConfigMap>(&api.client, "istio-system", "istio", settings(text)).await;
    eventually("the service to be hidden", || async {
        (!page(http, "/debug/registryz").await.contains("web.shop.svc")).then_some(())
    })
    .await;
    create::<Namespace>(&api.client, "", "shop", json!({"metadata": {"labels": {"mesh": "yes"}}})).await;
    shows(http, "/debug/registryz", "web.shop.svc").await;
    shows(http, "/debug/mesh", "discoverySelectors").await;
    shutdown.trigger();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cluster_the_files_of_a_folder_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let entry = |host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: vm, namespace: shop}}\n\
             spec: {{hosts: [{host}], addresses: [10.1.0.1], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], \
             endpoints: [{{address: 192.0.2.7}}]}}\n"
        )
    };
    let write = |path: &Path, text: String| std::fs::write(path, text).unwrap();
    write(&folder.path().join("vm.yaml"), entry("one.example"));
    let (http, shutdown) = control(&[format!("--configDir={}", folder.path().display())]);
    ready(http).await;
    shows(http, "/debug/ambientz", "192.0.2.7").await;
    shows(http, "/debug/registryz", "one.example").await;
    write(&folder.path().join("vm.yaml"), entry("two.example"));
    shows(http, "/debug/registryz", "two.example").await;
    shutdown.trigger();
}
