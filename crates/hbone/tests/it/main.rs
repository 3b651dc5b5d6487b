//! Both ends of a tunnel over in-memory pipes, with paused time: each framing with itself and with the other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use hbone::{
    Authority, Baggage, Connect, ConnectRequest, Engine, Incoming, Key, OpenError, Pool, PoolOptions, ServerOptions,
};
use http::{HeaderMap, StatusCode};
use model::Identity;
use runtime::drain::{self, Drain};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::Notify,
};

/// What does the framing at each end.
#[derive(Debug, Clone, Copy)]
struct Engines {
    client: Engine,
    server: Engine,
}

impl Engines {
    fn server(self) -> ServerOptions {
        ServerOptions { engine: self.server, ..ServerOptions::default() }
    }
}

macro_rules! over_every_pair_of_engines {
    ($($module:ident: $client:ident to $server:ident;)*) => {
        $(mod $module {
            use super::{Engine, Engines};
            const ENGINES: Engines = Engines { client: Engine::$client, server: Engine::$server };
            over_every_pair_of_engines!(@tests);
        })*
    };
    (@tests) => {
        over_every_pair_of_engines!(@tests
            bytes_go_both_ways_and_each_way_ends_on_its_own,
            a_refusal_is_told_by_its_status,
            a_stalled_stream_does_not_hold_up_its_siblings,
            a_full_connection_serves_again_when_streams_end,
            fewer_streams_when_the_peer_wants_fewer,
            everyone_who_waits_shares_one_attempt_and_its_failure,
            an_idle_connection_is_let_go,
            a_draining_peer_finishes_streams_and_new_ones_go_elsewhere,
            a_reset_is_a_reset_at_the_other_end,
            a_silent_peer_is_dropped_and_a_speaking_one_is_not,
            a_server_that_gives_a_connection_up_ends_its_tunnels_at_both_ends,
            cutting_a_destination_ends_its_tunnels,
            our_first_frames_are_upstreams
        );
    };
    (@tests $($test:ident),*) => {
        $(#[tokio::test(start_paused = true)]
        async fn $test() {
            super::$test(ENGINES).await;
        })*
    };
}

over_every_pair_of_engines! {
    own: Own to Own;
    reference: Reference to Reference;
    own_to_reference: Own to Reference;
    reference_to_own: Reference to Own;
}

fn request(authority: &str) -> ConnectRequest {
    ConnectRequest {
        authority: authority.parse().unwrap(),
        baggage: Baggage { namespace: "shop".into(), ..Baggage::default() }.header(),
        forwarded_for: "10.0.0.1:4000".parse().unwrap(),
        forwarded_host: Some("web.shop".into()),
        traceparent: Some(hbone::traceparent()),
        forwarded_network: None,
    }
}

fn key() -> Key {
    Key {
        source: Identity::new("cluster.local", "shop", "client").unwrap(),
        expected: Arc::new([Identity::new("cluster.local", "shop", "web").unwrap()]),
        destination: "10.0.0.2:15008".parse().unwrap(),
        source_ip: "10.0.0.1".parse().unwrap(),
    }
}

/// A peer in memory: port 200 echoes, any other port is the status to answer.
struct Peer {
    connections: AtomicUsize,
    fail: AtomicBool,
    gate: Notify,
    gated: bool,
    drain: drain::Watch,
    max_streams: u32,
    engines: Engines,
}

#[derive(Clone)]
struct ToPeer(Arc<Peer>);

impl Connect for ToPeer {
    type Io = DuplexStream;
    type Peer = ();

    async fn connect(&self, _: &Key) -> Result<(DuplexStream, ()), OpenError> {
        if self.0.gated {
            self.0.gate.notified().await;
        }
        if self.0.fail.load(Ordering::SeqCst) {
            return Err(OpenError::Connect("refused".into()));
        }
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let options = ServerOptions { max_streams: self.0.max_streams, ..self.0.engines.server() };
        tokio::spawn(hbone::serve(theirs, options, self.0.drain.clone(), echo));
        Ok((ours, ()))
    }
}

async fn echo(incoming: Incoming) {
    assert_eq!(incoming.baggage().namespace, "shop");
    assert_eq!(hbone::forwarded_host(incoming.headers()), Some("web.shop"));
    assert!(hbone::span_id(incoming.headers()).is_some());
    let port = incoming.authority().unwrap().port();
    if port != 200 {
        return incoming.reject(StatusCode::from_u16(port).unwrap());
    }
    let mut headers = HeaderMap::new();
    headers.insert("baggage", "service.name=web".parse().unwrap());
    let stream = incoming.accept(headers).unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let _copied = tokio::io::copy(&mut read, &mut write).await;
    let _ended = write.shutdown().await;
}

fn peer(engines: Engines, change: impl FnOnce(&mut Peer)) -> (Arc<Peer>, Drain) {
    let (drain, watch) = Drain::new();
    let mut peer = Peer {
        connections: AtomicUsize::new(0),
        fail: AtomicBool::new(false),
        gate: Notify::new(),
        gated: false,
        drain: watch,
        max_streams: 200,
        engines,
    };
    change(&mut peer);
    (Arc::new(peer), drain)
}

fn pool(peer: &Arc<Peer>) -> Pool<ToPeer> {
    Pool::new(ToPeer(Arc::clone(peer)), PoolOptions { engine: peer.engines.client, ..PoolOptions::default() })
}

async fn bytes_go_both_ways_and_each_way_ends_on_its_own(engines: Engines) {
    let (peer, _drain) = peer(engines, |_| {});
    let mut opened = pool(&peer).open(&key(), &request("10.0.0.2:200")).await.unwrap();
    assert_eq!(Baggage::from_headers(&opened.headers).service, "web");
    opened.stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    opened.stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    opened.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    opened.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

async fn a_refusal_is_told_by_its_status(engines: Engines) {
    let (peer, _drain) = peer(engines, |_| {});
    let pool = pool(&peer);
    for status in [400, 401, 503] {
        let error = pool.open(&key(), &request(&format!("10.0.0.2:{status}"))).await.unwrap_err();
        assert_eq!(error, OpenError::Status(status));
    }
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1, "a refusal costs no connection");
}

async fn a_stalled_stream_does_not_hold_up_its_siblings(engines: Engines) {
    let (peer, _drain) = peer(engines, |_| {});
    let pool = pool(&peer);
    let mut stalled = pool.open(&key(), &request("10.0.0.2:200")).await.unwrap().stream;
    // More than a stream's window in either direction: nobody reads the echo.
    let flood = tokio::spawn(async move {
        let chunk = vec![7; 1 << 20];
        for _ in 0..12 {
            stalled.write_all(&chunk).await?;
        }
        Ok::<_, io::Error>(stalled)
    });
    let mut busy = pool.open(&key(), &request("10.0.0.2:200")).await.unwrap().stream;
    for _ in 0..8 {
        let sent = vec![1; 256 << 10];
        busy.write_all(&sent).await.unwrap();
        let mut back = vec![0; sent.len()];
        busy.read_exact(&mut back).await.unwrap();
        assert_eq!(sent, back);
    }
    flood.abort();
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1);
}

async fn a_full_connection_serves_again_when_streams_end(engines: Engines) {
    let (peer, _drain) = peer(engines, |_| {});
    let pool = pool(&peer);
    let mut streams = Vec::new();
    for _ in 0..150 {
        streams.push(pool.open(&key(), &request("10.0.0.2:200")).await.unwrap());
    }
    assert_eq!(pool.connections(), 2);
    streams.clear();
    for _ in 0..150 {
        streams.push(pool.open(&key(), &request("10.0.0.2:200")).await.unwrap());
    }
    assert_eq!((pool.connections(), peer.connections.load(Ordering::SeqCst)), (2, 2));
}

async fn fewer_streams_when_the_peer_wants_fewer(engines: Engines) {
    let (peer, _drain) = peer(engines, |peer| peer.max_streams = 3);
    let pool = pool(&peer);
    let mut streams = Vec::new();
    for _ in 0..7 {
        streams.push(pool.open(&key(), &request("10.0.0.2:200")).await.unwrap());
    }
    assert_eq!(pool.connections(), 3);
}

async fn everyone_who_waits_shares_one_attempt_and_its_failure(engines: Engines) {
    let (peer, _drain) = peer(engines, |peer| {
        peer.gated = true;
        peer.fail = AtomicBool::new(true);
    });
    let pool = Arc::new(pool(&peer));
    let waiters: Vec<_> = (0..32)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.open(&key(), &request("10.0.0.2:200")).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    peer.gate.notify_waiters();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Err(OpenError::Connect("refused".into())));
    }
    peer.fail.store(false, Ordering::SeqCst);
    let again = tokio::spawn(async move { pool.open(&key(), &request("10.0.0.2:200")).await.map(drop) });
    tokio::task::yield_now().await;
    peer.gate.notify_one();
    assert_eq!(again.await.unwrap(), Ok(()));
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1);
}

async fn an_idle_connection_is_let_go(engines: Engines) {
    let (peer, _drain) = peer(engines, |_| {});
    let pool = pool(&peer);
    drop(pool.open(&key(), &request("10.0.0.2:200")).await.unwrap());
    tokio::time::advance(Duration::from_secs(200)).await;
    drop(pool.open(&key(), &request("10.0.0.2:200")).await.unwrap());
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1);
    for _ in 0..40 {
        tokio::time::advance(Duration::from_secs(10)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.connections(), 0);
}

async fn a_draining_peer_finishes_streams_and_new_ones_go_elsewhere(engines: Engines) {
    let (peer, drain) = peer(engines, |_| {});
    let pool = pool(&peer);
    let mut old = pool.open(&key(), &request("10.0.0.2:200")).await.unwrap().stream;
    drain.start();
    old.write_all(b"still here").await.unwrap();
    let mut answer = [0; 10];
    old.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"still here");
    // The peer drains for good here, so the new connection is told to go as well; what matters is that one was made.
    let _new = pool.open(&key(), &request("10.0.0.2:200")).await;
    assert!(peer.connections.load(Ordering::SeqCst) >= 2);
}

async fn a_reset_is_a_reset_at_the_other_end(engines: Engines) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (_drain, watch) = Drain::new();
    tokio::spawn(hbone::serve(theirs, engines.server(), watch, |incoming| async move {
        let mut stream = incoming.accept(HeaderMap::new()).unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        stream.reset();
    }));
    let mut opened = hbone::connect_once(ours, &request("10.0.0.2:200")).await.unwrap();
    opened.stream.write_all(&[1]).await.unwrap();
    let error = opened.stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

async fn a_silent_peer_is_dropped_and_a_speaking_one_is_not(engines: Engines) {
    // Never answers anything after the handshake, and closes nothing.
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let (_drain, watch) = Drain::new();
    let served = tokio::spawn(hbone::serve(ours, engines.server(), watch, |_| async {}));
    theirs.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(served.await.unwrap().is_err());
    assert_eq!(begun.elapsed().as_secs(), 30);

    let (peer, _drain) = peer(engines, |_| {});
    let pool = pool(&peer);
    let mut stream = pool.open(&key(), &request("10.0.0.2:200")).await.unwrap().stream;
    tokio::time::sleep(Duration::from_secs(120)).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

async fn a_server_that_gives_a_connection_up_ends_its_tunnels_at_both_ends(engines: Engines) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (_drain, watch) = Drain::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let served = tokio::spawn(hbone::serve(theirs, engines.server(), watch, move |incoming| {
        let tell = tell.lock().unwrap().take().unwrap();
        async move {
            let mut stream = incoming.accept(HeaderMap::new()).unwrap();
            let _told = tell.send(stream.read_u8().await.is_err());
        }
    }));
    let mut opened = hbone::connect_once(ours, &request("10.0.0.2:200")).await.unwrap();
    served.abort();
    assert!(opened.stream.read_u8().await.is_err());
    assert!(told.await.unwrap());
}

async fn cutting_a_destination_ends_its_tunnels(engines: Engines) {
    let (peer, _drain) = peer(engines, |_| {});
    let pool = pool(&peer);
    let mut stream = pool.open(&key(), &request("10.0.0.2:200")).await.unwrap().stream;
    pool.cut_destination("10.0.0.9".parse().unwrap());
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    pool.cut_destination("10.0.0.2".parse().unwrap());
    assert!(stream.read_u8().await.is_err());
}

async fn our_first_frames_are_upstreams(engines: Engines) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let opening = tokio::spawn(async move { hbone::connect_once(ours, &request("172.30.1.254:9000")).await });
    // Preface, SETTINGS {2:0, 4:4194304, 5:1048576, 6:16384}, WINDOW_UPDATE 16711681.
    let golden = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &unhex("000018040000000000000200000000000400400000000500100000000600004000"),
        &unhex("00000408000000000000ff0001"),
    ]
    .concat();
    let mut sent = vec![0; golden.len()];
    theirs.read_exact(&mut sent).await.unwrap();
    assert_eq!(Bytes::from(sent), Bytes::from(golden));
    opening.abort();

    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let (_drain, watch) = Drain::new();
    tokio::spawn(hbone::serve(ours, engines.server(), watch, |_| async {}));
    theirs.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let golden = unhex("0000180400000000000003000000c8000400400000000500100000000600010000");
    let mut sent = vec![0; golden.len()];
    theirs.read_exact(&mut sent).await.unwrap();
    assert_eq!(Bytes::from(sent), Bytes::from(golden));
}

#[test]
fn a_hostname_can_be_asked_for() {
    assert_eq!("web.shop:80".parse::<Authority>().unwrap(), Authority::Hostname("web.shop".into(), 80));
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
