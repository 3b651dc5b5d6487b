//! Two nodes on one wire: pods in network namespaces with the contract's redirection, a node proxy per node in a
//! namespace of its own, a node agent played by the test. Everything goes with its descriptors: nothing has a name.

use identity::{CertificateSource, Issuer, IssuerSource, KeyKind};
use inpod::words::{Part, Settings};
use linux::{
    netlink::{Netlink, Route, Rule as RouteRule, Scope, VethEnd},
    netns::NetNs,
    nft::{self, Chain, ChainKind, Family, Hook, Rule, Table},
    seqpacket::{Listener, Stream},
};
use prost::Message;
use proto::zds::{
    AddWorkload, DelWorkload, SnapshotSent, WorkloadInfo, WorkloadRequest, WorkloadResponse, workload_request::Payload,
    workload_response,
};
use runtime::{Shutdown, clock::Clock};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use ztunnel::{Config, Environment, Parts};

const MARK: u32 = 0x539;
const CONNECTION_MARK: u32 = 0x111;
const MASK: u32 = 0xfff;
/// A node proxy in one process, without a keeper.
pub(crate) const ONE_PROCESS: (&str, &str) = ("KEEPER_UDS", "");
/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A wire that pods hang on.
pub(crate) struct Wire {
    switch: NetNs,
    bridge: u32,
    ports: u32,
}

/// A pod, or anything else with an address.
pub(crate) struct Pod {
    pub(crate) namespace: NetNs,
    pub(crate) address: IpAddr,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let switch = NetNs::new_anonymous().unwrap();
        let mut netlink = Netlink::open(&switch).unwrap();
        let bridge = netlink.create_bridge("wire", None).unwrap();
        netlink.set_up(bridge).unwrap();
        Self { switch, bridge, ports: 0 }
    }

    /// A namespace on the wire.
    pub(crate) fn pod(&mut self, address: &str) -> Pod {
        let namespace = NetNs::new_anonymous().unwrap();
        let port = format!("port{}", self.ports);
        self.ports += 1;
        let mut switch = Netlink::open(&self.switch).unwrap();
        let (here, there) = (VethEnd { name: &port, mac: None }, VethEnd { name: "eth0", mac: None });
        let index = switch.create_veth(&here, &there, &namespace, 1500).unwrap();
        switch.set_master(index, Some(self.bridge)).unwrap();
        switch.set_up(index).unwrap();
        let mut pod = Netlink::open(&namespace).unwrap();
        let lo = pod.link("lo").unwrap().index;
        pod.set_up(lo).unwrap();
        let eth0 = pod.link("eth0").unwrap().index;
        pod.add_address(eth0, format!("{address}/16").parse().unwrap()).unwrap();
        pod.set_up(eth0).unwrap();
        // Services have addresses that nobody answers for: they must be routed out to be captured at all.
        pod.add_route(&Route::to("10.96.0.0/16".parse().unwrap()).dev(eth0).scope(Scope::Link)).unwrap();
        Pod { namespace, address: address.parse().unwrap() }
    }
}

fn base(name: &str, kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain::base(name, kind, hook, priority).rules(rules)
}

impl Pod {
    /// Puts the contract's redirection in place (ztunnel.md §5.6).
    pub(crate) fn redirect(&self) {
        let loopback: ipnet::IpNet = "127.0.0.1/32".parse().unwrap();
        let own = |rule: Rule| rule.mark_not(MARK, MASK);
        let mangle = Table::new(Family::Inet, "mangle")
            .chain(base(
                "in",
                ChainKind::Filter,
                Hook::Prerouting,
                -150,
                vec![Rule::new().mark(MARK, MASK).set_ct_mark(CONNECTION_MARK, MASK)],
            ))
            .chain(base(
                "out",
                ChainKind::Route,
                Hook::Output,
                -150,
                vec![Rule::new().ct_mark(CONNECTION_MARK, MASK).mark_from_ct()],
            ));
        let arriving = vec![own(Rule::new().daddr_not(loopback).tcp().dport_not(15008)).redirect(15006)];
        let leaving = vec![
            own(Rule::new().oif_not("lo").udp().dport(53)).redirect(15053),
            own(Rule::new().daddr_not(loopback).tcp().dport(53)).redirect(15053),
            Rule::new().tcp().mark(CONNECTION_MARK, MASK).accept(),
            Rule::new().daddr_not(loopback).oif("lo").accept(),
            own(Rule::new().daddr_not(loopback).tcp()).redirect(15001),
        ];
        let nat = Table::new(Family::Inet, "nat")
            .chain(base("in", ChainKind::Nat, Hook::Prerouting, -100, arriving))
            .chain(base("out", ChainKind::Nat, Hook::Output, -100, leaving));
        nft::apply(&self.namespace, &[mangle, nat]).unwrap();
        let mut netlink = Netlink::open(&self.namespace).unwrap();
        let lo = netlink.link("lo").unwrap().index;
        netlink
            .add_rule(&RouteRule { v6: false, priority: 32764, mark: CONNECTION_MARK, mask: MASK, table: 100 })
            .unwrap();
        let everything = "0.0.0.0/0".parse().unwrap();
        netlink.add_route(&Route::to(everything).dev(lo).scope(Scope::Host).table(100)).unwrap();
    }

    /// An application: says who connected, then gives back what it is sent. It ends with its last connection's thread
    /// when the test process ends.
    pub(crate) fn serve(&self, port: u16) {
        let listener = self.namespace.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                thread::spawn(move || {
                    let peer = stream.peer_addr().unwrap().ip();
                    stream.write_all(format!("{peer}\n").as_bytes()).ok();
                    let mut copy = stream.try_clone().unwrap();
                    io::copy(&mut copy, &mut stream).ok();
                    stream.shutdown(std::net::Shutdown::Write).ok();
                });
            }
        });
    }

    /// Connects from within the pod.
    pub(crate) fn connect(&self, destination: &str) -> io::Result<TcpStream> {
        let destination: SocketAddr = destination.parse().unwrap();
        let stream = self.namespace.run(|| TcpStream::connect_timeout(&destination, PATIENCE)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// One exchange: whom the server saw, and whether the payload came back; an error when the connection was refused.
    pub(crate) fn exchange(&self, destination: &str, payload: &[u8]) -> io::Result<IpAddr> {
        let mut stream = self.connect(destination)?;
        let seen = greeting(&mut stream)?;
        stream.write_all(payload)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        assert_eq!(back.len(), payload.len());
        assert!(back == payload, "the payload was changed on its way");
        Ok(seen)
    }
}

/// The server's first line: the client's address as it saw it.
pub(crate) fn greeting(stream: &mut TcpStream) -> io::Result<IpAddr> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        match byte[0] {
            b'\n' => return String::from_utf8_lossy(&line).parse().map_err(io::Error::other),
            other => line.push(other),
        }
    }
}

/// A node proxy, with its node agent.
pub(crate) struct Node {
    namespace: NetNs,
    shutdown: Shutdown,
    thread: Option<thread::JoinHandle<Result<(), String>>>,
    kill: Arc<Notify>,
    spare: Spare,
    keeper: Option<Keeper>,
    agent: Option<Agent>,
}

/// What another worker of the same node is started with.
#[derive(Clone)]
struct Spare {
    config: Config,
    authority: Option<Arc<dyn CertificateSource>>,
    levels: Option<telemetry::log::Levels>,
    resolver: PathBuf,
    /// The keeper's and the node agent's.
    sockets: (PathBuf, PathBuf),
}

/// One worker.
pub(crate) struct Worker {
    namespace: NetNs,
    shutdown: Shutdown,
    kill: Arc<Notify>,
    thread: Option<thread::JoinHandle<Result<(), String>>>,
}

impl Worker {
    fn start(namespace: NetNs, spare: &Spare) -> Self {
        let Spare { config, authority, levels, resolver, .. } = spare.clone();
        let (shutdown, kill) = (Shutdown::new(), Arc::new(Notify::new()));
        let (ending, killed) = (shutdown.clone(), kill.clone());
        let parts = Parts { levels, clock: Clock::system(), resolver };
        let proxy = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = ztunnel::run(config, authority, parts, ending) => ended.map_err(|error| error.to_string()),
                    // Everything is dropped where it stands, and the kernel closes what was open.
                    () = killed.notified() => Err("killed".to_owned()),
                }
            })
        };
        // Threads are born into the namespace of the thread that starts them.
        let thread = namespace.run(|| thread::spawn(proxy)).unwrap();
        Self { namespace, shutdown, kill, thread: Some(thread) }
    }

    fn until_ready(self) -> Self {
        let begun = Instant::now();
        while http(&self.namespace, "GET", 15021, "/healthz/ready").0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "the next worker never came to be ready");
            thread::yield_now();
        }
        self
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shutdown.trigger();
            drop(thread.join());
        }
    }
}

/// An authority that is gone.
struct Nobody;

impl CertificateSource for Nobody {
    fn fetch<'a>(
        &'a self,
        _: &'a model::Identity,
    ) -> futures_util::future::BoxFuture<'a, Result<identity::WorkloadCertificate, identity::FetchError>> {
        Box::pin(std::future::ready(Err(identity::FetchError::Timeout(Duration::ZERO))))
    }
}

/// A keeper, in a thread of its own. Ends with the value.
struct Keeper {
    shutdown: Shutdown,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keeper {
    /// Keeps between two sockets, for workers of our own user.
    fn start(socket: PathBuf, agent: PathBuf) -> Self {
        let shutdown = Shutdown::new();
        let ending = shutdown.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(keeper::run(keeper::Args::new(socket, agent, 0), ending)).unwrap();
        });
        Self { shutdown, thread: Some(thread) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shutdown.trigger();
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}

/// The test's end of the ZDS conversation.
struct Agent {
    runtime: tokio::runtime::Runtime,
    listener: Listener,
    stream: std::sync::Mutex<Arc<Stream>>,
    _folder: tempfile::TempDir,
}

/// An authority shared by all nodes of a test.
pub(crate) fn authority() -> Arc<IssuerSource> {
    let clock = Clock::system();
    let issuer = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, clock.now()).unwrap();
    Arc::new(IssuerSource::new(Arc::new(issuer), Duration::from_secs(3600), clock))
}

impl Node {
    /// A place for a proxy.
    pub(crate) fn namespace() -> NetNs {
        let namespace = NetNs::new_anonymous().unwrap();
        let mut netlink = Netlink::open(&namespace).unwrap();
        let lo = netlink.link("lo").unwrap().index;
        netlink.set_up(lo).unwrap();
        namespace
    }

    /// Starts the proxy of `name` with a mesh written down in YAML, and has no pods yet.
    pub(crate) fn start(name: &str, mesh: &str, authority: Arc<IssuerSource>) -> Self {
        Self::start_in(Self::namespace(), name, mesh, authority, &[("XDS_ADDRESS", "")])
    }

    /// The same in a given namespace and with further settings.
    pub(crate) fn start_in(
        namespace: NetNs,
        name: &str,
        mesh: &str,
        authority: Arc<IssuerSource>,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::launch(namespace, Some(name), mesh, Some(authority), settings, "/etc/resolv.conf".as_ref())
    }

    /// With every choice: a node's proxy with its agent or (without a node) a dedicated one, certificates from `authority` or from
    /// where the settings say, names from a resolver's file.
    pub(crate) fn launch(
        namespace: NetNs,
        node: Option<&str>,
        mesh: &str,
        authority: Option<Arc<IssuerSource>>,
        settings: &[(&str, &str)],
        resolver: &Path,
    ) -> Self {
        let levels = Some(crate::logged::logged().levels.clone());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("zds");
        let keeper_socket = folder.path().join("keeper");
        // As on a node: a keeper with the rights, a worker that asks it; or, where a test says so, both in one.
        let split = node.is_some() && !settings.contains(&ONE_PROCESS);
        let keeper = split.then(|| Keeper::start(keeper_socket.clone(), socket.clone()));
        let environment: Environment = [
            ("LOCAL_XDS", mesh),
            ("INPOD_UDS", socket.to_str().unwrap()),
            ("ZTUNNEL_WORKER_THREADS", "2"),
            ("CONNECTION_TERMINATION_DEADLINE", "1s"),
        ]
        .into_iter()
        .chain(node.map(|node| ("NODE_NAME", node)))
        .chain(split.then(|| ("KEEPER_UDS", keeper_socket.to_str().unwrap())))
        .chain(settings.iter().copied())
        .collect();
        let config = Config::read(&environment, &["proxy".to_owned(), "ztunnel".to_owned()]).unwrap();
        let agent_runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = agent_runtime.block_on(async { Listener::bind(&socket).unwrap() });
        let spare = Spare {
            config,
            authority: authority.map(|authority| authority as Arc<dyn CertificateSource>),
            levels,
            resolver: resolver.to_owned(),
            sockets: (keeper_socket, socket),
        };
        let mut worker = Worker::start(namespace.clone(), &spare);
        let thread = worker.thread.take().expect("it was started a moment ago");
        let (shutdown, kill) = (worker.shutdown.clone(), worker.kill.clone());
        let mut thread = Some(thread);
        let agent = node.map(|_| {
            let stream = agent_runtime.block_on(async {
                let begun = Instant::now();
                let stream = loop {
                    match tokio::time::timeout(Duration::from_millis(50), listener.accept()).await {
                        Ok(accepted) => break accepted.unwrap(),
                        Err(_) if thread.as_ref().is_some_and(|thread| thread.is_finished()) => {
                            panic!("the proxy ended: {:?}", thread.take().unwrap().join());
                        }
                        Err(_) => assert!(begun.elapsed() < PATIENCE, "the proxy never came"),
                    }
                };
                let mut hello = [0; 16];
                let received = stream.recv(&mut hello).await.unwrap();
                assert_eq!(hello[..received.len], [0x08, 0x01]);
                stream
            });
            Agent { runtime: agent_runtime, listener, stream: Arc::new(stream).into(), _folder: folder }
        });
        Self { namespace, shutdown, thread, keeper, agent, kill, spare }
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("a dedicated proxy has no agent")
    }

    /// Waits until the proxy says that it is ready.
    pub(crate) fn ready(&self) {
        let begun = Instant::now();
        while self.http("GET", 15021, "/healthz/ready").0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "never ready: {:?}", self.http("GET", 15021, "/healthz/ready"));
            thread::yield_now();
        }
    }

    /// Hands a pod over; the answer's error, empty when all is well.
    pub(crate) fn add(&self, uid: &str, name: &str, service_account: &str, pod: &Pod) -> String {
        let info = WorkloadInfo {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            service_account: service_account.to_owned(),
        };
        let add = AddWorkload { uid: uid.to_owned(), workload_info: Some(info) };
        self.agent().ask(Payload::Add(add), Some(pod))
    }

    pub(crate) fn delete(&self, uid: &str) {
        assert_eq!(self.agent().ask(Payload::Del(DelWorkload { uid: uid.to_owned() }), None), "");
    }

    pub(crate) fn snapshot(&self) {
        assert_eq!(self.agent().ask(Payload::SnapshotSent(SnapshotSent {}), None), "");
    }

    /// One request to the proxy's own HTTP ports: status and body.
    pub(crate) fn http(&self, method: &str, port: u16, path: &str) -> (u16, String) {
        http(&self.namespace, method, port, path)
    }

    /// The metrics, once they satisfy `seen`.
    pub(crate) fn metrics_until(&self, seen: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let (_, body) = self.http("GET", 15020, "/metrics");
            if seen(&body) {
                return body;
            }
            assert!(begun.elapsed() < PATIENCE, "metrics never came to be as expected:\n{body}");
            thread::yield_now();
        }
    }

    /// Starts the next worker beside this one, as a rollout does, and waits until it serves.
    pub(crate) fn upgrade(&self) -> Worker {
        Worker::start(Self::namespace(), &self.spare).until_ready()
    }

    /// The next worker in a world without an authority; `wait` until it is ready.
    pub(crate) fn successor_without_authority(&self) -> Worker {
        let spare = Spare { authority: Some(Arc::new(Nobody)), ..self.spare.clone() };
        Worker::start(Self::namespace(), &spare)
    }

    /// Kills the worker.
    pub(crate) fn kill(&mut self) {
        self.kill.notify_one();
        assert_eq!(self.thread.take().unwrap().join().unwrap(), Err("killed".to_owned()));
    }

    /// Waits until the keeper holds certificates for the next worker.
    pub(crate) fn until_kept(&self) {
        let settings = Settings { sockets: self.spare.config.sockets.clone(), capture: self.spare.config.capture() };
        let begun = Instant::now();
        let kept = |part, sealed: &linux::sealed::Sealed| part == Part::Certificates && sealed.len() > 1_000;
        loop {
            let (mut client, _handle) = inpod::keeper::Client::new(self.spare.sockets.0.clone(), settings.clone());
            let legacy = self.agent().runtime.block_on(async { tokio::time::timeout(PATIENCE, client.meet()).await });
            if legacy.unwrap().iter().any(|(part, sealed)| kept(*part, sealed)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing was kept");
            thread::yield_now();
        }
    }

    /// Replaces the keeper, while the node agent is away.
    pub(crate) fn replace_keeper(&mut self) {
        drop(self.keeper.take());
        let (keeper, agent) = self.spare.sockets.clone();
        self.keeper = Some(Keeper::start(keeper, agent));
    }

    /// Accepts the keeper that came last.
    pub(crate) fn meet_keeper(&self) {
        let agent = self.agent();
        agent.runtime.block_on(async {
            let stream = tokio::time::timeout(PATIENCE, agent.listener.accept()).await.unwrap().unwrap();
            stream.recv(&mut [0; 16]).await.unwrap();
            *agent.stream.lock().unwrap() = Arc::new(stream);
        });
    }

    /// Asks the proxy to end; its verdict comes from [`Node::ended`].
    pub(crate) fn shut_down(&self) {
        self.shutdown.trigger();
    }

    pub(crate) fn ended(mut self) -> Result<(), String> {
        self.thread.take().unwrap().join().unwrap()
    }
}

/// One request to the proxy's own HTTP ports: status and body.
fn http(namespace: &NetNs, method: &str, port: u16, path: &str) -> (u16, String) {
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let begun = Instant::now();
    let mut stream = loop {
        match namespace.run(|| TcpStream::connect(address)).unwrap() {
            Ok(stream) => break stream,
            // A proxy whose agent has not spoken to it yet may still be starting.
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{address}: {error}"),
        }
        thread::yield_now();
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: ztunnel\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            // A failure of the proxy shows in what the test asserts.
            drop(thread.join());
        }
        self.keeper.take();
    }
}

impl Agent {
    fn ask(&self, payload: Payload, pod: Option<&Pod>) -> String {
        let stream = self.stream.lock().unwrap().clone();
        let message = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        self.runtime.block_on(async {
            let descriptors: Vec<_> = pod.iter().map(|pod| pod.namespace.as_fd()).collect();
            stream.send(&message, &descriptors).await.unwrap();
            let mut buffer = [0; 1024];
            let received = tokio::time::timeout(PATIENCE, stream.recv(&mut buffer)).await.unwrap().unwrap();
            let response = WorkloadResponse::decode(&buffer[..received.len]).unwrap();
            let Some(workload_response::Payload::Ack(ack)) = response.payload else { panic!("no ack") };
            ack.error
        })
    }
}
