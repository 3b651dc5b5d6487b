//! Peers that mean harm, against live proxies: what they break is their own connection, and their neighbours see no error.

use crate::{SERVER, World, greeting, lab, lab::Node, mesh};
use identity::{IssuerSource, WorkloadCertificate, tls::ClientStream};
use model::Identity;
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use testkit::http2::{
    Frame, PREFACE, Peer, bytes,
    cases::{self, Target},
    code, flag,
    hpack::Block,
    suite::{self, Codes},
};

const ECHO: u16 = 8090;
const HOLD: u16 = 8091;

/// A mesh with a peer outside it that has a certificate of its authority.
struct Scene {
    world: World,
    certificate: WorkloadCertificate,
    runtime: tokio::runtime::Runtime,
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let mesh = mesh("", "");
        let mut authority: Option<Arc<IssuerSource>> = None;
        let world = World::with(&mesh, |shared| {
            authority = Some(shared.clone());
            let settings: Vec<_> = [("XDS_ADDRESS", "")].iter().chain(settings).copied().collect();
            Node::start_in(Node::namespace(), "n2", &mesh, shared, &settings)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let certificate = authority.unwrap().certificate(&identity("outside")).unwrap();
        Self { world, certificate, runtime }
    }

    /// A TCP connection of the peer to the server's tunnel port.
    fn dial(&self) -> TcpStream {
        self.world.outside.connect(&format!("{SERVER}:15008")).unwrap()
    }

    /// The same with TLS.
    async fn secured(&self) -> io::Result<ClientStream<tokio::net::TcpStream>> {
        let stream = self.dial();
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let secured = self.certificate.connect(&[identity("server")], stream).await;
        secured.map(|(stream, _)| stream).map_err(io::Error::other)
    }

    /// An application of the server pod: gives back what comes, and ends with its client or not at all.
    fn application(&self, port: u16, ends: bool) {
        let listener = self.world.server.namespace.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut copy = stream.try_clone().unwrap();
                    // Its client may do whatever it likes.
                    let _copied = io::copy(&mut copy, &mut stream);
                    if ends {
                        let _ended = stream.shutdown(std::net::Shutdown::Write);
                    } else {
                        thread::park();
                    }
                });
            }
        });
    }
}

/// Exchanges of a neighbour for as long as something is done; how many there were, and how long the slowest of a hundred took.
fn meanwhile(scene: &Scene, act: impl FnOnce()) -> (usize, Duration) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let mut taken = Vec::new();
            while !done.load(Ordering::Relaxed) || taken.len() < 20 {
                let begun = Instant::now();
                scene.world.client.exchange("10.96.0.80:80", b"neighbour").expect("the neighbour is served");
                taken.push(begun.elapsed());
            }
            taken.sort();
            (taken.len(), taken[taken.len() * 99 / 100])
        });
        act();
        done.store(true, Ordering::Relaxed);
        neighbour.join().unwrap()
    })
}

/// The table that `hbone` is held against, over TCP and TLS and through everything that a proxy adds.
#[test]
fn every_clause_is_kept_by_a_live_proxy() {
    let scene = Scene::new(&[]);
    scene.application(ECHO, true);
    scene.application(HOLD, false);
    let target = Target { echo: format!("{SERVER}:{ECHO}"), hold: format!("{SERVER}:{HOLD}") };
    let mut wrong = Vec::new();
    // What nobody reads, the kernel's buffers take: the window of a live tunnel opens again and again.
    let mut rows = cases::all(&target);
    rows.retain(|row| row.what != "more than the window that was granted");
    scene.runtime.block_on(async {
        for row in &rows {
            let stream = scene.secured().await.unwrap();
            if let Err(error) = suite::check(stream, row, &target, Codes::OrCut).await {
                wrong.push(error.to_string());
            }
        }
    });
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    scene.world.client.exchange("10.96.0.80:80", b"served").unwrap();
}

/// Bytes that are no TLS, TLS that never ends, and connections that say nothing.
#[test]
fn what_never_becomes_a_tunnel_harms_nobody() {
    let scene = Scene::new(&[]);
    let (alone, rest) = meanwhile(&scene, || {});
    let (count, slowest) = meanwhile(&scene, || {
        let mut held = Vec::new();
        for n in 0..300 {
            let mut stream = scene.dial();
            let garbage: &[u8] = match n % 5 {
                0 => b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
                1 => PREFACE,
                2 => &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
                3 => &[0xff; 600],
                _ => b"",
            };
            // The proxy may have closed it already.
            let _sent = stream.write_all(garbage);
            held.push(stream);
        }
        // What cannot be TLS is closed at once.
        for (n, stream) in held.iter_mut().enumerate().filter(|(n, _)| [0, 1, 3].contains(&(n % 5))) {
            stream.set_read_timeout(Some(lab::PATIENCE)).unwrap();
            let ended = stream.read_to_end(&mut Vec::new());
            assert!(!ended.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), "{n} is still open");
        }
    });
    println!("neighbour alone: {alone} exchanges, p99 {rest:?}; beside 300 half-open peers: {count}, p99 {slowest:?}");
}

/// A peer with a good certificate floods; its neighbours go on, and its own connections end.
#[test]
fn a_flood_of_requests_harms_nobody_else() {
    let scene = Scene::new(&[]);
    scene.application(ECHO, true);
    let authority = format!("{SERVER}:{ECHO}");
    let block = Vec::from(Block::connect(&authority));
    let (alone, rest) = meanwhile(&scene, || {});
    let (count, slowest) = meanwhile(&scene, || {
        scene.runtime.block_on(async {
            for _ in 0..3 {
                let mut peer = Peer::new(scene.secured().await.unwrap());
                peer.greet(&[]).await.unwrap();
                let pairs = (0..20_000_u32)
                    .map(|n| bytes(&[Frame::headers(2 * n + 1, &block[..]), Frame::reset(2 * n + 1, code::CANCEL)]));
                for portion in pairs.collect::<Vec<_>>().chunks(200) {
                    peer.send(&portion.concat()).await;
                    while !peer.has_ended() && peer.try_next().is_some() {}
                    if peer.has_ended() {
                        break;
                    }
                }
                while !peer.has_ended() && peer.next().await.is_some() {}
                assert!(peer.has_ended(), "the flood goes on");
            }
        });
    });
    println!("neighbour alone: {alone} exchanges, p99 {rest:?}; beside a flood: {count}, p99 {slowest:?}");
}

fn reached(node: &Node, limit: &str) {
    let line = format!("istio_pod_limits_reached_total{{limit=\"{limit}\"}}");
    node.metrics_until(|text| text.contains(&line));
}

#[test]
fn connections_beyond_a_pods_limit_are_refused_until_others_end() {
    let scene = Scene::new(&[("POD_MAX_CONNECTIONS", "5")]);
    let application = format!("{SERVER}:8080");
    let open = || {
        let mut stream = scene.world.outside.connect(&application)?;
        greeting(&mut stream).map(|_| stream)
    };
    let held: Vec<_> = (0..5).map(|_| open().unwrap()).collect();
    open().unwrap_err();
    reached(&scene.world.n2, "connections");
    drop(held);
    let begun = Instant::now();
    while open().is_err() {
        assert!(begun.elapsed() < lab::PATIENCE, "what has ended is not given back");
    }
}

#[test]
fn half_open_handshakes_of_one_peer_leave_room_for_others() {
    let scene = Scene::new(&[("POD_MAX_HANDSHAKES", "8")]);
    let held: Vec<_> = (0..20).map(|_| scene.dial()).collect();
    reached(&scene.world.n2, "handshakes");
    scene.world.client.exchange("10.96.0.80:80", b"another peer").unwrap();
    drop(held);
}

#[test]
fn tunnels_beyond_a_pods_limit_are_answered_with_503() {
    let scene = Scene::new(&[("POD_MAX_STREAMS", "3")]);
    scene.application(ECHO, true);
    let echo = format!("{SERVER}:{ECHO}");
    scene.runtime.block_on(async {
        let mut peer = Peer::new(scene.secured().await.unwrap());
        peer.greet(&[]).await.unwrap();
        for stream in [1, 3, 5] {
            assert_eq!(peer.connect(stream, &echo).await.unwrap(), 200);
        }
        assert_eq!(peer.connect(7, &echo).await.unwrap(), 503);
        // The end of one makes room for one.
        peer.send(&Frame::data(1, []).with_flags(flag::END_STREAM).bytes()).await;
        let (begun, mut stream) = (Instant::now(), 9);
        while peer.connect(stream, &echo).await.unwrap() == 503 {
            assert!(begun.elapsed() < lab::PATIENCE, "what has ended is not given back");
            stream += 2;
        }
    });
    reached(&scene.world.n2, "streams");
}

/// Near its limit a pod's new peers get narrow windows, and beyond it none.
#[test]
fn bytes_in_flight_to_a_pod_are_bounded() {
    let scene = Scene::new(&[("POD_MAX_BUFFERED_BYTES", "23068672")]);
    let window = |stream: ClientStream<tokio::net::TcpStream>| async {
        let mut peer = Peer::new(stream);
        peer.send(&[PREFACE, &Frame::settings(&[]).bytes()].concat()).await;
        let mut settings = Vec::new();
        peer.until("SETTINGS", |event| match event {
            testkit::http2::Event::Frame(frame) if frame.kind == testkit::http2::kind::SETTINGS => {
                settings = frame.payload.clone();
                true
            }
            _ => false,
        })
        .await?;
        let value = settings.chunks(6).find(|setting| setting[..2] == [0, 4]).unwrap();
        anyhow::Ok((peer, u32::from_be_bytes(value[2..].try_into().unwrap())))
    };
    scene.runtime.block_on(async {
        let (_first, wide) = window(scene.secured().await.unwrap()).await.unwrap();
        let (_second, narrow) = window(scene.secured().await.unwrap()).await.unwrap();
        assert_eq!((wide, narrow), (4 << 20, 64 << 10));
        let mut more = Vec::new();
        while let Ok((peer, granted)) = window(scene.secured().await.unwrap()).await {
            assert_eq!(granted, narrow);
            more.push(peer);
            assert!(more.len() < 30, "windows are granted without end");
        }
    });
    reached(&scene.world.n2, "buffered_bytes");
}
