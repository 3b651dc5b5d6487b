//! The life of the proxy: what starts in which order, what ends it, how it leaves (ztunnel.md §14).
//!
//! This thread is the control side: configuration, certificates, the node agent, the small HTTP servers. Traffic runs on
//! the workers, which need nothing from here once a pod is served: losing the control plane, the certificate authority or the
//! node agent touches no connection.

use crate::{
    admin::{self, Admin},
    certificates::{self, Prefetch},
    config::{Config, LocalXds, Mode},
    dns, legacy,
    neighbours::Neighbours,
    node,
    observe::{PodCounter, XdsObserver},
    own::{self, Own},
    pod::Starter,
    proxy::Proxy,
    state::{self, State, XdsSink},
};
use identity::{CertificateSource, Certificates, revocation::Revocations};
use inpod::{
    Roster, Stop,
    agent::{self, SharedRoster},
    keeper,
    words::Settings,
};
use linux::{
    netns::NetNs,
    socket::{self, ListenOptions},
};
use model::well_known;
use runtime::{
    BoxError, Shutdown,
    clock::Clock,
    drain::{self, Drain},
    http,
    ready::{self, Ready},
    task,
    workers::Workers,
};
use std::{net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};
use telemetry::{
    log::Levels,
    metrics::{self, Registry},
};
use tokio::{net::TcpListener, time};
use xds::client::Held;

/// What readiness says is missing before the first full synchronisation.
const STATE_NAME: &str = "state manager";
/// How often the families about pods are brought up to date.
const COUNT_PODS: Duration = Duration::from_millis(500);
/// How long the small HTTP servers may take to finish open requests.
const HTTP_DRAIN: Duration = Duration::from_secs(1);

/// What a proxy is made of besides its settings.
#[derive(Debug)]
pub struct Parts {
    /// Changes log levels; `None` where the log is not ours.
    pub levels: Option<Levels>,
    /// The time of day.
    pub clock: Clock,
    /// The file that says whom to ask for names: `/etc/resolv.conf`.
    pub resolver: PathBuf,
}

/// Runs the proxy until told to end. Certificates come from `source`, or from where the settings say.
pub async fn run(
    config: Config,
    source: Option<Arc<dyn CertificateSource>>,
    parts: Parts,
    shutdown: Shutdown,
) -> Result<(), BoxError> {
    let mut kept = match &config.keeper {
        None => {
            probe(&config)?;
            None
        }
        Some(path) => {
            let settings = Settings { sockets: config.sockets.clone(), capture: config.capture() };
            Some(keeper::Client::new(path.clone(), settings))
        }
    };
    let ready = Ready::new();
    let starting = [ready.block("proxy"), ready.block("dns proxy")];
    let workers = Arc::new(Workers::start("ztunnel", config.worker_threads)?);
    let (servers, watch) = Drain::new();
    serve_readiness(&config, &ready, &workers, &watch).await?;

    let own = Own::bind(&config)?;
    let version = config.metadata.get("ISTIO_VERSION").cloned().unwrap_or_else(|| "unknown".to_owned());
    let mut registry = Registry::new("ztunnel", &version);
    let families = metrics::proxy::Proxy::register(&mut registry);
    let measured = workers.clone();
    metrics::threads::register(&mut registry, move || measured.measure());
    let revocations = Revocations::default();
    if let Some(path) = config.certificates.revocation_list.clone() {
        let list = revocations.clone();
        task::spawn("revocation list", async move { list.follow(&path).await });
    }
    let source = match source {
        Some(source) => source,
        None => certificates::source(&config, &revocations, &parts.clock)?,
    };
    let (certificates, renewing) = Certificates::new(source, parts.clock.clone());
    task::spawn("certificates", renewing);
    let proxy = Arc::new(Proxy {
        state: Arc::new(State::new(config.node.clone(), config.network.clone())),
        certificates,
        revocations,
        metrics: families,
        resolver: dns::Resolver::read(&parts.resolver),
        pods: parking_lot::Mutex::default(),
        neighbours: Neighbours::default(),
        config,
    });
    let roster: SharedRoster<Starter> = Arc::new(parking_lot::Mutex::new(Roster::new(Starter::new(
        proxy.clone(),
        workers.clone(),
        kept.as_ref().map(|(_, handle)| handle.clone()),
    ))));
    serve_people(&proxy, &roster, registry, parts.levels, &shutdown, &watch).await?;

    let mut held = None;
    if let Some((client, handle)) = &mut kept {
        tokio::select! {
            () = shutdown.triggered() => return Ok(()),
            left = client.meet() => held = legacy::restore(&proxy, &left),
        }
        legacy::keep_certificates(&proxy, handle.clone());
    }
    read_local(&proxy)?;
    let synchronised = follow_control_plane(&proxy, &ready, held, kept.as_ref().map(|(_, handle)| handle))?;
    task::spawn("pod counts", count_pods(roster.clone(), PodCounter::new(proxy.metrics.workloads.clone())));
    drop(starting);

    let outcome = tokio::select! {
        () = shutdown.triggered() => Ok(()),
        outcome = serve_pods(&proxy, roster.clone(), own, &ready, synchronised, watch, (kept, shutdown.clone())) => outcome,
    };
    leave(&roster, servers).await;
    outcome
}

/// Without these rights no pod could be served: better said now than by each pod's failure.
fn probe(config: &Config) -> Result<(), BoxError> {
    if !config.proxy || config.mode != Mode::Shared {
        return Ok(());
    }
    let why = |error: linux::Error| format!("{error}: the proxy needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW");
    let scratch = NetNs::new_anonymous().map_err(why)?;
    let options = ListenOptions { mark: config.sockets.mark, ..ListenOptions::default() };
    socket::bind_udp(&scratch, (Ipv4Addr::UNSPECIFIED, 0).into(), &options).map_err(why)?;
    Ok(())
}

/// Readiness is answered by a data-plane thread, so that an answer proves that thread alive.
async fn serve_readiness(
    config: &Config,
    ready: &Ready,
    workers: &Workers,
    watch: &drain::Watch,
) -> Result<(), BoxError> {
    let listener = http::bind_wildcard(config.readiness_port).await?.into_std()?;
    let (ready, watch) = (ready.clone(), watch.clone());
    let _on_worker = workers.handle(0).enter();
    let listener = TcpListener::from_std(listener)?;
    task::spawn("readiness", async move {
        http::serve(listener, watch, move |request| std::future::ready(ready::routes(&ready, &request))).await;
    });
    Ok(())
}

/// Admin and metrics.
async fn serve_people(
    proxy: &Arc<Proxy>,
    roster: &SharedRoster<Starter>,
    registry: Registry,
    levels: Option<Levels>,
    shutdown: &Shutdown,
    watch: &drain::Watch,
) -> Result<(), BoxError> {
    let admin =
        Arc::new(Admin { proxy: proxy.clone(), roster: roster.clone(), levels, shutdown: shutdown.clone(), registry });
    for listener in http::bind_localhost(proxy.config.admin_port).await? {
        let admin = admin.clone();
        let handler = move |request: http::Request| std::future::ready(admin::admin(&admin, &request));
        task::spawn("admin", http::serve(listener, watch.clone(), handler));
    }
    let listener = http::bind_wildcard(proxy.config.stats_port).await?;
    let handler = move |request: http::Request| std::future::ready(admin::stats(&admin, &request));
    task::spawn("stats", http::serve(listener, watch.clone(), handler));
    Ok(())
}

fn read_local(proxy: &Proxy) -> Result<(), BoxError> {
    let changes = match &proxy.config.local_xds {
        None => return Ok(()),
        Some(LocalXds::Inline(text)) => state::read_local(text)?,
        Some(LocalXds::Path(path)) => state::read_local_file(path)?,
    };
    proxy.state.apply(changes);
    let prefetch = Prefetch::new(proxy.certificates.clone(), &proxy.config);
    prefetch.follow(&model::Mesh::new(), &proxy.state.mesh());
    Ok(())
}

/// Starts the stream to the control plane. What is returned becomes true with the first full synchronisation, at once where
/// there is no control plane.
fn follow_control_plane(
    proxy: &Arc<Proxy>,
    ready: &Ready,
    held: Option<Held>,
    keeper: Option<&keeper::Handle>,
) -> Result<tokio::sync::watch::Receiver<bool>, BoxError> {
    let control = &proxy.config.control;
    let Some(address) = &control.address else {
        return Ok(tokio::sync::watch::channel(true).1);
    };
    let channel = certificates::channel(control, address, &proxy.config.cluster_id)?;
    let prefetch = Prefetch::new(proxy.certificates.clone(), &proxy.config);
    let observer = XdsObserver(proxy.metrics.xds.clone());
    let sink = XdsSink::new(proxy.state.clone(), prefetch, observer);
    let on_demand = proxy.config.on_demand;
    let restored = held.is_some();
    let held = held.unwrap_or_default();
    let config = xds::client::Config { on_demand, held, ..xds::client::Config::new(node::node(&proxy.config)) };
    let (client, handle) = xds::client::Client::new(config, sink);
    if on_demand {
        proxy.state.ask_on_demand(handle.demand.clone(), proxy.config.cluster_id.clone());
    }
    task::spawn(
        "xds",
        client.run(move || {
            let channel = channel.clone();
            async move {
                // Roots may have been replaced since the last stream: each stream has a connection of its own.
                channel.reconnect();
                Ok::<_, std::convert::Infallible>(channel)
            }
        }),
    );
    if let Some(keeper) = keeper {
        legacy::keep_mesh(proxy, handle.held.clone(), handle.synced.clone(), keeper.clone());
    }
    if restored {
        // What an earlier worker left is enough to serve; what changed since comes as soon as the control plane is reached.
        return Ok(tokio::sync::watch::channel(true).1);
    }
    let block = ready.block(STATE_NAME);
    let mut synchronised = handle.synced.clone();
    task::spawn("state manager", async move {
        // An error means that the client is gone, and with it the wish to be ready.
        if synchronised.wait_for(|synchronised| *synchronised).await.is_ok() {
            drop(block);
        }
    });
    Ok(handle.synced)
}

/// Serves pods once the mesh is known; ends only when there is nothing to serve, or the node agent breaks the protocol.
async fn serve_pods(
    proxy: &Proxy,
    roster: SharedRoster<Starter>,
    own: Option<Own>,
    ready: &Ready,
    mut synchronised: tokio::sync::watch::Receiver<bool>,
    watch: drain::Watch,
    (kept, shutdown): (Option<(keeper::Client, keeper::Handle)>, Shutdown),
) -> Result<(), BoxError> {
    let block = ready.block(if proxy.config.mode == Mode::Shared { agent::READINESS } else { "proxy" });
    // The sender may be gone when there is no control plane; the value stays.
    if synchronised.wait_for(|synchronised| *synchronised).await.is_err() && !*synchronised.borrow() {
        return Err("the stream to the control plane ended for good".into());
    }
    if let Some(own) = own {
        own.serve(roster.lock().proxies())?;
    }
    if let Mode::Dedicated(workload) = &proxy.config.mode {
        own::serve_dedicated(&roster, workload)?;
        drop(block);
        return std::future::pending().await;
    }
    if let Some((client, _)) = kept {
        // It goes on while this process drains: what is open may still want sockets.
        let ready = ready.clone();
        task::spawn("keeper", async move { client.run(roster, &ready, block, shutdown).await });
        return std::future::pending().await;
    }
    tracing::info!(agent = %proxy.config.inpod_uds.display(), port = well_known::HBONE_PORT, "the mesh is known, serving pods");
    agent::run(&proxy.config.inpod_uds, roster, ready, block, watch).await?;
    Ok(())
}

async fn count_pods(roster: SharedRoster<Starter>, mut counter: PodCounter) {
    let mut tick = time::interval(COUNT_PODS);
    loop {
        tick.tick().await;
        let census = roster.lock().census();
        counter.show(census);
    }
}

/// Stops accepting everywhere, lets what is open end, cuts what is left at the deadline.
async fn leave(roster: &SharedRoster<Starter>, servers: Drain) {
    tracing::info!("draining");
    let mut ending = {
        let mut roster = roster.lock();
        roster.stop_all(Stop::Drain);
        roster.proxies().stop_own();
        roster.proxies().take_ending()
    };
    while ending.join_next().await.is_some() {}
    servers.finish(HTTP_DRAIN).await;
    tracing::info!("shutdown complete");
}
