//! Outgoing sockets of a pod, and TLS over them: what a tunnel's connection is made of.

use crate::{certificates::certificate, pod::Pod, proxy::Proxy};
use hbone::{Connect, Key, OpenError};
use identity::tls::{self, HANDSHAKE_TIMEOUT, TlsStream};
use linux::{
    netns::NetNs,
    socket::{self, ConnectOptions, Keepalive},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections from within one pod.
#[derive(Debug)]
pub(crate) struct Dialer {
    namespace: NetNs,
    proxy: Arc<Proxy>,
}

impl Dialer {
    /// Connections will come from `pod`.
    pub(crate) fn new(pod: &Pod) -> Self {
        Self { namespace: pod.namespace.clone(), proxy: pod.proxy.clone() }
    }
}

/// Connects from within a namespace, marked as the proxy's; as `source` if that is given.
pub(crate) async fn connect(
    namespace: &NetNs,
    proxy: &Proxy,
    destination: SocketAddr,
    source: Option<IpAddr>,
) -> Result<TcpStream, linux::Error> {
    let sockets = &proxy.config.sockets;
    let keepalive = sockets.keepalive.then_some(Keepalive {
        time: sockets.keepalive_time,
        interval: sockets.keepalive_interval,
        retries: sockets.keepalive_retries,
    });
    let probing = sockets.keepalive_time + sockets.keepalive_interval * sockets.keepalive_retries;
    let options = ConnectOptions {
        mark: Some(sockets.mark),
        source,
        keepalive,
        user_timeout: sockets.user_timeout.then_some(probing),
    };
    socket::connect(Some(namespace), destination, &options, CONNECT_TIMEOUT).await
}

/// TLS over `io` under the key's source identity, towards one of the expected ones.
pub(crate) async fn secure<IO>(proxy: &Proxy, key: &Key, io: IO) -> Result<TlsStream<IO>, OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let certificate = certificate(&proxy.certificates, &key.source).await.map_err(OpenError::Identity)?;
    let handshake = certificate.connector(&key.expected).connect(tls::nameless(), io);
    match time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(stream.into()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(OpenError::Tls(error.to_string())),
        Ok(Err(error)) => Err(OpenError::Connect(format!("in the TLS handshake: {error}"))),
        Err(_) => Err(OpenError::Tls(format!("no handshake within {HANDSHAKE_TIMEOUT:?}"))),
    }
}

impl Connect for Dialer {
    type Io = TlsStream<TcpStream>;

    async fn connect(&self, key: &Key) -> Result<Self::Io, OpenError> {
        let stream = connect(&self.namespace, &self.proxy, key.destination, None).await.map_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                OpenError::Timeout(CONNECT_TIMEOUT)
            } else {
                OpenError::Connect(error.to_string())
            }
        })?;
        secure(&self.proxy, key, stream).await
    }
}
