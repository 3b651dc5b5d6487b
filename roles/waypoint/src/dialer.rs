//! Streams to endpoints: through a tunnel that ends at the endpoint's own identity, or plain where the endpoint has none.

use crate::proxy::Proxy;
use hbone::{Authority, Baggage, ConnectRequest, Key, OpenError, Pool, PoolOptions, TunnelStream};
use identity::tls::{self, HANDSHAKE_TIMEOUT, TlsStream};
use l7::balance::Endpoint;
use linux::socket::{self, ConnectOptions, Keepalive};
use model::{TunnelProtocol, well_known};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the streams of one thread.
#[derive(Debug)]
pub(crate) struct Dialer {
    proxy: Arc<Proxy>,
    tunnels: Pool<Secure>,
}

/// Makes the connections that tunnels run in.
#[derive(Debug)]
struct Secure(Arc<Proxy>);

/// A stream to an endpoint.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In a tunnel.
    Tunnel(TunnelStream),
    /// Plain.
    Plain(TcpStream),
}

impl Dialer {
    /// A dialer for the present thread.
    pub(crate) fn new(proxy: Arc<Proxy>) -> Self {
        let options = PoolOptions { idle: Duration::from_secs(3600), ..PoolOptions::default() };
        Self { tunnels: Pool::new(Secure(proxy.clone()), options), proxy }
    }

    /// A stream to an endpoint for a client; an HTTP connection, which many clients share, is nobody's but ours.
    pub(crate) async fn open(&self, endpoint: &Endpoint, client: Option<SocketAddr>) -> Result<Stream, OpenError> {
        let workload = &endpoint.workload;
        if workload.tunnel_protocol == TunnelProtocol::None {
            return tcp(endpoint.address).await.map(Stream::Plain);
        }
        let own = self.proxy.config.address;
        let key = Key {
            source: self.proxy.config.identity.clone(),
            expected: Arc::from([workload.identity()]),
            destination: SocketAddr::new(endpoint.address.ip(), well_known::HBONE_PORT),
            source_ip: own,
        };
        let baggage = self.proxy.workload_at(own).and_then(|workload| Baggage::of(&workload).header());
        let request = ConnectRequest {
            authority: Authority::Address(endpoint.address),
            baggage,
            forwarded_for: client.unwrap_or_else(|| SocketAddr::new(own, 0)),
            forwarded_host: None,
            traceparent: Some(hbone::traceparent()),
            forwarded_network: None,
        };
        Ok(Stream::Tunnel(self.tunnels.open(&key, &request).await?.stream))
    }
}

async fn tcp(destination: SocketAddr) -> Result<TcpStream, OpenError> {
    let options = ConnectOptions { keepalive: Some(Keepalive::default()), ..ConnectOptions::default() };
    socket::connect(None, destination, &options, CONNECT_TIMEOUT).await.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => OpenError::Timeout(CONNECT_TIMEOUT),
        _ => OpenError::Connect(error.to_string()),
    })
}

impl hbone::Connect for Secure {
    type Io = TlsStream<TcpStream>;
    type Peer = ();

    async fn connect(&self, key: &Key) -> Result<(Self::Io, ()), OpenError> {
        let stream = tcp(key.destination).await?;
        let certificate = self.0.certificate().await.map_err(OpenError::Identity)?;
        let handshake = certificate.connector(&key.expected).connect(tls::nameless(), stream);
        match time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok((stream.into(), ())),
            Ok(Err(error)) => Err(OpenError::Tls(error.to_string())),
            Err(_) => Err(OpenError::Tls(format!("no handshake within {HANDSHAKE_TIMEOUT:?}"))),
        }
    }
}

impl l7::http::Connect for Dialer {
    type Io = Stream;

    async fn connect(&self, endpoint: &Endpoint, within: Option<Duration>) -> Result<Stream, String> {
        let within = within.unwrap_or(CONNECT_TIMEOUT);
        match time::timeout(within, self.open(endpoint, None)).await {
            Ok(opened) => opened.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection to {} within {within:?}", endpoint.address)),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
