//! TLS over outgoing sockets of a pod: what a tunnel's connection is made of.

use crate::{certificates::certificate, pod::Pod, proxy::Proxy};
use futures_util::FutureExt;
use hbone::{Carrier, Connect, Key, OpenError};
use identity::{
    revocation::{CertificateId, Revocations, peer_chain},
    tls::{self, HANDSHAKE_TIMEOUT, HandshakeError, TlsStream},
};
use inpod::{Sockets, sockets::CONNECT_TIMEOUT};
use model::Identity;
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

/// Who is at the other end of a connection, by the certificates that were shown.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Proven by them.
    pub identity: Option<Identity>,
    chain: Arc<[CertificateId]>,
}

impl Peer {
    /// Nobody that has proven anything.
    pub(crate) fn nobody() -> Self {
        Self { identity: None, chain: Arc::default() }
    }

    /// Both of two peers, one behind the other.
    pub(crate) fn and(self, inner: Self) -> Self {
        let chain = self.chain.iter().chain(&*inner.chain).cloned().collect();
        Self { identity: inner.identity, chain }
    }

    /// Waits until one of the certificates is revoked.
    pub(crate) async fn revoked(&self, revocations: &Revocations) {
        if self.chain.is_empty() {
            std::future::pending::<()>().await;
        }
        revocations.revoked(&self.chain).await;
    }

    /// Whether one of the certificates is revoked already.
    pub(crate) fn is_revoked(&self, revocations: &Revocations) -> bool {
        !self.chain.is_empty() && revocations.revoked(&self.chain).now_or_never().is_some()
    }
}

/// TLS over `io` under the key's source identity, towards one of the expected ones.
pub(crate) async fn secure<IO>(proxy: &Proxy, key: &Key, io: IO) -> Result<(TlsStream<IO>, Peer), OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let certificate = certificate(&proxy.certificates, &key.source).await.map_err(OpenError::Identity)?;
    let handshake = certificate.connector(&key.expected).connect(tls::nameless(), io);
    match time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            let state = stream.get_ref().1;
            let peer = Peer { identity: tls::peer(state).ok(), chain: peer_chain(state).into() };
            Ok((stream.into(), peer))
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(refused(proxy, &error)),
        Ok(Err(error)) => Err(OpenError::Connect(format!("in the TLS handshake: {error}"))),
        Err(_) => Err(OpenError::Tls(format!("no handshake within {HANDSHAKE_TIMEOUT:?}"))),
    }
}

/// TLS 1.3 as [`secure`] makes it, for framing that has the keys.
async fn seal(proxy: &Proxy, key: &Key, stream: TcpStream) -> Result<(Carrier, Peer), OpenError> {
    let certificate = certificate(&proxy.certificates, &key.source).await.map_err(OpenError::Identity)?;
    match certificate.connect_sealed(&key.expected, stream).await {
        Ok(sealed) => {
            let peer = Peer { identity: Some(sealed.peer.clone()), chain: sealed.chain.as_slice().into() };
            Ok((Carrier::sealed(sealed), peer))
        }
        Err(HandshakeError::Failed(error)) if error.kind() != io::ErrorKind::InvalidData => {
            Err(OpenError::Connect(format!("in the TLS handshake: {error}")))
        }
        Err(HandshakeError::Failed(error)) => Err(refused(proxy, &error)),
        Err(HandshakeError::Peer(error)) => Err(OpenError::Tls(error.to_string())),
        Err(HandshakeError::Timeout(after)) => Err(OpenError::Tls(format!("no handshake within {after:?}"))),
    }
}

/// One side did not believe the other.
fn refused(proxy: &Proxy, error: &io::Error) -> OpenError {
    if tls::is_revocation(error) {
        proxy.metrics.revocation_rejections.add(&["source"]);
    }
    OpenError::Tls(error.to_string())
}

impl Connect for Dialer {
    type Io = Carrier;
    type Peer = Peer;

    async fn connect(&self, key: &Key) -> Result<(Carrier, Peer), OpenError> {
        let stream = self.sockets.connect(key.destination, None).await.map_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                OpenError::Timeout(CONNECT_TIMEOUT)
            } else {
                OpenError::Connect(error.to_string())
            }
        })?;
        if self.proxy.config.seals() {
            return seal(&self.proxy, key, stream).await;
        }
        let (stream, peer) = secure(&self.proxy, key, stream).await?;
        Ok((stream.into(), peer))
    }
}
