//! TLS over outgoing sockets of a pod: what a tunnel's connection is made of.

use crate::{certificates::certificate, pod::Pod, proxy::Proxy};
use hbone::{Connect, Key, OpenError};
use identity::tls::{self, HANDSHAKE_TIMEOUT, TlsStream};
use inpod::{Sockets, sockets::CONNECT_TIMEOUT};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};

/// Makes connections from within one pod.
#[derive(Debug)]
pub(crate) struct Dialer {
    sockets: Arc<Sockets>,
    proxy: Arc<Proxy>,
}

impl Dialer {
    /// Connections will come from `pod`.
    pub(crate) fn new(pod: &Pod) -> Self {
        Self { sockets: pod.sockets.clone(), proxy: pod.proxy.clone() }
    }
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
        let stream = self.sockets.connect(key.destination, None).await.map_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                OpenError::Timeout(CONNECT_TIMEOUT)
            } else {
                OpenError::Connect(error.to_string())
            }
        })?;
        secure(&self.proxy, key, stream).await
    }
}
