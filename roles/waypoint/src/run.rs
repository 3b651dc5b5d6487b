//! The life of the waypoint: what starts in which order, and how it leaves.
//!
//! This thread follows the control plane and serves the small pages; traffic runs on workers, each with a listener and connections of
//! its own.

use crate::{
    admin,
    config::Config,
    dialer::Dialer,
    inbound::{self, Shard},
    proxy::Proxy,
    state::{self, Follower},
};
use identity::{
    CaClient, Certificates,
    grpc::{self, Channel, ChannelOptions, RootSource, TokenSource},
};
use l7::http::{Pool, Shared};
use runtime::{BoxError, Shutdown, clock::Clock, drain::Drain, ready::Ready, task, workers::Workers};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};
use telemetry::metrics::{Registry, requests::Requests, traffic::Traffic};
use tokio::net::{TcpListener, TcpSocket};

/// Life to ask for.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Further tries of all requests together.
const RETRIES: usize = 1024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How often unused connections are let go of.
const SWEEP: Duration = Duration::from_secs(30);

/// Runs the waypoint until it is told to end.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), BoxError> {
    let ready = Ready::new();
    let starting = ready.block("proxy");
    let workers = Workers::start("waypoint", config.threads)?;
    let mut registry = Registry::new("proxy", env!("CARGO_PKG_VERSION"));
    let shared = Arc::new(Shared {
        config: Default::default(),
        mesh: Default::default(),
        sets: Default::default(),
        namespace: config.identity.namespace.clone(),
        gateway: config.gateway.clone(),
        requests: Requests::register(&mut registry),
        retries: tokio::sync::Semaphore::new(RETRIES),
    });
    let traffic = Arc::new(Traffic::reported_by("waypoint"));
    registry.add_traffic(&traffic);
    let channel = |address: &str| channel(&config, address);
    let source = CaClient::new(channel(&config.authority)?, CERTIFICATE_LIFE, false, Clock::system());
    let (certificates, renewing) = Certificates::new(Arc::new(source), Clock::system());
    task::spawn("certificates", renewing);
    let control = channel(&config.xds)?;
    let proxy = Arc::new(Proxy { config, shared, certificates, traffic });

    let (drain, watch) = Drain::new();
    admin::serve(&proxy, registry, &ready, &watch).await?;
    follow(&proxy, control, &ready);
    // A waypoint without a certificate can serve nobody.
    let certificate = ready.block("certificate");
    let first = proxy.clone();
    task::spawn("first certificate", async move {
        while let Err(why) = first.certificate().await {
            tracing::warn!("waiting for a certificate: {why}");
        }
        drop(certificate);
    });
    for index in 0..workers.count() {
        let _on_worker = workers.handle(index).enter();
        let listener = listen(proxy.config.hbone_port)?;
        let pool = Arc::new(Pool::new(Dialer::new(proxy.clone())));
        task::spawn("unused connections", sweep(Arc::downgrade(&pool)));
        let dialer = Dialer::new(proxy.clone());
        let shard = Arc::new(Shard { proxy: proxy.clone(), pool, dialer, drain: watch.clone() });
        task::spawn("tunnels", inbound::accept(shard, listener));
    }
    tracing::info!(gateway = %proxy.config.gateway, port = proxy.config.hbone_port, "serving tunnels");
    drop(starting);
    shutdown.triggered().await;
    tracing::info!("draining");
    drain.finish(proxy.config.drain).await;
    Ok(())
}

/// Listens on every address, next to the other threads.
fn listen(port: u16) -> io::Result<TcpListener> {
    let bound = |socket: io::Result<TcpSocket>, address: std::net::IpAddr| {
        let socket = socket?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind((address, port).into())?;
        socket.listen(BACKLOG)
    };
    bound(TcpSocket::new_v6(), Ipv6Addr::UNSPECIFIED.into())
        .or_else(|_| bound(TcpSocket::new_v4(), Ipv4Addr::UNSPECIFIED.into()))
        .map_err(|error| io::Error::new(error.kind(), format!("listening on port {port}: {error}")))
}

fn channel(config: &Config, address: &str) -> Result<Channel, BoxError> {
    let options = ChannelOptions {
        address: address.to_owned(),
        root: RootSource::interpret(&config.root.to_string_lossy()),
        alternative_hostname: None,
        token: TokenSource::interpret(Some(&config.token.to_string_lossy()), &config.token),
        headers: grpc::headers([("clusterid", config.cluster.as_str())])?,
    };
    Ok(Channel::new(options)?)
}

/// Follows the control plane; the first full answer makes the waypoint ready.
fn follow(proxy: &Arc<Proxy>, channel: Channel, ready: &Ready) {
    let settings = xds::client::Config { l7: true, ..xds::client::Config::new(state::node(&proxy.config)) };
    let (client, handle) = xds::client::Client::new(settings, Follower(proxy.shared.clone()));
    task::spawn(
        "xds",
        client.run(move || {
            let channel = channel.clone();
            async move {
                channel.reconnect();
                Ok::<_, std::convert::Infallible>(channel)
            }
        }),
    );
    let block = ready.block("control plane");
    let mut synchronised = handle.synced;
    task::spawn("first resources", async move {
        if synchronised.wait_for(|synchronised| *synchronised).await.is_ok() {
            drop(block);
        }
    });
}

async fn sweep(pool: std::sync::Weak<Pool<Dialer>>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep();
    }
}
