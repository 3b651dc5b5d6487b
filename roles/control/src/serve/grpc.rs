//! The gRPC ports: TLS with authentication, and plaintext without any.

use super::{Certificates, Serving, XdsGate, caller::Peer};
use futures_util::{Stream, StreamExt, stream};
use identity::https::{ServerStream, client_subject};
use proto::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic::transport::{Server, server::Connected};
use xds::server as xds_server;

const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Calls at a time on one connection: a proxy has one stream, and asks for a few certificates.
const STREAMS: u32 = 64;
/// Bytes that a caller may send before they are read.
const WINDOW: u32 = 256 << 10;
/// Handshakes under way at a time.
const HANDSHAKES: usize = 256;

/// What is served.
#[derive(Debug)]
pub struct Services {
    /// xDS.
    pub xds: xds_server::Server<XdsGate>,
    /// The authority; the plaintext port has none.
    pub certificates: Option<Certificates>,
}

/// Serves with TLS until `shutdown` is done.
pub async fn secure(
    listener: TcpListener,
    tls: Serving,
    services: Services,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let (handshaken, connections) = mpsc::channel(HANDSHAKES);
    let accepting = runtime::task::spawn("grpc accept", accept(listener, tls, handshaken));
    let incoming = tokio_stream::wrappers::ReceiverStream::new(connections).map(Ok);
    let served = serve(services, incoming, shutdown).await;
    accepting.abort();
    served
}

/// Serves without TLS until `shutdown` is done. Whoever reaches the port is told everything, and is signed nothing.
pub async fn plaintext(
    listener: TcpListener,
    services: Services,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let incoming = stream::unfold(listener, |listener| async move {
        let stream = next(&listener).await;
        let peer = Peer { trusted_port: true, ..Peer::default() };
        Some((Ok(Connection::new(Transport::Plain(stream), peer)), listener))
    });
    serve(services, Box::pin(incoming), shutdown).await
}

async fn serve(
    services: Services,
    incoming: impl Stream<Item = io::Result<Connection>>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS))
        .initial_stream_window_size(Some(WINDOW))
        .initial_connection_window_size(Some(2 * WINDOW))
        .add_service(services.xds.into_service())
        .add_optional_service(services.certificates.map(IstioCertificateServiceServer::new))
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
}

/// The next connection; running out of descriptors is waited out.
async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers should not wait for more; without it they arrive later, not wrongly.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!("accepting a gRPC connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Accepts and shakes hands, many at a time, so that a silent peer holds nobody up.
async fn accept(listener: TcpListener, tls: Serving, handshaken: mpsc::Sender<Connection>) {
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(HANDSHAKES));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = std::sync::Arc::clone(&permits).acquire_owned().await else { return };
        let stream = next(&listener).await;
        let (tls, handshaken) = (tls.clone(), handshaken.clone());
        runtime::task::spawn("grpc handshake", async move {
            match tls.grpc.accept(stream).await {
                Ok(stream) => {
                    let identity = client_subject(&stream).and_then(|subject| subject.identity);
                    let peer = Peer { identity, ..Peer::default() };
                    // Nobody receives while the process ends.
                    let _ = handshaken.send(Connection::new(Transport::Tls(Box::new(stream)), peer)).await;
                }
                Err(error) => tracing::debug!("a TLS handshake failed: {error}"),
            }
            drop(permit);
        });
    }
}

/// A connection and what is known of its peer.
struct Connection {
    io: Transport,
    peer: Peer,
    /// Done when the connection is to be ended whatever its peer does.
    hung_up: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Connection {
    fn new(io: Transport, peer: Peer) -> Self {
        let hangup = peer.hangup.clone();
        Self { io, peer, hung_up: Some(Box::pin(async move { hangup.hung_up().await })) }
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<ServerStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // HTTP/2 reads all the time, so this is looked at whenever it happens.
        if self.hung_up.as_mut().is_none_or(|hung_up| hung_up.as_mut().poll(cx).is_ready()) {
            self.hung_up = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.io {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
