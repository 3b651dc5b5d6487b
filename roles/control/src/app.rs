//! From arguments to a running control plane: what is started, in which order, and how it ends.

use crate::{
    Args, allocate,
    args::Compliance,
    authority::{self, Authority},
    discovery::Discovery,
    files, gateways,
    index::{self, Debounce, Outputs},
    l7,
    leader::{Standing, Work},
    mesh_config::{self, MeshConfig},
    resolve::{Kind, Resolver, Statement},
    roots,
    serve::{self, Authenticator, Certificates, Debug, Pages, Rules, Services, Serving, XdsGate},
    source::{Edit, Sources},
    status, untaint, webhook_ca,
};
use api::{
    AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, Namespace, Node, PeerAuthentication, Pod, Service,
    ServiceEntry, WorkloadEntry,
};
use cluster::{Client, Scope, Source};
use proto::type_url;
use runtime::{
    BoxError, Shutdown, Threads,
    backoff::Backoff,
    drain::{self, Drain},
    http,
    ready::Ready,
    task,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use telemetry::metrics::{Registry, control::Control};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use xds::server::{Catalog, Clients, Server, Settings as XdsSettings};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Changes that may wait for the resolver.
const EDITS: usize = 1024;

/// Runs the control plane until it is told to end.
pub fn main(args: Args) -> Result<(), BoxError> {
    let _log = telemetry::log::init_from_env()?;
    runtime::run("control", Threads::PerCore, |shutdown| run(args, shutdown))
}

/// What every part shares, with and without a cluster.
struct Core {
    args: Args,
    metrics: Control,
    catalog: Catalog,
    clients: Clients,
    edits: mpsc::Sender<Edit>,
    settings: watch::Receiver<Arc<MeshConfig>>,
    shutdown: Shutdown,
}

/// A control plane on a cluster.
struct Plane {
    core: Core,
    client: Client,
}

/// Runs the control plane in the present runtime until `shutdown`.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut registry = Registry::new("pilot", VERSION);
    let metrics = Control::register(&mut registry, VERSION);
    let client = match (&args.config_dir, &args.kubeconfig) {
        (Some(_), _) => None,
        (None, Some(path)) => {
            let source = Source::Kubeconfig { path: Some(path.clone()), context: None };
            Some(Client::connect(&source).await?)
        }
        (None, None) => Some(Client::connect(&Source::Infer).await?),
    };
    let client = client.map(|client| {
        client.trimming(<Pod as Kind>::trim).trimming(<Service as Kind>::trim).trimming(<EndpointSlice as Kind>::trim)
    });
    let origin = mesh_config::Origin {
        file: args.mesh_config.clone(),
        client: client.clone(),
        namespace: args.namespace.clone(),
        revision: args.revision.clone(),
        shared: args.shared_mesh_config.clone(),
    };
    let settings = tokio::select! {
        settings = mesh_config::follow(origin) => settings,
        () = shutdown.triggered() => return Ok(()),
    };
    let args = args.settled(&settings.borrow());
    let (edits, queue) = mpsc::channel(EDITS);
    let core = Core {
        args,
        metrics,
        catalog: Catalog::new(&[type_url::ADDRESS, type_url::AUTHORIZATION]),
        clients: Clients::default(),
        edits,
        settings,
        shutdown: shutdown.clone(),
    };
    let ready = Ready::new();
    let synced = ready.block("reading the cluster");
    let authenticator =
        Arc::new(Authenticator::new(client.clone(), core.args.token_audiences.clone(), core.args.trust_domain.clone()));
    let (drain, drained) = Drain::new();
    core.pages(ready, registry, &authenticator, &drained).await?;
    task::spawn("mesh settings", apply(core.settings.clone(), core.edits.clone()));
    let shutdown_time = core.args.shutdown;
    let (mut first, mut standing) = (core.catalog.snapshots(), None);
    let grpc = match client {
        Some(client) => {
            let plane = Plane { core, client };
            let elected = plane.standing();
            plane.follow(queue, &elected);
            let authority = tokio::select! {
                authority = plane.authority() => authority?,
                () = shutdown.triggered() => return Ok(()),
            };
            let servers = plane.serve(&authority, &elected, &authenticator).await?;
            standing = Some(elected);
            servers
        }
        None => core.serve_files(queue, &authenticator).await?,
    };
    tokio::select! {
        // The sender lives in the index, which ends with the process.
        _ = first.wait_for(Option::is_some) => tracing::info!("the cluster is read, serving proxies"),
        () = shutdown.triggered() => {}
    }
    drop(synced);

    shutdown.triggered().await;
    // gRPC servers saw the same signal and take leave of their proxies, which come back elsewhere.
    let resign = futures_util::future::OptionFuture::from(standing.map(Standing::resign));
    let leave = futures_util::future::join(futures_util::future::join_all(grpc), resign);
    let _ = tokio::time::timeout(shutdown_time, leave).await;
    drain.finish(Duration::from_secs(1)).await;
    Ok(())
}

/// Acts on what can be acted on while the control plane runs, and says what cannot be used.
async fn apply(mut settings: watch::Receiver<Arc<MeshConfig>>, edits: mpsc::Sender<Edit>) {
    let at_start =
        |settings: &MeshConfig| ["trustDomain", "rootNamespace"].map(|name| settings.said(name).map(str::to_owned));
    let started = at_start(&settings.borrow());
    loop {
        let now = Arc::clone(&settings.borrow_and_update());
        for warning in &now.warnings {
            tracing::warn!("the mesh's settings: {warning}");
        }
        if at_start(&now) != started {
            tracing::warn!("the mesh's settings: trustDomain and rootNamespace are acted on from the next start");
        }
        let selectors = now.discovery_selectors().to_vec();
        let sent = edits.send(Box::new(move |discovery: &mut Discovery| discovery.select(selectors))).await;
        if sent.is_err() || settings.changed().await.is_err() {
            return;
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(address).await.map_err(|error| format!("listening on {address}: {error}").into())
}

impl Core {
    async fn pages(
        &self,
        ready: Ready,
        registry: Registry,
        authenticator: &Arc<Authenticator>,
        drained: &drain::Watch,
    ) -> Result<(), BoxError> {
        let pages = Pages {
            ready,
            debug: self.debug(),
            authenticator: Arc::clone(authenticator),
            metrics: self.metrics.clone(),
            registry: Arc::new(registry),
            version: VERSION,
            revision: self.args.revision.clone(),
        };
        for address in [self.args.http, self.args.monitoring] {
            let (listener, pages) = (listen(address).await?, pages.clone());
            let answer = move |request| {
                let pages = pages.clone();
                async move { pages.respond(request).await }
            };
            task::spawn("pages", http::serve(listener, drained.clone(), answer));
        }
        Ok(())
    }

    fn debug(&self) -> Debug {
        Debug {
            clients: self.clients.clone(),
            snapshots: self.catalog.snapshots(),
            edits: self.edits.clone(),
            mesh: self.settings.clone(),
            system_namespace: self.args.namespace.clone(),
            cluster_id: self.args.cluster_id.clone(),
        }
    }

    /// Starts to publish what the objects mean. What is to be said about them comes out at the other end.
    fn resolve(
        &self,
        queue: mpsc::Receiver<Edit>,
        synced: impl Future<Output = ()> + Send + 'static,
    ) -> mpsc::UnboundedReceiver<Vec<Statement>> {
        let (statements, spoken) = mpsc::unbounded_channel();
        let debounce = Debounce { after: self.args.debounce_after, max: self.args.debounce_max };
        let outputs =
            Outputs { catalog: self.catalog.clone(), statements, metrics: self.metrics.xds.clone(), debounce };
        let discovery = Discovery::new(Resolver::new(self.args.mesh()), &self.args.revision);
        task::spawn("index", index::run(discovery, queue, synced, outputs));
        spoken
    }

    /// Serves what the files of a folder say, in plaintext: without a cluster nobody vouches for callers.
    async fn serve_files(
        &self,
        queue: mpsc::Receiver<Edit>,
        authenticator: &Arc<Authenticator>,
    ) -> Result<Vec<tokio::task::JoinHandle<()>>, BoxError> {
        let folder = self.args.config_dir.clone().unwrap_or_default();
        std::fs::read_dir(&folder).map_err(|error| format!("reading --configDir {}: {error}", folder.display()))?;
        tracing::info!("resources are read from {}, no cluster is asked", folder.display());
        // Statuses are a cluster's; who writes files reads the log.
        drop(self.resolve(queue, files::follow(folder, self.edits.clone())));
        let server = self.plaintext(authenticator).await?;
        let server = server.ok_or("--configDir serves xDS without TLS only: say where by --grpcAddr")?;
        Ok(vec![server])
    }

    /// Serves xDS without TLS, where it is wanted.
    async fn plaintext(
        &self,
        authenticator: &Arc<Authenticator>,
    ) -> Result<Option<tokio::task::JoinHandle<()>>, BoxError> {
        let Some(address) = self.args.grpc.0 else { return Ok(None) };
        let services = Services { xds: self.xds(authenticator), certificates: None };
        let (listener, wish) = (listen(address).await?, self.shutdown.clone());
        let plaintext = serve::plaintext(listener, services, async move { wish.triggered().await });
        Ok(Some(task::spawn("plaintext grpc", async move { report(plaintext.await) })))
    }

    fn xds(&self, authenticator: &Arc<Authenticator>) -> Server<XdsGate> {
        let gate = XdsGate {
            authenticator: Arc::clone(authenticator),
            check_identity: self.args.check_identity,
            debug: self.debug(),
            metrics: self.metrics.xds.clone(),
        };
        let identifier = serde_json::json!({
            "Component": "istiod", "ID": self.args.pod_name, "Info": {"version": VERSION, "revision": self.args.revision},
        });
        let age = self.args.max_connection_age;
        let mut settings = XdsSettings {
            identifier: identifier.to_string(),
            max_stream_age: (!age.is_zero()).then_some(age),
            ..XdsSettings::default()
        };
        if self.args.push_throttle > 0 {
            settings.admissions = self.args.push_throttle;
        }
        Server::new(self.catalog.snapshots(), gate, self.clients.clone(), settings)
    }
}

impl Plane {
    fn standing(&self) -> Standing {
        if self.core.args.leader_election {
            Standing::elect(&self.client, &self.core.args.namespace, &self.core.args.revision, &self.core.args.pod_name)
        } else {
            Standing::alone()
        }
    }

    /// Starts to read the cluster and to publish what it means.
    fn follow(&self, queue: mpsc::Receiver<Edit>, standing: &Standing) {
        let args = &self.core.args;
        let sources = Sources::new(self.client.clone(), self.core.edits.clone(), self.core.metrics.watching.clone())
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
        let spoken = self.core.resolve(queue, sources.synced());
        let may_write = args.write_status.then(|| standing.leader(Work::Status));
        task::spawn("status", status::write(self.client.clone(), spoken, may_write));
        let (told, routes) = mpsc::unbounded_channel();
        let catalog = self.core.catalog.clone();
        catalog.add(type_url::L7);
        let publish = move |changes| catalog.publish(type_url::L7, changes);
        task::spawn("l7", l7::follow(self.client.clone(), args.mesh(), publish, told));
        let may_write = args.write_status.then(|| standing.leader(Work::Status));
        task::spawn("route status", l7::write(self.client.clone(), routes, may_write));
        if args.allocate_addresses {
            task::spawn("allocate", allocate::run(self.client.clone(), args.mesh(), standing.leader(Work::Addresses)));
        }
        if args.untaint_nodes {
            let namespace = args.namespace.clone();
            task::spawn("untaint", untaint::run(self.client.clone(), namespace, standing.leader(Work::Untaint)));
        }
        if args.deploy_gateways {
            task::spawn(
                "gateways",
                gateways::run(self.client.clone(), args.gateways(), standing.leader(Work::Gateways)),
            );
        }
    }

    /// Loads or makes the authority, for as long as it takes: the cluster may be starting, too.
    async fn authority(&self) -> Result<Authority, BoxError> {
        let settings = authority::Settings {
            folder: self.core.args.ca_folder.clone(),
            namespace: self.core.args.namespace.clone(),
            trust_domain: self.core.args.trust_domain.clone(),
            max_life: self.core.args.max_certificate_life,
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
        let keep = authority.clone().keep(self.client.clone(), settings, self.core.metrics.authority.clone());
        task::spawn("authority", keep);
        Ok(authority)
    }

    /// Starts what needs certificates. The result ends with the gRPC servers.
    async fn serve(
        &self,
        authority: &Authority,
        standing: &Standing,
        authenticator: &Arc<Authenticator>,
    ) -> Result<Vec<tokio::task::JoinHandle<()>>, BoxError> {
        let tls = Serving::new(
            authority,
            self.core.args.serving_names(),
            self.core.args.compliance_policy == Compliance::PostQuantum,
        )?;
        task::spawn("serving certificate", tls.clone().keep(authority.clone()));
        task::spawn("roots", roots::keep(self.client.clone(), authority.clone(), standing.leader(Work::Roots)));
        if !self.core.args.webhook_configuration.is_empty() {
            let (name, leader) = (self.core.args.webhook_configuration.clone(), standing.leader(Work::Webhook));
            task::spawn("webhook roots", webhook_ca::keep(self.client.clone(), name, authority.clone(), leader));
        }
        let webhooks = listen(self.core.args.https).await?;
        task::spawn("webhooks", serve::webhook(webhooks, tls.clone(), self.core.metrics.watching.clone()));

        let rules = Rules {
            trust_domain: self.core.args.trust_domain.clone(),
            trusted_accounts: self.core.args.trusted_node_accounts.clone(),
            default_life: self.core.args.default_certificate_life,
        };
        let certificates = Certificates::new(
            authority.clone(),
            Arc::clone(authenticator),
            self.client.watch::<Pod>(Scope::all()),
            rules,
            self.core.metrics.authority.clone(),
        );
        let services = Services { xds: self.core.xds(authenticator), certificates: Some(certificates) };
        let listener = listen(self.core.args.secure_grpc).await?;
        let wish = self.core.shutdown.clone();
        let secure = serve::secure(listener, tls, services, async move { wish.triggered().await });
        let mut servers = vec![task::spawn("grpc", async move { report(secure.await) })];
        servers.extend(self.core.plaintext(authenticator).await?);
        Ok(servers)
    }
}

fn report(served: Result<(), tonic::transport::Error>) {
    if let Err(error) = served {
        tracing::error!("gRPC ended: {error}");
    }
}
