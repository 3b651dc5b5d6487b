//! An embedded API with the mesh's kinds, and control planes on it.

#![allow(dead_code, reason = "each test program uses its part")]

use api::{ConfigMap, Namespace, ObjectMeta, Pod, Resource, ServiceAccount};
use clap::Parser;
use cluster::{Client, Source};
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::grpc::{Channel, ChannelOptions, RootSource, TokenSource};
use runtime::Shutdown;
use serde_json::{Value, json};
use std::{
    future::Future,
    net::TcpListener,
    path::PathBuf,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: control::Args,
}

/// The API, with namespaces istio-system and shop.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) kubeconfig: PathBuf,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

/// A control plane in this process.
pub(crate) struct Replica {
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    pub(crate) shutdown: Shutdown,
    pub(crate) ended: tokio::task::JoinHandle<()>,
}

/// An API and one control plane on it.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    _replica: Replica,
    _api: Api,
}

pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the ports that the kernel gives to connections: those of a replica may be taken between now and its start.
    let own = 10_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
    let mut candidates = std::iter::repeat_with(|| own + NEXT.fetch_add(1, Ordering::Relaxed) % 100).take(100);
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Api {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = apiserver::Config { admin_token: Some("admin".to_owned()), ..apiserver::Config::default() };
        let shutdown = Shutdown::new();
        let (server, wish) = (apiserver::Server::new(config).unwrap(), shutdown.clone());
        tokio::spawn(async move { server.serve(vec![listener], wish.triggered()).await });
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {"token": "admin"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, &text).unwrap();
        let client = Client::connect(&Source::Text(text)).await.unwrap();
        client.apply_manifests(api::crds(), "test", "").await.unwrap();
        for namespace in ["istio-system", "shop"] {
            create::<Namespace>(&client, "", namespace, json!({})).await;
        }
        Self { client, kubeconfig, shutdown, _folder: folder }
    }

    /// The flags of a control plane on this API; its gRPC and its HTTP port.
    pub(crate) fn flags(&self, more: &[&str]) -> (Vec<String>, u16, u16) {
        let (grpc, http) = (free_port(), free_port());
        let mut flags = vec![
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--secureGRPCAddr=127.0.0.1:{grpc}"),
            format!("--httpAddr=127.0.0.1:{http}"),
            format!("--monitoringAddr=127.0.0.1:{}", free_port()),
            format!("--httpsAddr=127.0.0.1:{}", free_port()),
            "--grpcAddr=".to_owned(),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        (flags, grpc, http)
    }

    /// Starts a control plane.
    pub(crate) fn control(&self, more: &[&str]) -> Replica {
        let (flags, grpc, http) = self.flags(more);
        let args = Command::parse_from(std::iter::once("control".to_owned()).chain(flags)).args;
        let shutdown = Shutdown::new();
        let run = control::run(args, shutdown.clone());
        let ended = tokio::spawn(async move { run.await.unwrap() });
        Replica { grpc, http, shutdown, ended }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// An API and the only control plane on it.
pub(crate) async fn world() -> World {
    let api = Api::start().await;
    let replica = api.control(&["--leader-election=false"]);
    World { client: api.client.clone(), grpc: replica.grpc, http: replica.http, _replica: replica, _api: api }
}

/// Applies an object of which only its own part is said.
pub(crate) async fn create<T: Resource>(client: &Client, namespace: &str, name: &str, rest: Value) -> T {
    let mut object = rest;
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["name"] = name.into();
    let object = T::from_value(object).unwrap();
    client.apply(&object, "test").await.unwrap()
}

/// A running pod of an account of the same name.
pub(crate) async fn pod(client: &Client, namespace: &str, name: &str, node: &str, address: &str) -> Pod {
    let metadata = ObjectMeta::named(namespace, name);
    client.apply(&ServiceAccount { metadata, ..ServiceAccount::default() }, "test").await.unwrap();
    let spec = json!({"serviceAccountName": name, "nodeName": node, "containers": [{"name": "c", "image": "i"}]});
    let labels = json!({"labels": {"app": name}});
    create::<Pod>(client, namespace, name, json!({"metadata": labels, "spec": spec})).await;
    let status = json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    });
    client.apply_status::<Pod>(namespace, name, status, "kubelet").await.unwrap()
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A page of a control plane's port; empty if nobody answers.
pub(crate) async fn page(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A channel to the gRPC port of a control plane, as an account of its namespace.
pub(crate) async fn channel(client: &Client, grpc: u16, account: &str, bound: Option<&Pod>) -> Channel {
    let audiences = ["istio-ca".to_owned()];
    let token = client.token_request("istio-system", account, &audiences, None, bound).await.unwrap().token;
    channel_with(client, grpc, TokenSource::Literal(token)).await
}

/// A channel to the gRPC port of a control plane, with this token.
pub(crate) async fn channel_with(client: &Client, grpc: u16, token: TokenSource) -> Channel {
    let roots = eventually("the roots", || async {
        let map = client.find::<ConfigMap>("istio-system", "istio-ca-root-cert").await.unwrap()?;
        map.data.get("root-cert.pem").cloned()
    })
    .await;
    let clusterid = (HeaderName::from_static("clusterid"), HeaderValue::from_static("Kubernetes"));
    Channel::new(ChannelOptions {
        address: format!("https://127.0.0.1:{grpc}"),
        root: RootSource::Inline(roots),
        alternative_hostname: Some("istiod.istio-system.svc".to_owned()),
        token,
        headers: HeaderMap::from_iter([clusterid]),
    })
    .unwrap()
}

impl World {
    pub(crate) async fn channel(&self, account: &str, bound: Option<&Pod>) -> Channel {
        channel(&self.client, self.grpc, account, bound).await
    }
}
