//! One pod's proxy: its sockets in the pod's network namespace, and one shard of it on every data-plane thread.
//!
//! Each thread has listening sockets of its own on the pod's ports (SO_REUSEPORT: the kernel spreads connections), so that a
//! connection, its tunnel and its pool stay on the thread that accepted it. Opening sockets is all that needs privilege here:
//! it is kept in [`sockets`], apart from what serves them.

pub(crate) mod sockets;

use crate::{
    connections::Connections,
    dialer::Dialer,
    dns, inbound,
    inpod::{Proxies, Stop},
    listener, outbound, policy,
    proxy::Proxy,
    state::WorkloadInfo,
};
use hbone::{Pool, PoolOptions, Windows};
use linux::netns::NetNs;
use model::{Reason, Str};
use runtime::{drain, task, workers::Workers};
use std::sync::{Arc, OnceLock};
use telemetry::access::Direction;
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    sync::Semaphore,
    task::JoinSet,
};

/// Connections of one pod on one thread; the next one is refused and counted.
const MAX_CONNECTIONS: usize = 32 * 1024;
/// TLS handshakes of one pod on one thread at a time.
const MAX_HANDSHAKES: usize = 256;

/// A pod that is served.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Who it is.
    pub info: WorkloadInfo,
    /// Where its sockets live.
    pub namespace: NetNs,
    /// Everything that is shared by all pods.
    pub proxy: Arc<Proxy>,
    /// When to stop accepting, and when to cut.
    pub drain: drain::Watch,
    /// Whether applications can be shown the client's address.
    pub original_source: bool,
    ending: Arc<OnceLock<Reason>>,
}

impl Pod {
    /// Waits until every connection of the pod has to end, and says why.
    pub(crate) async fn ended(&self) -> Reason {
        self.drain.forced().await;
        self.ending.get().cloned().unwrap_or(Reason::Drained)
    }
}

/// A pod on one thread.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its connections on this thread.
    pub connections: Arc<Connections>,
    /// Its tunnels on this thread.
    pub pool: Pool<Dialer>,
    /// Room for connections.
    pub room: Arc<Semaphore>,
    /// Room for handshakes.
    pub handshakes: Semaphore,
}

/// A started proxy: dropping it without stopping leaves the pod served.
#[derive(Debug)]
pub(crate) struct Running {
    uid: Str,
    drain: drain::Drain,
    ending: Arc<OnceLock<Reason>>,
}

/// Starts and stops proxies of pods.
#[derive(Debug)]
pub(crate) struct Starter {
    proxy: Arc<Proxy>,
    workers: Arc<Workers>,
    /// Proxies on their way out.
    ending: JoinSet<()>,
}

impl Starter {
    /// Pods will be served on `workers`.
    pub(crate) fn new(proxy: Arc<Proxy>, workers: Arc<Workers>) -> Self {
        Self { proxy, workers, ending: JoinSet::new() }
    }

    /// The proxies that are still draining; waiting for them is the caller's.
    pub(crate) fn take_ending(&mut self) -> JoinSet<()> {
        std::mem::take(&mut self.ending)
    }

    /// Puts one shard on one thread.
    fn place(pod: &Arc<Pod>, handle: &Handle, sockets: sockets::Listeners) -> std::io::Result<Arc<Connections>> {
        // Sockets register with, and tasks are spawned on, the runtime that is entered.
        let _on_thread = handle.enter();
        let connections = Arc::new(Connections::default());
        let config = &pod.proxy.config;
        let shard = Arc::new(Shard {
            pod: pod.clone(),
            connections: connections.clone(),
            pool: Pool::new(Dialer::new(pod), pool_options(config)),
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            handshakes: Semaphore::new(MAX_HANDSHAKES),
        });
        let sockets::Listeners { outbound, plaintext, tunnels } = sockets;
        let (outbound, plaintext) = (TcpListener::from_std(outbound)?, TcpListener::from_std(plaintext)?);
        let tunnels = TcpListener::from_std(tunnels)?;
        task::spawn("outbound", listener::serve(shard.clone(), outbound, Direction::Outbound, outbound::handle));
        task::spawn("passthrough", listener::serve(shard.clone(), plaintext, Direction::Inbound, inbound::passthrough));
        task::spawn("inbound", listener::serve(shard.clone(), tunnels, Direction::Inbound, inbound::tunnels));
        task::spawn("policy", policy::enforce(Arc::downgrade(&shard), pod.proxy.state.clone()));
        Ok(connections)
    }

    fn place_dns(pod: &Arc<Pod>, handle: &Handle, sockets: Vec<sockets::DnsSockets>) -> std::io::Result<()> {
        let _on_thread = handle.enter();
        for sockets::DnsSockets { udp, tcp } in sockets {
            let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
            task::spawn("dns udp", dns::server::serve_udp(pod.clone(), udp));
            task::spawn("dns tcp", dns::server::serve_tcp(pod.clone(), tcp));
        }
        Ok(())
    }

    fn end(&mut self, running: Running) {
        let deadline = self.proxy.config.termination_deadline;
        while self.ending.try_join_next().is_some() {}
        self.ending.spawn(async move {
            running.drain.finish(deadline).await;
        });
    }
}

fn pool_options(config: &crate::config::Config) -> PoolOptions {
    let tunnels = &config.tunnels;
    PoolOptions { windows: windows(config), max_streams: tunnels.max_streams as usize, idle: tunnels.unused_release }
}

/// Sizes of windows and frames.
pub(crate) fn windows(config: &crate::config::Config) -> Windows {
    let tunnels = &config.tunnels;
    Windows { stream: tunnels.stream_window, connection: tunnels.connection_window, frame: tunnels.frame_size }
}

impl Proxies for Starter {
    type Namespace = NetNs;
    type Proxy = Running;

    fn start(&mut self, uid: &Str, info: &WorkloadInfo, namespace: &NetNs) -> Result<Running, String> {
        let config = &self.proxy.config;
        let opened = sockets::open(namespace, config, self.workers.count()).map_err(|error| error.to_string())?;
        let (drain, watch) = drain::Drain::new();
        let ending = Arc::new(OnceLock::new());
        let pod = Arc::new(Pod {
            info: info.clone(),
            namespace: namespace.clone(),
            proxy: self.proxy.clone(),
            drain: watch,
            original_source: opened.original_source,
            ending: ending.clone(),
        });
        let mut shards = Vec::new();
        let first = self.workers.next_handle().clone();
        for (index, listeners) in opened.listeners.into_iter().enumerate() {
            let placed = Self::place(&pod, self.workers.handle(index), listeners);
            shards.push(placed.map_err(|error| format!("serving the pod's sockets: {error}"))?);
        }
        Self::place_dns(&pod, &first, opened.dns).map_err(|error| format!("serving DNS in the pod: {error}"))?;
        self.proxy.pods.lock().insert(uid.clone(), (info.clone(), shards));
        tracing::info!(%uid, name = %info.name, namespace = %info.namespace, "pod is served");
        Ok(Running { uid: uid.clone(), drain, ending })
    }

    fn stop(&mut self, running: Running, how: Stop) {
        self.proxy.pods.lock().remove(&running.uid);
        tracing::info!(uid = %running.uid, ?how, "pod is no longer served");
        if how == Stop::Cut {
            // Set once: nobody else ends this pod.
            let _ = running.ending.set(Reason::WorkloadGone);
            running.drain.force();
        }
        self.end(running);
    }
}
