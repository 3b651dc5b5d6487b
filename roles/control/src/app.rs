//! From arguments to a running control plane: what is started, in which order, and how it ends.

use crate::{
    Args, allocate,
    args::Compliance,
    authority::{self, Authority},
    gateways,
    index::{self, Outputs},
    l7,
    leader::{Standing, Work},
    resolve::{Kind, Resolver},
    roots,
    serve::{self, Authenticator, Certificates, Pages, Rules, Services, Serving, XdsGate},
    source::Sources,
    status, untaint, webhook_ca,
};
use api::{
    AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, Namespace, Node, PeerAuthentication, Pod, Service,
    ServiceEntry, WorkloadEntry,
};
use cluster::{Client, Scope, Source};
use runtime::{BoxError, Shutdown, Threads, backoff::Backoff, drain::Drain, http, ready::Ready, task};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use telemetry::metrics::{Registry, control::Control};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use xds::server::{Clients, Server, Settings as XdsSettings, Snapshot};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Changes that may wait for the resolver.
const EDITS: usize = 1024;

/// Runs the control plane until it is told to end.
pub fn main(args: Args) -> Result<(), BoxError> {
    let _log = telemetry::log::init_from_env()?;
    runtime::run("control", Threads::PerCore, |shutdown| run(args, shutdown))
}

/// What several parts share.
struct Plane {
    args: Args,
    client: Client,
    metrics: Control,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    clients: Clients,
    shutdown: Shutdown,
}

/// Runs the control plane in the present runtime until `shutdown`.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut registry = Registry::new("pilot", VERSION);
    let metrics = Control::register(&mut registry, VERSION);
    let source = match &args.kubeconfig {
        Some(path) => Source::Kubeconfig { path: Some(path.clone()), context: None },
        None => Source::Infer,
    };
    let client = Client::connect(&source).await?.trimming(<Pod as Kind>::trim);
    let client = client.trimming(<Service as Kind>::trim).trimming(<EndpointSlice as Kind>::trim);
    let ready = Ready::new();
    let (publish, snapshots) = watch::channel(None);
    let clients = Clients::default();
    let (drain, drained) = Drain::new();

    let pages = Pages {
        ready: ready.clone(),
        clients: clients.clone(),
        snapshots: snapshots.clone(),
        metrics: metrics.clone(),
        registry: Arc::new(registry),
        version: VERSION,
        revision: args.revision.clone(),
    };
    for address in [args.http, args.monitoring] {
        let (listener, pages) = (listen(address).await?, pages.clone());
        task::spawn(
            "pages",
            http::serve(listener, drained.clone(), move |request| std::future::ready(pages.respond(&request))),
        );
    }

    let synced = ready.block("reading the cluster");
    let plane = Plane { args, client, metrics, snapshots, clients, shutdown: shutdown.clone() };
    let standing = plane.standing();
    plane.follow(publish, &standing);
    let authority = tokio::select! {
        authority = plane.authority() => authority?,
        () = shutdown.triggered() => return Ok(()),
    };
    let grpc = plane.serve(&authority, &standing).await?;

    let mut first = plane.snapshots.clone();
    tokio::select! {
        // The sender lives in the index, which ends with the process.
        _ = first.wait_for(Option::is_some) => tracing::info!("the cluster is read, serving proxies"),
        () = shutdown.triggered() => {}
    }
    drop(synced);

    shutdown.triggered().await;
    // gRPC servers saw the same signal and take leave of their proxies, which come back elsewhere.
    let leave = futures_util::future::join(futures_util::future::join_all(grpc), standing.resign());
    let _ = tokio::time::timeout(plane.args.shutdown, leave).await;
    drain.finish(Duration::from_secs(1)).await;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(address).await.map_err(|error| format!("listening on {address}: {error}").into())
}

impl Plane {
    fn standing(&self) -> Standing {
        if self.args.leader_election {
            Standing::elect(&self.client, &self.args.namespace, &self.args.revision, &self.args.pod_name)
        } else {
            Standing::alone()
        }
    }

    /// Starts to read the cluster and to publish what it means.
    fn follow(&self, publish: watch::Sender<Option<Arc<Snapshot>>>, standing: &Standing) {
        let (edits, queue) = mpsc::channel(EDITS);
        let sources = Sources::new(self.client.clone(), edits, self.metrics.watching.clone())
            .follow::<Namespace>()
            .follow::<Node>()
            .follow::<Pod>()
            .follow::<Service>()
            .follow::<EndpointSlice>()
            .follow_if_known::<AuthorizationPolicy>()
            .follow_if_known::<PeerAuthentication>()
            .follow_if_known::<ServiceEntry>()
            .follow_if_known::<WorkloadEntry>()
            .follow_if_known::<Gateway>()
            .follow_if_known::<GatewayClass>();
        let (statements, spoken) = mpsc::unbounded_channel();
        let (resolved, of_mesh) = watch::channel(None);
        let outputs = Outputs { snapshots: resolved, statements, metrics: self.metrics.xds.clone() };
        let resolver = Resolver::new(self.args.mesh());
        task::spawn("index", index::run(resolver, queue, sources.synced(), outputs));
        let may_write = self.args.write_status.then(|| standing.leader(Work::Status));
        task::spawn("status", status::write(self.client.clone(), spoken, may_write));
        let (told, routes) = mpsc::unbounded_channel();
        task::spawn("l7", l7::join(self.client.clone(), self.args.mesh(), of_mesh, publish, told));
        let may_write = self.args.write_status.then(|| standing.leader(Work::Status));
        task::spawn("route status", l7::write(self.client.clone(), routes, may_write));
        if self.args.allocate_addresses {
            task::spawn(
                "allocate",
                allocate::run(self.client.clone(), self.args.mesh(), standing.leader(Work::Addresses)),
            );
        }
        if self.args.untaint_nodes {
            let namespace = self.args.namespace.clone();
            task::spawn("untaint", untaint::run(self.client.clone(), namespace, standing.leader(Work::Untaint)));
        }
        if self.args.deploy_gateways {
            task::spawn(
                "gateways",
                gateways::run(self.client.clone(), self.args.gateways(), standing.leader(Work::Gateways)),
            );
        }
    }

    /// Loads or makes the authority, for as long as it takes: the cluster may be starting, too.
    async fn authority(&self) -> Result<Authority, BoxError> {
        let settings = authority::Settings {
            folder: self.args.ca_folder.clone(),
            namespace: self.args.namespace.clone(),
            trust_domain: self.args.trust_domain.clone(),
            max_life: self.args.max_certificate_life,
        };
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).with_jitter(0.2);
        let authority = loop {
            match Authority::load(&self.client, &settings).await {
                Ok(authority) => break authority,
                Err(error @ (authority::AuthorityError::Unusable { .. } | authority::AuthorityError::Files { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    let delay = backoff.next_delay();
                    tracing::warn!("{error}; trying again in {delay:?}");
                    tokio::time::sleep(delay).await;
                }
            }
        };
        let keep = authority.clone().keep(self.client.clone(), settings, self.metrics.authority.clone());
        task::spawn("authority", keep);
        Ok(authority)
    }

    /// Starts what needs certificates. The result ends with the gRPC servers.
    async fn serve(
        &self,
        authority: &Authority,
        standing: &Standing,
    ) -> Result<Vec<tokio::task::JoinHandle<()>>, BoxError> {
        let tls =
            Serving::new(authority, self.args.serving_names(), self.args.compliance_policy == Compliance::PostQuantum)?;
        task::spawn("serving certificate", tls.clone().keep(authority.clone()));
        task::spawn("roots", roots::keep(self.client.clone(), authority.clone(), standing.leader(Work::Roots)));
        if !self.args.webhook_configuration.is_empty() {
            let (name, leader) = (self.args.webhook_configuration.clone(), standing.leader(Work::Webhook));
            task::spawn("webhook roots", webhook_ca::keep(self.client.clone(), name, authority.clone(), leader));
        }
        let webhooks = listen(self.args.https).await?;
        task::spawn("webhooks", serve::webhook(webhooks, tls.clone(), self.metrics.watching.clone()));

        let authenticator = Arc::new(Authenticator::new(
            self.client.clone(),
            self.args.token_audiences.clone(),
            self.args.trust_domain.clone(),
        ));
        let rules = Rules {
            trust_domain: self.args.trust_domain.clone(),
            trusted_accounts: self.args.trusted_node_accounts.clone(),
            default_life: self.args.default_certificate_life,
        };
        let certificates = Certificates::new(
            authority.clone(),
            Arc::clone(&authenticator),
            self.client.watch::<Pod>(Scope::all()),
            rules,
            self.metrics.authority.clone(),
        );
        let services = Services { xds: self.xds(&authenticator), certificates: Some(certificates) };
        let listener = listen(self.args.secure_grpc).await?;
        let wish = self.shutdown.clone();
        let secure = serve::secure(listener, tls, services, async move { wish.triggered().await });
        let mut servers = vec![task::spawn("grpc", async move { report(secure.await) })];
        if let Some(address) = self.args.grpc.0 {
            let services = Services { xds: self.xds(&authenticator), certificates: None };
            let (listener, wish) = (listen(address).await?, self.shutdown.clone());
            let plaintext = serve::plaintext(listener, services, async move { wish.triggered().await });
            servers.push(task::spawn("plaintext grpc", async move { report(plaintext.await) }));
        }
        Ok(servers)
    }

    fn xds(&self, authenticator: &Arc<Authenticator>) -> Server<XdsGate> {
        let gate = XdsGate {
            authenticator: Arc::clone(authenticator),
            check_identity: self.args.check_identity,
            system_namespace: self.args.namespace.clone(),
            metrics: self.metrics.xds.clone(),
        };
        let identifier = serde_json::json!({
            "Component": "istiod", "ID": self.args.pod_name, "Info": {"version": VERSION, "revision": self.args.revision},
        });
        let age = self.args.max_connection_age;
        let settings =
            XdsSettings { identifier: identifier.to_string(), max_stream_age: (!age.is_zero()).then_some(age) };
        Server::new(self.snapshots.clone(), gate, self.clients.clone(), settings)
    }
}

fn report(served: Result<(), tonic::transport::Error>) {
    if let Err(error) = served {
        tracing::error!("gRPC ended: {error}");
    }
}
