//! One pod's proxy: its sockets in the pod's network namespace, and one shard of it on every data-plane thread.
//!
//! Each thread has listening sockets of its own on the pod's ports (SO_REUSEPORT: the kernel spreads connections), so that a
//! connection, its tunnel and its pool stay on the thread that accepted it. Where the sockets come from is `inpod`'s.

use crate::{
    connections::{self, Connections},
    dialer::Dialer,
    dns, inbound, listener, outbound, policy,
    proxy::Proxy,
    quota::Quotas,
    route::Affinity,
    socks, stale,
};
use hbone::{Pool, PoolOptions, Windows};
use inpod::{Listener, Opened, Place, Port, Proxies, Sockets, Stop, WorkloadInfo, keeper, listeners, words::Kind};
use model::{Reason, Str};
use runtime::{drain, task, workers::Workers};
use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
};
use telemetry::access::Direction;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

/// A pod that is served.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Who it is.
    pub info: WorkloadInfo,
    /// Where its sockets come from.
    pub sockets: Arc<Sockets>,
    /// Everything that is shared by all pods.
    pub proxy: Arc<Proxy>,
    /// When to stop accepting, and when to cut.
    pub drain: drain::Watch,
    /// Its listeners outlive us.
    pub kept: bool,
    /// What it holds.
    pub quotas: Quotas,
    /// Whether applications can be shown the client's address.
    pub original_source: bool,
    /// Which endpoints its clients keep.
    pub affinity: Affinity,
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
    /// Which thread this is.
    pub thread: usize,
    /// Its connections on this thread.
    pub connections: Arc<Connections>,
    /// Its tunnels on this thread.
    pub pool: Pool<Dialer>,
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
    /// Who opens sockets in pods, if we do not.
    keeper: Option<keeper::Handle>,
    /// Proxies on their way out.
    ending: JoinSet<()>,
    /// The proxy's own pod.
    own: Option<Running>,
    /// Proxies that may take as long as this process lives.
    retired: Vec<Running>,
}

impl Starter {
    /// Pods will be served on `workers`.
    pub(crate) fn new(proxy: Arc<Proxy>, workers: Arc<Workers>, keeper: Option<keeper::Handle>) -> Self {
        Self { proxy, workers, keeper, ending: JoinSet::new(), own: None, retired: Vec::new() }
    }

    /// The proxies that are still draining, the retired ones from now on; waiting for them is the caller's.
    pub(crate) fn take_ending(&mut self) -> JoinSet<()> {
        for running in std::mem::take(&mut self.retired) {
            self.end(running);
        }
        std::mem::take(&mut self.ending)
    }

    /// One shard for each of the first `count` threads.
    fn shards(&self, pod: &Arc<Pod>, count: usize) -> Vec<Arc<Shard>> {
        let shard = |index| {
            let _on_thread = self.workers.handle(index).enter();
            let shard = Arc::new(Shard {
                pod: pod.clone(),
                thread: index,
                connections: Arc::default(),
                pool: Pool::new(Dialer::new(pod), pool_options(&pod.proxy.config)),
            });
            task::spawn("policy", policy::enforce(Arc::downgrade(&shard), pod.proxy.state.clone()));
            task::spawn("stale tunnels", stale::cut(Arc::downgrade(&shard), pod.proxy.state.clone()));
            task::spawn("half-closed connections", connections::sweep(Arc::downgrade(&shard.connections)));
            shard
        };
        (0..count).map(shard).collect()
    }

    /// Serves every listener: those of connections on one thread after the other, all of DNS on one.
    fn serve(&self, pod: &Arc<Pod>, shards: &[Arc<Shard>], opened: Vec<Listener>) -> io::Result<()> {
        let dns = self.workers.next_handle().clone();
        let mut placed: HashMap<Port, usize> = HashMap::new();
        for Listener { port, socket } in opened {
            let turn = placed.entry(port).or_default();
            let index = *turn % shards.len().max(1);
            *turn += 1;
            let capturing = !matches!(port, Port::DnsUdp | Port::DnsTcp);
            // Sockets register with, and tasks are spawned on, the runtime that is entered.
            let _on_thread = if capturing { self.workers.handle(index).enter() } else { dns.enter() };
            let accept = |socket: OwnedFd| TcpListener::from_std(socket.into());
            match (port, shards.get(index).cloned()) {
                (Port::Outbound, Some(shard)) => {
                    let served = listener::serve(shard, accept(socket)?, Direction::Outbound, outbound::handle);
                    task::spawn("outbound", served);
                }
                (Port::Plaintext, Some(shard)) => {
                    let served = listener::serve(shard, accept(socket)?, Direction::Inbound, inbound::passthrough);
                    task::spawn("passthrough", served);
                }
                (Port::Tunnels, Some(shard)) => {
                    let served = listener::serve(shard, accept(socket)?, Direction::Inbound, inbound::tunnels);
                    task::spawn("inbound", served);
                }
                (Port::Socks, Some(shard)) => {
                    let served = listener::serve(shard, accept(socket)?, Direction::Outbound, socks::handle);
                    task::spawn("socks", served);
                }
                (Port::DnsUdp, _) => {
                    let socket = UdpSocket::from_std(socket.into())?;
                    task::spawn("dns udp", dns::server::serve_udp(pod.clone(), socket));
                }
                (Port::DnsTcp, _) => {
                    task::spawn("dns tcp", dns::server::serve_tcp(pod.clone(), accept(socket)?));
                }
                (Port::Outbound | Port::Plaintext | Port::Tunnels | Port::Socks, None) => {}
            }
        }
        Ok(())
    }

    /// Serves what was opened for one pod.
    fn begin(
        &self,
        uid: &Str,
        info: &WorkloadInfo,
        sockets: Sockets,
        opened: Opened,
    ) -> Result<(Running, Vec<Arc<Shard>>), String> {
        let (drain, watch) = drain::Drain::new();
        let ending = Arc::new(OnceLock::new());
        let pod = Arc::new(Pod {
            info: info.clone(),
            proxy: self.proxy.clone(),
            kept: matches!(sockets, Sockets::Kept(_)),
            sockets: Arc::new(sockets),
            drain: watch,
            original_source: opened.original_source,
            quotas: Quotas::new(&self.proxy.config.quotas),
            affinity: Affinity::default(),
            ending: ending.clone(),
        });
        let sets = opened.listeners.iter().filter(|listener| listener.port == Port::Tunnels).count();
        let shards = self.shards(&pod, sets.min(self.workers.count()));
        self.serve(&pod, &shards, opened.listeners).map_err(|error| format!("serving the pod's sockets: {error}"))?;
        Ok((Running { uid: uid.clone(), drain, ending }, shards))
    }

    /// Serves the proxy itself to the mesh: tunnels that arrive for its own pod.
    pub(crate) fn start_own(
        &mut self,
        info: &WorkloadInfo,
        sockets: Sockets,
        listener: Listener,
    ) -> Result<(), String> {
        // The application is this process: it has no use for the client's address.
        let opened = Opened { listeners: vec![listener], original_source: false };
        let (running, _shards) = self.begin(&"own".into(), info, sockets, opened)?;
        self.own = Some(running);
        Ok(())
    }

    /// Lets what came for the proxy itself end.
    pub(crate) fn stop_own(&mut self) {
        if let Some(own) = self.own.take() {
            self.end(own);
        }
    }

    /// The pod's listeners: as they were handed over, or opened here.
    fn open(&self, place: &Place) -> Result<Opened, String> {
        let Some(opened) = &place.opened else {
            let config = &self.proxy.config;
            let opened = listeners::open(&place.namespace, &config.sockets, &config.capture());
            return opened.map_err(|error| error.to_string());
        };
        // Those handed over are kept beside the ones in use, to be given to the next keeper.
        opened.try_clone().map_err(|error| format!("duplicating the pod's sockets: {error}"))
    }

    fn sockets(&self, uid: &Str, place: &Place) -> Sockets {
        let Some(keeper) = &self.keeper else {
            return Sockets::own(place.namespace.clone(), self.proxy.config.sockets.clone());
        };
        let stock = keeper.stock(uid);
        // What the first connection each way will want.
        stock.prepare([false, true].map(|any_source| Kind::Tcp { v6: false, any_source }));
        Sockets::Kept(stock)
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
    let max_streams = tunnels.max_streams as usize;
    PoolOptions { engine: tunnels.engine, windows: windows(config), max_streams, idle: tunnels.unused_release }
}

/// Sizes of windows and frames.
pub(crate) fn windows(config: &crate::config::Config) -> Windows {
    let tunnels = &config.tunnels;
    Windows { stream: tunnels.stream_window, connection: tunnels.connection_window, frame: tunnels.frame_size }
}

impl Proxies for Starter {
    type Namespace = Place;
    type Proxy = Running;

    fn start(&mut self, uid: &Str, info: &WorkloadInfo, place: &Place) -> Result<Running, String> {
        let (sockets, opened) = (self.sockets(uid, place), self.open(place)?);
        let (running, shards) = self.begin(uid, info, sockets, opened)?;
        let connections = shards.iter().map(|shard| shard.connections.clone()).collect();
        self.proxy.pods.lock().insert(uid.clone(), (info.clone(), connections));
        self.proxy.neighbours.add(uid.clone(), info, &shards);
        tracing::info!(%uid, name = %info.name, namespace = %info.namespace, "pod is served");
        Ok(running)
    }

    fn stop(&mut self, running: Running, how: Stop) {
        self.proxy.pods.lock().remove(&running.uid);
        self.proxy.neighbours.remove(&running.uid);
        tracing::info!(uid = %running.uid, ?how, "pod is no longer served");
        if how == Stop::Retire {
            running.drain.start();
            return self.retired.push(running);
        }
        if how == Stop::Cut {
            // Set once: nobody else ends this pod.
            let _ = running.ending.set(Reason::WorkloadGone);
            running.drain.force();
        }
        self.end(running);
    }
}
