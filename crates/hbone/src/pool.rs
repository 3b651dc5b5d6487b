//! The client's connections, kept by who speaks to whom (ztunnel.md §4.6).
//!
//! Many streams share a connection; a full one stays and serves again when streams end. One connection of a key is made
//! at a time: everyone who waits for it gets it, or the reason why there is none.

use crate::{
    Carrier, ConnectRequest, Engine, OpenError, Opened, Windows,
    client::{Client, Refusal},
};
use model::Identity;
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Who speaks to whom; connections are shared within a key and never across.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The identity that we prove.
    pub source: Identity,
    /// The identities of which the peer must prove one.
    pub expected: Arc<[Identity]>,
    /// The peer's address.
    pub destination: SocketAddr,
    /// The source pod's address.
    pub source_ip: IpAddr,
}

/// Makes connections: the socket, in whatever namespace, and TLS with the identities of the key.
pub trait Connect: Send + Sync + 'static {
    /// A secured byte stream.
    type Io: Into<Carrier> + Send;
    /// What the caller wants to know of a connection's other end with every stream on it.
    type Peer: Clone + fmt::Debug + Send + Sync + 'static;

    /// Connects, within a deadline of its own choosing.
    fn connect(&self, key: &Key) -> impl Future<Output = Result<(Self::Io, Self::Peer), OpenError>> + Send;
}

/// Limits of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// What does the framing.
    pub engine: Engine,
    /// Windows and frames.
    pub windows: Windows,
    /// Streams on one connection; the peer may allow fewer.
    pub max_streams: usize,
    /// How long a connection without streams is kept.
    pub idle: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        let engine = Engine::default();
        Self { engine, windows: Windows::default(), max_streams: 100, idle: Duration::from_secs(300) }
    }
}

/// Connections that may end before they carry a request, until the request is given up.
const TRIES: usize = 3;

/// Connections of one pod, or of one thread. Dropping it lets open tunnels end by themselves.
#[derive(Debug)]
pub struct Pool<C: Connect> {
    inner: Arc<Inner<C>>,
}

#[derive(Debug)]
struct Inner<C: Connect> {
    connect: C,
    options: PoolOptions,
    entries: Mutex<HashMap<Key, Entry<C::Peer>>>,
    closed: AtomicBool,
}

type Attempt = watch::Receiver<Option<Result<(), OpenError>>>;

#[derive(Debug)]
struct Entry<P> {
    connections: Vec<Arc<Shared<P>>>,
    connecting: Option<Attempt>,
}

impl<P> Default for Entry<P> {
    fn default() -> Self {
        Self { connections: Vec::new(), connecting: None }
    }
}

#[derive(Debug)]
struct Shared<P> {
    client: Client,
    peer: P,
    streams: AtomicUsize,
    last_used: Mutex<Instant>,
}

/// A stream's place in a connection.
#[derive(Debug)]
struct Place<P>(Arc<Shared<P>>);

impl<P> Drop for Place<P> {
    fn drop(&mut self) {
        *self.0.last_used.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<P> Shared<P> {
    /// Takes a place, unless the connection has ended or is full.
    fn place(self: &Arc<Self>, max_streams: usize) -> Option<Place<P>> {
        if self.client.is_ended() {
            return None;
        }
        let limit = max_streams.min(self.client.max_streams());
        let take = |taken| (taken < limit).then_some(taken + 1);
        self.streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(Place(Arc::clone(self)))
    }

    fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        self.streams.load(Ordering::Acquire) == 0 && now.duration_since(*self.last_used.lock()) >= idle
    }
}

impl<P> Entry<P> {
    fn place(&mut self, max_streams: usize) -> Option<Place<P>> {
        self.connections.retain(|shared| !shared.client.is_ended());
        self.connections.iter().find_map(|shared| shared.place(max_streams))
    }
}

impl<C: Connect> Pool<C> {
    /// An empty pool. Must be made within a tokio runtime, on which its connections will live.
    pub fn new(connect: C, options: PoolOptions) -> Self {
        let inner = Arc::new(Inner { connect, options, entries: Mutex::default(), closed: AtomicBool::new(false) });
        runtime::task::spawn("hbone pool", release_idle(Arc::downgrade(&inner), options.idle));
        Self { inner }
    }

    /// Opens a tunnel over a connection of this key, making one when there is none with room. A request that a dying
    /// connection never handled is repeated on another one.
    pub async fn open(&self, key: &Key, request: &ConnectRequest) -> Result<Opened<C::Peer>, OpenError> {
        for _ in 0..TRIES {
            let place = self.place(key).await?;
            match place.0.client.open(request).await {
                Ok(opened) => {
                    let peer = place.0.peer.clone();
                    return Ok(Opened { stream: opened.stream.with_place(place), headers: opened.headers, peer });
                }
                Err(Refusal::Unsent) => {}
                Err(Refusal::Final(error)) => return Err(error),
            }
        }
        Err(unhandled())
    }

    async fn place(&self, key: &Key) -> Result<Place<C::Peer>, OpenError> {
        let mut stillborn = 0;
        while stillborn < TRIES {
            let mut attempt = {
                let mut entries = self.inner.entries.lock();
                if self.inner.closed.load(Ordering::Acquire) {
                    return Err(OpenError::Closed);
                }
                let entry = entries.entry(key.clone()).or_default();
                if let Some(place) = entry.place(self.inner.options.max_streams) {
                    return Ok(place);
                }
                stillborn += usize::from(entry.connections.is_empty());
                entry.connecting.get_or_insert_with(|| Inner::make(&self.inner, key.clone())).clone()
            };
            let outcome = attempt.wait_for(Option::is_some).await.map_err(|_| OpenError::Closed)?.clone();
            if let Some(Err(error)) = outcome {
                return Err(error);
            }
        }
        Err(unhandled())
    }

    /// Connections that are kept now.
    pub fn connections(&self) -> usize {
        self.inner.entries.lock().values().map(|entry| entry.connections.len()).sum()
    }

    /// Opens nothing more. Open tunnels go on; with `cut`, they end at once.
    pub fn close(&self, cut: bool) {
        self.inner.closed.store(true, Ordering::Release);
        for entry in std::mem::take(&mut *self.inner.entries.lock()).into_values() {
            entry.connections.iter().filter(|_| cut).for_each(|shared| shared.client.abort());
        }
    }

    /// Addresses that connections are kept to.
    pub fn destinations(&self) -> BTreeSet<IpAddr> {
        self.inner.entries.lock().keys().map(|key| key.destination.ip()).collect()
    }

    /// Cuts every connection to `address`: it belongs to another workload now, or to none.
    pub fn cut_destination(&self, address: IpAddr) {
        self.inner.entries.lock().retain(|key, entry| {
            let stale = key.destination.ip() == address;
            entry.connections.iter().filter(|_| stale).for_each(|shared| shared.client.abort());
            !stale || entry.connecting.is_some()
        });
    }
}

impl<C: Connect> Inner<C> {
    /// Makes a connection in a task of its own, so that a waiter that gives up does not take it from the others.
    fn make(this: &Arc<Self>, key: Key) -> Attempt {
        let (done, attempt) = watch::channel(None);
        let inner = Arc::clone(this);
        runtime::task::spawn("hbone connect", async move {
            let made = inner.connect_client(&key).await;
            let mut entries = inner.entries.lock();
            let outcome = match made {
                Ok(_) if inner.closed.load(Ordering::Acquire) => Err(OpenError::Closed),
                Ok((client, peer)) => {
                    let entry = entries.entry(key).or_default();
                    entry.connecting = None;
                    let last_used = Mutex::new(Instant::now());
                    entry.connections.push(Arc::new(Shared { client, peer, streams: AtomicUsize::new(0), last_used }));
                    Ok(())
                }
                Err(error) => {
                    if let Some(entry) = entries.get_mut(&key) {
                        entry.connecting = None;
                        if entry.connections.is_empty() {
                            entries.remove(&key);
                        }
                    }
                    Err(error)
                }
            };
            done.send_replace(Some(outcome));
        });
        attempt
    }

    async fn connect_client(&self, key: &Key) -> Result<(Client, C::Peer), OpenError> {
        let (io, peer) = self.connect.connect(key).await?;
        let PoolOptions { engine, windows, max_streams, .. } = self.options;
        Ok((Client::handshake(engine, io.into(), windows, max_streams).await?, peer))
    }
}

fn unhandled() -> OpenError {
    OpenError::Http2("the peer closes connections before it handles a request".to_owned())
}

/// Lets go of connections that nobody has used for `idle`, until the pool is gone.
async fn release_idle<C: Connect>(pool: Weak<Inner<C>>, idle: Duration) {
    let mut tick = tokio::time::interval(idle.clamp(Duration::from_secs(1), Duration::from_secs(30)) / 2);
    loop {
        tick.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        pool.entries.lock().retain(|_, entry| {
            entry.connections.retain(|shared| !shared.client.is_ended() && !shared.is_idle(now, idle));
            !entry.connections.is_empty() || entry.connecting.is_some()
        });
    }
}
