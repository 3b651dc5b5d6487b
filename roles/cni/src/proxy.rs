//! The agent's side of the conversation with node proxies (ZDS): which pods there are, each with its network namespace.
//!
//! A proxy connects, says hello, gets everything that is known ("the snapshot"), and from then on what changes; it
//! acknowledges each message before the next is sent. While a proxy is being replaced two are connected: pods are added
//! to the newest one and deleted from all. [`Proxies`] is what is known and who is connected; one task per connection
//! does the talking.

mod conversation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use linux::netns::NetNs;
use linux::seqpacket::Listener;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

pub use conversation::acknowledgement;

/// New connections are taken at most this often.
const BETWEEN_ACCEPTS: Duration = Duration::from_millis(200);

/// Messages that may wait for one connection.
const WAITING: usize = 256;

/// A pod, as node proxies know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The pod's uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// Why no proxy knows about a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// None is connected. The wording is what people search their logs for.
    #[error("no ztunnel connection")]
    NotConnected,
    /// It refused.
    #[error("the proxy refused: {0}")]
    Refused(String),
}

/// What is sent while a connection lasts.
#[derive(Debug)]
enum Message {
    Add(Workload, NetNs),
    Delete(String),
}

/// A message, and where the acknowledgement goes: the proxy's text, empty when it is content.
type Sent = (Message, oneshot::Sender<String>);

#[derive(Debug)]
struct Connection {
    id: u64,
    messages: mpsc::Sender<Sent>,
}

/// A pod in the snapshot. Without a namespace, all that can be said is that it should be kept.
type Pod = (Workload, Option<NetNs>);

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    /// In the order they came.
    connections: Vec<Connection>,
    next_id: u64,
}

/// Pods that proxies should know, and the proxies that are connected. Clones share both.
#[derive(Debug, Clone)]
pub struct Proxies {
    state: Arc<Mutex<State>>,
    connected: watch::Sender<Connected>,
}

/// Who is connected, for followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connected {
    /// How many proxies.
    pub count: usize,
    /// How many snapshots were ever completed: moves when a proxy has become ready for additions.
    pub snapshots: u64,
}

impl Default for Proxies {
    fn default() -> Self {
        Self::new()
    }
}

impl Proxies {
    /// No pods, nobody connected.
    pub fn new() -> Self {
        Self { state: Arc::default(), connected: watch::Sender::new(Connected::default()) }
    }

    /// Follows who is connected.
    pub fn connected(&self) -> watch::Receiver<Connected> {
        self.connected.subscribe()
    }

    /// A pod that was enrolled before, whose namespace is not known yet: a proxy that has it keeps it.
    pub fn keep(&self, workload: Workload) {
        self.state.lock().pods.entry(workload.uid.clone()).or_insert((workload, None));
    }

    /// Tells the newest proxy about a pod and waits for its word; the one before, should the newest leave meanwhile.
    pub async fn add(&self, workload: Workload, ns: NetNs) -> Result<(), ProxyError> {
        let connections = {
            let mut state = self.state.lock();
            state.pods.insert(workload.uid.clone(), (workload.clone(), Some(ns.clone())));
            state.newest_first()
        };
        for connection in connections {
            let message = Message::Add(workload.clone(), ns.clone());
            match tell(&connection, message).await {
                Some(text) if text.is_empty() => return Ok(()),
                Some(text) => return Err(ProxyError::Refused(text)),
                None => {}
            }
        }
        Err(ProxyError::NotConnected)
    }

    /// Tells all proxies that a pod is gone.
    pub async fn delete(&self, uid: &str) {
        let connections = {
            let mut state = self.state.lock();
            state.pods.remove(uid);
            state.newest_first()
        };
        for connection in connections {
            match tell(&connection, Message::Delete(uid.to_owned())).await {
                Some(text) if !text.is_empty() => tracing::warn!("a node proxy did not let go of pod {uid}: {text}"),
                _ => {}
            }
        }
    }

    /// Talks to every proxy that connects, until dropped.
    pub async fn serve(self, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    let proxies = self.clone();
                    runtime::task::spawn("node proxy connection", async move {
                        if let Err(error) = conversation::hold(&proxies, &stream).await {
                            tracing::warn!("the connection to a node proxy ended: {error}");
                        }
                    });
                }
                Err(error) => tracing::warn!("a node proxy could not be accepted: {error}"),
            }
            tokio::time::sleep(BETWEEN_ACCEPTS).await;
        }
    }

    /// Lists a connection, with everything that is known at this moment: whatever comes later goes to its queue.
    fn join(&self) -> (Joined, Vec<Pod>, mpsc::Receiver<Sent>) {
        let (messages, queue) = mpsc::channel(WAITING);
        let (id, pods) = {
            let mut state = self.state.lock();
            let id = state.next_id;
            state.next_id += 1;
            state.connections.push(Connection { id, messages });
            (id, state.pods.values().cloned().collect())
        };
        self.connected.send_modify(|connected| connected.count += 1);
        (Joined { proxies: self.clone(), id }, pods, queue)
    }

    fn snapshot_completed(&self) {
        self.connected.send_modify(|connected| connected.snapshots += 1);
    }
}

impl State {
    fn newest_first(&self) -> Vec<mpsc::Sender<Sent>> {
        self.connections.iter().rev().map(|connection| connection.messages.clone()).collect()
    }
}

/// The proxy's word, or nothing when it left before giving it.
async fn tell(connection: &mpsc::Sender<Sent>, message: Message) -> Option<String> {
    let (word, given) = oneshot::channel();
    connection.send((message, word)).await.ok()?;
    given.await.ok()
}

/// A listed connection; dropping it takes it off the list.
struct Joined {
    proxies: Proxies,
    id: u64,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.proxies.state.lock().connections.retain(|connection| connection.id != self.id);
        self.proxies.connected.send_modify(|connected| connected.count -= 1);
    }
}
