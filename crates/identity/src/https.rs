//! TLS for servers that are not tunnels: the API server, webhooks, the control plane's gRPC port.
//!
//! Certificates come as PEM and can be swapped while serving; connections that are open keep what they have. A client's
//! certificate, where asked for, is verified here and read here ([`ClientSubject`]); what it may do is decided elsewhere.

use crate::{
    peer,
    pem::{self, PemError},
    tls::{GENERAL, HANDSHAKE_TIMEOUT, TlsSettings},
    validity,
};
use arc_swap::ArcSwap;
use model::Identity;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// A finished handshake of a server.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// What a server does about certificates of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They are not asked for.
    #[default]
    Ignored,
    /// One may be given and must then lead to one of these roots (PEM).
    Optional(String),
    /// One must be given and lead to one of these roots (PEM).
    Required(String),
}

/// What a server shows and asks for.
#[derive(Clone)]
pub struct ServerSettings {
    /// Own chain, leaf first (PEM).
    pub chain: String,
    /// Own key (PEM).
    pub key: String,
    /// What is asked of clients.
    pub clients: ClientCertificates,
    /// Application protocols in order of preference; none for no negotiation.
    pub protocols: Vec<&'static str>,
    /// The hybrid post-quantum key exchange alone; it is preferred in any case.
    pub post_quantum_only: bool,
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings")
            .field("chain", &self.chain)
            .field("protocols", &self.protocols)
            .finish_non_exhaustive()
    }
}

/// Why a server's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// A part is not PEM.
    #[error("{part} of the server: {reason}")]
    Pem {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: PemError,
    },
    /// The library refuses the parts.
    #[error("the server's certificate and key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
    /// The clients' roots cannot be used.
    #[error("the roots for client certificates cannot be used: {0}")]
    ClientRoots(String),
}

/// Accepts TLS connections with the newest certificate it was given.
#[derive(Debug)]
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Serves with these settings.
    pub fn new(settings: &ServerSettings) -> Result<Self, ServerTlsError> {
        Ok(Self { config: ArcSwap::from_pointee(build(settings)?) })
    }

    /// Serves new connections with other settings; bad ones change nothing.
    pub fn replace(&self, settings: &ServerSettings) -> Result<(), ServerTlsError> {
        self.config.store(Arc::new(build(settings)?));
        Ok(())
    }

    /// What accepts with the present certificate. Take a new one for each connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// One handshake, with a deadline so that silent peers cost nothing.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<ServerStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.accept_within(io, HANDSHAKE_TIMEOUT).await
    }

    /// One handshake with another deadline.
    pub async fn accept_within<IO>(&self, io: IO, deadline: Duration) -> io::Result<ServerStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        match tokio::time::timeout(deadline, self.acceptor().accept(io)).await {
            Ok(accepted) => accepted,
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "tls handshake error: the peer did not finish in time"))
            }
        }
    }
}

fn build(settings: &ServerSettings) -> Result<ServerConfig, ServerTlsError> {
    let part = |part| move |reason| ServerTlsError::Pem { part, reason };
    let chain = pem::certificates(settings.chain.as_bytes()).map_err(part("the certificate"))?;
    let key = pem::private_key(settings.key.as_bytes()).map_err(part("the key"))?;
    let builder = if settings.post_quantum_only {
        let tls = TlsSettings { post_quantum_only: true, ..TlsSettings::default() };
        ServerConfig::builder_with_provider(tls.provider()).with_protocol_versions(tls.versions())?
    } else {
        ServerConfig::builder_with_provider(GENERAL.clone()).with_safe_default_protocol_versions()?
    };
    let builder = match client_verifier(&settings.clients)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = settings.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    // No resumption: a removed root or an ended certificate must show in the next handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_verifier(clients: &ClientCertificates) -> Result<Option<Arc<dyn ClientCertVerifier>>, ServerTlsError> {
    let (roots, optional) = match clients {
        ClientCertificates::Ignored => return Ok(None),
        ClientCertificates::Optional(roots) => (roots, true),
        ClientCertificates::Required(roots) => (roots, false),
    };
    let roots = pem::certificates(roots.as_bytes())
        .map_err(|reason| ServerTlsError::Pem { part: "the roots for client certificates", reason })?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), GENERAL.clone());
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map(|verifier| Some(verifier as _)).map_err(|error| ServerTlsError::ClientRoots(error.to_string()))
}

/// Who a client's verified certificate names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientSubject {
    /// Common name: the user, to Kubernetes.
    pub common_name: Option<String>,
    /// Organisations: the groups, to Kubernetes.
    pub organisations: Vec<String>,
    /// The mesh identity, when it is a workload's certificate.
    pub identity: Option<Identity>,
}

/// Who the client of a connection is, if it showed a certificate. Only verified certificates come this far.
pub fn client_subject<IO>(stream: &ServerStream<IO>) -> Option<ClientSubject> {
    let (_, connection) = stream.get_ref();
    subject(connection.peer_certificates()?.first()?)
}

fn subject(leaf: &[u8]) -> Option<ClientSubject> {
    let certificate = validity::parse(leaf).ok()?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    Some(ClientSubject {
        common_name: certificate.subject().iter_common_name().find_map(text),
        organisations: certificate.subject().iter_organization().filter_map(text).collect(),
        identity: peer::identity(&certificate).ok(),
    })
}

#[cfg(test)]
mod tests;
