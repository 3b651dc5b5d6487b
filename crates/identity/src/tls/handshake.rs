//! Handshakes of the mesh, bounded in time, with errors in the words that people search for (ztunnel.md §11.5).

use crate::{
    certificate::WorkloadCertificate,
    peer::PeerError,
    tls::{HANDSHAKE_TIMEOUT, nameless, peer},
};
use model::Identity;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// A tunnel's byte stream seen from the side that opened it.
pub type ClientStream<IO> = tokio_rustls::client::TlsStream<IO>;
/// A tunnel's byte stream seen from the side that accepted it.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// Why two workloads did not come together.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer was silent.
    #[error("tls handshake error: the peer did not finish within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection ended, or one side refused the other.
    #[error("tls handshake error: {0}")]
    Failed(io::Error),
    /// The peer's certificate names nobody. The verifiers refuse such a peer already.
    #[error("identity verification error: {0}")]
    Peer(#[from] PeerError),
}

impl WorkloadCertificate {
    /// Secures an outgoing connection to one of the expected identities; gives the one that answered.
    pub async fn connect<IO>(
        &self,
        expected: &[Identity],
        io: IO,
    ) -> Result<(ClientStream<IO>, Identity), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = bounded(self.connector(expected).connect(nameless(), io)).await?;
        let identity = peer(stream.get_ref().1)?;
        Ok((stream, identity))
    }

    /// Secures an incoming connection; gives who it is from.
    pub async fn accept<IO>(&self, io: IO) -> Result<(ServerStream<IO>, Identity), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = bounded(self.acceptor().accept(io)).await?;
        let identity = peer(stream.get_ref().1)?;
        Ok((stream, identity))
    }
}

async fn bounded<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, HandshakeError> {
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(done) => done.map_err(HandshakeError::Failed),
        Err(_) => Err(HandshakeError::Timeout(HANDSHAKE_TIMEOUT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        issuer::{Issuer, KeyKind},
        source::IssuerSource,
    };
    use runtime::clock::Clock;
    use std::sync::Arc;

    fn workloads() -> (WorkloadCertificate, WorkloadCertificate) {
        let clock = Clock::system();
        let issuer = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, clock.now()).unwrap();
        let source = IssuerSource::new(Arc::new(issuer), Duration::from_secs(3_600), clock);
        let certificate =
            |account| source.certificate(&Identity::new("cluster.local", "shop", account).unwrap()).unwrap();
        (certificate("web"), certificate("db"))
    }

    #[tokio::test]
    async fn each_side_learns_who_the_other_is() {
        let (web, db) = workloads();
        let (near, far) = tokio::io::duplex(64 << 10);
        let expected = [db.identity().clone()];
        let (client, server) = tokio::join!(web.connect(&expected, near), db.accept(far));
        assert_eq!((&client.unwrap().1, &server.unwrap().1), (db.identity(), web.identity()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_dropped_on_both_sides() {
        let (web, db) = workloads();
        let (near, _silent) = tokio::io::duplex(64 << 10);
        assert!(matches!(web.connect(&[], near).await, Err(HandshakeError::Timeout(_))));
        let (far, _silent) = tokio::io::duplex(64 << 10);
        assert!(matches!(db.accept(far).await, Err(HandshakeError::Timeout(_))));
    }

    #[tokio::test]
    async fn plaintext_is_refused_at_once() {
        use tokio::io::AsyncWriteExt as _;
        let (_, db) = workloads();
        let (mut near, far) = tokio::io::duplex(64 << 10);
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let text = db.accept(far).await.unwrap_err().to_string();
        assert!(text.starts_with("tls handshake error: "), "{text}");
    }
}
