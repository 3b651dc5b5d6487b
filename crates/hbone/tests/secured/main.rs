//! Tunnels over the mesh's TLS between two real identities: one layer, two layers within each other, and records that our own
//! framing opens in place against a peer whose TLS is rustls's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hbone::{Carrier, Connect, ConnectRequest, Incoming, Key, OpenError, Pool, PoolOptions, ServerOptions};
use http::{HeaderMap, StatusCode};
use identity::{
    Issuer, IssuerSource, KeyKind, WorkloadCertificate,
    tls::{ClientStream, HandshakeError},
};
use model::Identity;
use runtime::{clock::Clock, drain::Drain};
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

/// Certificates of one authority.
struct Mesh(IssuerSource);

impl Mesh {
    fn new() -> Self {
        let clock = Clock::system();
        let issuer = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, clock.now()).unwrap();
        Self(IssuerSource::new(Arc::new(issuer), Duration::from_secs(3_600), clock))
    }

    fn certificate(&self, account: &str) -> Arc<WorkloadCertificate> {
        Arc::new(self.0.certificate(&identity(account)).unwrap())
    }
}

fn request(authority: &str) -> ConnectRequest {
    ConnectRequest {
        authority: authority.parse().unwrap(),
        baggage: None,
        forwarded_for: "10.0.0.1:4000".parse().unwrap(),
        forwarded_host: None,
        traceparent: Some(hbone::traceparent()),
        forwarded_network: None,
    }
}

fn key(expected: &str) -> Key {
    Key {
        source: identity("client"),
        expected: Arc::new([identity(expected)]),
        destination: "10.0.0.2:15008".parse().unwrap(),
        source_ip: "10.0.0.1".parse().unwrap(),
    }
}

/// Accepts one connection as `server`; each tunnel is handled by `handler` together with who it is from.
fn serve<IO, H, F>(io: IO, server: Arc<WorkloadCertificate>, handler: H)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Identity, Incoming) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let (_drain, watch) = Drain::new();
        let Ok((stream, peer)) = server.accept(io).await else { return };
        let _ended =
            hbone::serve(stream, ServerOptions::default(), watch, |incoming| handler(peer.clone(), incoming)).await;
    });
}

/// Dials a peer in memory that echoes.
struct Dialer {
    client: Arc<WorkloadCertificate>,
    server: Arc<WorkloadCertificate>,
}

impl Connect for Dialer {
    type Io = ClientStream<DuplexStream>;
    type Peer = ();

    async fn connect(&self, key: &Key) -> Result<(Self::Io, ()), OpenError> {
        let (near, far) = tokio::io::duplex(64 << 10);
        serve(far, self.server.clone(), echo);
        Ok((secured(&self.client, &key.expected, near).await?, ()))
    }
}

async fn secured<IO>(client: &WorkloadCertificate, expected: &[Identity], io: IO) -> Result<ClientStream<IO>, OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = client.connect(expected, io).await;
    handshake.map(|(stream, _)| stream).map_err(|error: HandshakeError| OpenError::Tls(error.to_string()))
}

/// Sends back what comes, to the one client that is expected.
async fn echo(peer: Identity, incoming: Incoming) {
    if peer != identity("client") {
        return incoming.reject(StatusCode::UNAUTHORIZED);
    }
    let (mut read, mut write) = tokio::io::split(incoming.accept(HeaderMap::new()).unwrap());
    let _copied = tokio::io::copy(&mut read, &mut write).await;
    let _ended = write.shutdown().await;
}

/// Sends `data` and its end, and gives what comes back until the other end.
async fn round_trip(stream: impl AsyncRead + AsyncWrite + Send + 'static, data: Vec<u8>) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        write.write_all(&data).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await.unwrap();
    sending.await.unwrap();
    back
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn a_tunnel_between_two_identities_carries_more_than_its_windows() {
    let mesh = Mesh::new();
    let dialer = Dialer { client: mesh.certificate("client"), server: mesh.certificate("web") };
    let pool = Pool::new(dialer, PoolOptions::default());
    let data = noise(20 << 20);
    let one = pool.open(&key("web"), &request("10.0.0.2:80")).await.unwrap();
    let two = pool.open(&key("web"), &request("10.0.0.2:80")).await.unwrap();
    let (one, two) = tokio::join!(round_trip(one.stream, data.clone()), round_trip(two.stream, noise(1_000)));
    assert!(one == data && two == noise(1_000));
    assert_eq!(pool.connections(), 1);
}

#[tokio::test]
async fn a_peer_that_is_somebody_else_is_a_tls_error_in_upstreams_words() {
    let mesh = Mesh::new();
    let dialer = Dialer { client: mesh.certificate("client"), server: mesh.certificate("web") };
    let pool = Pool::new(dialer, PoolOptions::default());
    let error = pool.open(&key("db"), &request("10.0.0.2:80")).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::Tls(_)) && text.contains("peer did not present the expected SAN"), "{text}");
    assert_eq!(pool.connections(), 0);
}

#[tokio::test]
async fn two_layers_pass_a_gateway_that_sees_only_the_outer_one() {
    let mesh = Mesh::new();
    let (client, gateway, server) = (mesh.certificate("client"), mesh.certificate("gateway"), mesh.certificate("web"));
    let (near, far) = tokio::io::duplex(64 << 10);
    // The gateway hands the inner bytes on to the server, whatever they are.
    serve(far, gateway, move |peer, incoming| {
        assert_eq!(peer, identity("client"));
        assert_eq!(incoming.forwarded_network(), None, "the outer request names no network");
        let server = server.clone();
        async move {
            let outer = incoming.accept(HeaderMap::new()).unwrap();
            serve(outer, server, |peer, incoming| {
                assert_eq!(incoming.forwarded_network(), Some("network-1"));
                echo(peer, incoming)
            });
        }
    });
    let outer_io = secured(&client, &[identity("gateway")], near).await.unwrap();
    let outer = hbone::connect_once(outer_io, &request("web.shop.svc.cluster.local:80")).await.unwrap();
    let inner_io = secured(&client, &[identity("web")], outer.stream).await.unwrap();
    let inner_request =
        ConnectRequest { forwarded_network: Some("network-1".to_owned()), ..request("web.shop.svc.cluster.local:80") };
    let inner = hbone::connect_once(inner_io, &inner_request).await.unwrap();
    let data = noise(6 << 20);
    assert!(round_trip(inner.stream, data.clone()).await == data);
}

/// Who uses the keys at each end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Our own framing, in place.
    InPlace,
    /// rustls, as a byte stream.
    Stream,
}

/// A client and a server that meet over TLS, each with its own use of the keys; gives the client's stream.
async fn met(mesh: &Mesh, client: Keys, server: Keys) -> hbone::TunnelStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (web, own) = (mesh.certificate("web"), mesh.certificate("client"));
    tokio::spawn(async move {
        let (_drain, watch) = Drain::new();
        let carrier: Carrier = match server {
            Keys::InPlace => {
                let sealed = web.accept_sealed(far).await.unwrap();
                assert_eq!((&sealed.peer, sealed.chain.len()), (&identity("client"), 1));
                Carrier::sealed(sealed)
            }
            Keys::Stream => web.accept(far).await.unwrap().0.into(),
        };
        let handler = |incoming| echo(identity("client"), incoming);
        let _ended = hbone::serve(carrier, ServerOptions::default(), watch, handler).await;
    });
    let expected = [identity("web")];
    let carrier: Carrier = match client {
        Keys::InPlace => Carrier::sealed(own.connect_sealed(&expected, near).await.unwrap()),
        Keys::Stream => own.connect(&expected, near).await.unwrap().0.into(),
    };
    hbone::connect_once(carrier, &request("10.0.0.2:80")).await.unwrap().stream
}

#[rstest::rstest]
#[tokio::test]
async fn records_in_place_and_rustls_understand_each_other(
    #[values(Keys::InPlace, Keys::Stream)] client: Keys,
    #[values(Keys::InPlace, Keys::Stream)] server: Keys,
) {
    let stream = met(&Mesh::new(), client, server).await;
    let data = noise(9 << 20);
    assert!(round_trip(stream, data.clone()).await == data);
}

#[tokio::test]
async fn a_sealed_handshake_fails_in_upstreams_words() {
    let mesh = Mesh::new();
    let (near, far) = tokio::io::duplex(64 << 10);
    let (web, client) = (mesh.certificate("web"), mesh.certificate("client"));
    let expected = [identity("db")];
    let (connected, accepted) = tokio::join!(client.connect_sealed(&expected, near), web.accept_sealed(far));
    let text = connected.unwrap_err().to_string();
    assert!(text.contains("peer did not present the expected SAN"), "{text}");
    // The other side is told by an alert.
    let text = accepted.unwrap_err().to_string();
    assert!(text.contains("alert"), "{text}");
}
