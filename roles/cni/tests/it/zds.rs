//! The conversation with node proxies, byte for byte as recorded between upstream's two sides.

use cni::{Proxies, ProxyError, Workload};
use linux::netns::NetNs;
use linux::seqpacket::{Listener, Received, Stream};

use crate::lab;

/// Recorded: a pod `zds` of namespace `shop` is added, then deleted; the proxy's word each time.
const ADD: &str = "0a3b0a2430633139356565312d386565662d343264322d623062372d62323266613634366363633412130a037a6473120473686f701a06636c69656e74";
const UID: &str = "0c195ee1-8eef-42d2-b0b7-b22fa646ccc4";
const DELETE: &str = "1226122430633139356565312d386565662d343264322d623062372d623232666136343663636334";
const CONTENT: &str = "0a00";

const HELLO: &str = "0801";
const KEEP: &str = "2a070a056561726c79";
const SNAPSHOT_SENT: &str = "1a00";
const REFUSED: &str = "0a0a0a0862696e6420657272";

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn recorded() -> Workload {
    Workload {
        uid: UID.to_owned(),
        name: "zds".to_owned(),
        namespace: "shop".to_owned(),
        service_account: "client".to_owned(),
    }
}

struct Agent {
    proxies: Proxies,
    socket: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ztunnel.sock");
        let proxies = Proxies::new();
        tokio::spawn(proxies.clone().serve(Listener::bind(&socket).unwrap()));
        Self { proxies, socket, _dir: dir }
    }

    /// A proxy that has said hello and taken an empty snapshot.
    async fn proxy(&self) -> Proxy {
        let before = self.proxies.connected().borrow().snapshots;
        let proxy = Proxy(Stream::connect(&self.socket).unwrap());
        proxy.say(HELLO).await;
        proxy.hear(SNAPSHOT_SENT).await;
        proxy.say(CONTENT).await;
        self.proxies.connected().wait_for(|connected| connected.snapshots > before).await.unwrap();
        proxy
    }
}

struct Proxy(Stream);

impl Proxy {
    async fn say(&self, hex: &str) {
        self.0.send(&bytes(hex), &[]).await.unwrap();
    }

    async fn hear(&self, hex: &str) -> Received {
        let mut buffer = [0; 1024];
        let received = self.0.recv(&mut buffer).await.unwrap();
        assert_eq!(buffer[..received.len], bytes(hex)[..]);
        received
    }
}

#[tokio::test]
async fn as_recorded() {
    if !lab::may() {
        return;
    }
    let agent = Agent::start();
    let proxy = agent.proxy().await;
    let ns = NetNs::new_anonymous().unwrap();
    let side = async {
        let mut received = proxy.hear(ADD).await;
        assert_eq!(received.fds.len(), 1);
        proxy.say(CONTENT).await;
        NetNs::from_fd(received.fds.remove(0)).unwrap()
    };
    let (added, passed) = tokio::join!(agent.proxies.add(recorded(), ns.clone()), side);
    assert_eq!((added, passed), (Ok(()), ns));
    let side = async {
        assert_eq!(proxy.hear(DELETE).await.fds.len(), 0);
        proxy.say(CONTENT).await;
    };
    tokio::join!(agent.proxies.delete(UID), side);
}

#[tokio::test]
async fn a_new_proxy_gets_everything_that_is_known() {
    if !lab::may() {
        return;
    }
    let agent = Agent::start();
    let ns = NetNs::new_anonymous().unwrap();
    assert_eq!(agent.proxies.add(recorded(), ns).await, Err(ProxyError::NotConnected));
    agent.proxies.keep(Workload { uid: "early".to_owned(), ..recorded() });
    let proxy = Proxy(Stream::connect(&agent.socket).unwrap());
    proxy.say(HELLO).await;
    assert_eq!(proxy.hear(ADD).await.fds.len(), 1);
    proxy.say(CONTENT).await;
    assert_eq!(proxy.hear(KEEP).await.fds.len(), 0);
    proxy.say(REFUSED).await;
    proxy.hear(SNAPSHOT_SENT).await;
    proxy.say(CONTENT).await;
}

#[tokio::test]
async fn additions_go_to_the_newest_and_deletions_to_all() {
    if !lab::may() {
        return;
    }
    let agent = Agent::start();
    let (old, new) = (agent.proxy().await, agent.proxy().await);
    let ns = NetNs::new_anonymous().unwrap();
    let refuse = async {
        new.hear(ADD).await;
        new.say(REFUSED).await;
    };
    let (added, ()) = tokio::join!(agent.proxies.add(recorded(), ns.clone()), refuse);
    assert_eq!(added, Err(ProxyError::Refused("bind err".to_owned())));
    let both = async {
        for proxy in [&new, &old] {
            proxy.hear(DELETE).await;
            proxy.say(CONTENT).await;
        }
    };
    tokio::join!(agent.proxies.delete(UID), both);
    // The newest leaves before it has answered: the one before is asked.
    let leave = async {
        new.hear(ADD).await;
        drop(new);
        old.hear(ADD).await;
        old.say(CONTENT).await;
    };
    let (added, ()) = tokio::join!(agent.proxies.add(recorded(), ns), leave);
    assert_eq!(added, Ok(()));
    agent.proxies.connected().wait_for(|connected| connected.count == 1).await.unwrap();
}

#[tokio::test]
async fn whoever_talks_nonsense_is_let_go() {
    let agent = Agent::start();
    for nonsense in ["0800", "ffff"] {
        let proxy = Proxy(Stream::connect(&agent.socket).unwrap());
        proxy.say(nonsense).await;
        assert_eq!(proxy.0.recv(&mut [0; 8]).await.unwrap().len, 0, "closed after {nonsense}");
    }
    let proxy = agent.proxy().await;
    proxy.say(CONTENT).await;
    assert_eq!(proxy.0.recv(&mut [0; 8]).await.unwrap().len, 0, "closed after an answer to nothing");
}
