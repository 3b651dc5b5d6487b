//! A workload's certificate: who it is, the proof, whom it trusts, and the TLS configurations made from it.
//!
//! Immutable; a renewal is another value. Configurations are built once and shared by every handshake of the identity, so a
//! new connection costs a reference count. The key stays inside.

use crate::{
    csr::PrivateKey,
    peer::{self, PeerError},
    pem::{self, PemError},
    tls::{
        H2, MESH, TlsSettings, TrustDomains,
        verify::{ExpectedServer, Trust, TrustedClient},
    },
    validity::{CertificateInfo, UnreadableCertificate, Validity},
};
use model::Identity;
use parking_lot::Mutex;
use runtime::clock::Clock;
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    pki_types::{CertificateDer, UnixTime},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Sets of expected identities whose configuration is kept; one set per destination service, roughly.
const MAX_CLIENT_CONFIGS: usize = 1024;

/// Why an answer of an authority is not a certificate of ours.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadCertificateError {
    /// The answer is empty.
    #[error("the certificate authority answered without a certificate")]
    EmptyResponse,
    /// The answer is a leaf alone.
    #[error("the certificate authority sent no root certificate (no root certificate present)")]
    NoRoot,
    /// A part of the answer is not PEM.
    #[error("the certificate authority's answer: {0}")]
    Pem(#[from] PemError),
    /// A certificate of the answer cannot be read.
    #[error("the certificate authority's answer: {0}")]
    Unreadable(#[from] UnreadableCertificate),
    /// The certificate names nobody.
    #[error("the certificate authority's answer: {0}")]
    Peer(#[from] PeerError),
    /// The certificate is somebody else's.
    #[error("asked the certificate authority for {asked}, but the certificate is for {got}")]
    WrongIdentity {
        /// Who was asked for.
        asked: Identity,
        /// Who is named.
        got: Identity,
    },
    /// The certificate and our key do not belong together, or the key cannot be used.
    #[error("the certificate authority's certificate does not fit our key: {0}")]
    Key(rustls::Error),
}

/// A certificate of a workload, ready for use.
pub struct WorkloadCertificate {
    identity: Identity,
    chain: Vec<CertificateInfo>,
    roots: Vec<CertificateInfo>,
    /// For the certificate's next life, in another process.
    key: PrivateKey,
    certified: Arc<SingleCertAndKey>,
    trust: Arc<Trust>,
    settings: TlsSettings,
    clock: Clock,
    server: OnceLock<Arc<ServerConfig>>,
    clients: Mutex<HashMap<Arc<[Identity]>, Arc<ClientConfig>>>,
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.identity)
            .field("serial", &self.leaf().serial)
            .field("validity", &self.validity())
            .finish_non_exhaustive()
    }
}

impl WorkloadCertificate {
    /// The certificate that an authority answered for `identity` and our `key`: leaf first, roots in the last element.
    /// Handshakes follow `settings` and judge validity by `clock`.
    pub fn from_response(
        identity: &Identity,
        key: &PrivateKey,
        response: &[String],
        settings: TlsSettings,
        clock: Clock,
    ) -> Result<Self, WorkloadCertificateError> {
        let (own, roots) = match response {
            [] => return Err(WorkloadCertificateError::EmptyResponse),
            [_] => return Err(WorkloadCertificateError::NoRoot),
            [own @ .., roots] => (own, roots),
        };
        let mut chain = Vec::new();
        for element in own {
            chain.extend(pem::certificates(element.as_bytes())?);
        }
        let roots = readable_roots(pem::certificates(roots.as_bytes())?);
        let trust = Trust::new(&roots, settings.revocations.clone());
        if roots.is_empty() || trust.is_empty() {
            return Err(WorkloadCertificateError::NoRoot);
        }
        let got = peer::peer_identity(&chain)?;
        if got != *identity {
            return Err(WorkloadCertificateError::WrongIdentity { asked: identity.clone(), got });
        }
        let info = |ders: &[CertificateDer<'_>]| ders.iter().map(|der| CertificateInfo::from_der(der)).collect();
        let (chain_info, root_info): (Result<Vec<_>, _>, Result<Vec<_>, _>) = (info(&chain), info(&roots));
        Ok(Self {
            identity: got,
            chain: chain_info?,
            roots: root_info?,
            key: key.again(),
            certified: certified(chain, key).map_err(WorkloadCertificateError::Key)?,
            trust: Arc::new(trust),
            settings,
            clock,
            server: OnceLock::new(),
            clients: Mutex::default(),
        })
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the leaf holds.
    pub fn validity(&self) -> Validity {
        self.leaf().validity
    }

    /// Whether it holds now.
    pub fn is_valid(&self) -> bool {
        self.validity().holds(self.clock.now())
    }

    /// Our own chain, leaf first.
    pub fn chain(&self) -> &[CertificateInfo] {
        &self.chain
    }

    /// The roots that came with it.
    pub fn roots(&self) -> &[CertificateInfo] {
        &self.roots
    }

    /// The key that belongs to it, for [`crate::cache`] alone.
    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The roots as one text.
    pub fn roots_pem(&self) -> String {
        self.roots.iter().map(|root| root.pem.as_str()).collect()
    }

    /// What accepts tunnels as this workload.
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = self.server.get_or_init(|| Arc::new(self.server_config()));
        TlsAcceptor::from(config.clone())
    }

    /// What opens tunnels as this workload towards one of `expected`.
    pub fn connector(&self, expected: &[Identity]) -> TlsConnector {
        let mut clients = self.clients.lock();
        if let Some(config) = clients.get(expected) {
            return TlsConnector::from(config.clone());
        }
        if clients.len() >= MAX_CLIENT_CONFIGS {
            // Cheap to build again; a bound matters more than which ones stay.
            clients.clear();
        }
        let expected: Arc<[Identity]> = expected.into();
        let config = Arc::new(self.client_config(expected.clone()));
        clients.insert(expected, config.clone());
        TlsConnector::from(config)
    }

    fn leaf(&self) -> &CertificateInfo {
        // `from_response` puts at least the leaf there: a chain without one names no peer.
        &self.chain[0]
    }

    fn server_config(&self) -> ServerConfig {
        let verifier = TrustedClient { trust: self.trust.clone(), domains: self.trust_domains() };
        let mut config = ServerConfig::builder_with_details(self.settings.provider(), self.time())
            .with_protocol_versions(self.settings.versions())
            .expect("the settings have suites for their versions")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.certified.clone());
        config.alpn_protocols = vec![H2.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        config
    }

    fn client_config(&self, expected: Arc<[Identity]>) -> ClientConfig {
        let verifier = ExpectedServer { trust: self.trust.clone(), expected, domains: self.trust_domains() };
        let mut config = ClientConfig::builder_with_details(self.settings.provider(), self.time())
            .with_protocol_versions(self.settings.versions())
            .expect("the settings have suites for their versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.certified.clone());
        config.alpn_protocols = vec![H2.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        config
    }

    fn trust_domains(&self) -> TrustDomains {
        TrustDomains { own: self.identity.trust_domain.clone(), aliases: self.settings.trust_domain_aliases.clone() }
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(HandshakeTime(self.clock.clone()))
    }
}

/// The clock as handshakes ask for it.
#[derive(Debug)]
pub(crate) struct HandshakeTime(pub(crate) Clock);

impl TimeProvider for HandshakeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
    let certified = CertifiedKey::from_der(chain, key.pkcs8().clone_key().into(), &MESH)?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// One root that cannot be read must not cost the others.
fn readable_roots(roots: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    roots
        .into_iter()
        .filter(|root| match CertificateInfo::from_der(root) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!("ignoring a root certificate of the certificate authority's answer: {error}");
                false
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
