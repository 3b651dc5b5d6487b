//! The control plane's own serving certificate, signed by the mesh's authority.

use crate::authority::Authority;
use identity::{
    IssuerError,
    https::{ClientCertificates, ServerSettings, ServerTls, ServerTlsError},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// Life of the certificate, and how often it is made anew.
const LIFE: Duration = Duration::from_secs(30 * 86_400);
const RENEW: Duration = Duration::from_secs(86_400);

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The authority did not sign.
    #[error("signing the serving certificate: {0}")]
    Sign(#[from] IssuerError),
    /// It cannot be served.
    #[error("serving TLS: {0}")]
    Tls(#[from] ServerTlsError),
}

/// TLS of the gRPC port, where clients may show certificates, and of the webhooks, where they need not.
#[derive(Debug, Clone)]
pub struct Serving {
    /// For gRPC.
    pub grpc: Arc<ServerTls>,
    /// For webhooks.
    pub webhooks: Arc<ServerTls>,
    names: Vec<String>,
    post_quantum_only: bool,
}

impl Serving {
    /// A certificate for these names.
    pub fn new(authority: &Authority, names: Vec<String>, post_quantum_only: bool) -> Result<Self, ServingError> {
        let (grpc, webhooks) = settings(authority, &names, post_quantum_only)?;
        let (grpc, webhooks) = (Arc::new(ServerTls::new(&grpc)?), Arc::new(ServerTls::new(&webhooks)?));
        Ok(Self { grpc, webhooks, names, post_quantum_only })
    }

    /// Makes the certificate anew every day and whenever the authority changes, for as long as it is polled.
    pub async fn keep(self, authority: Authority) {
        let mut changes = authority.changes();
        loop {
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(RENEW) => {}
            }
            if let Err(error) = self.renew(&authority) {
                tracing::error!("the serving certificate stays the old one: {error}");
            }
        }
    }

    fn renew(&self, authority: &Authority) -> Result<(), ServingError> {
        let (grpc, webhooks) = settings(authority, &self.names, self.post_quantum_only)?;
        self.grpc.replace(&grpc)?;
        self.webhooks.replace(&webhooks)?;
        Ok(())
    }
}

fn settings(
    authority: &Authority,
    names: &[String],
    post_quantum_only: bool,
) -> Result<(ServerSettings, ServerSettings), ServingError> {
    let issuer = authority.issuer();
    let own = issuer.server_certificate(names, &[], LIFE, Timestamp::now())?;
    let with = |clients, protocols| ServerSettings {
        chain: own.chain.clone(),
        key: own.key.clone(),
        clients,
        protocols,
        post_quantum_only,
    };
    let grpc = with(ClientCertificates::Optional(issuer.roots_pem()), vec!["h2"]);
    // API servers may not know the new key exchange yet.
    let webhooks = ServerSettings { post_quantum_only: false, ..with(ClientCertificates::Ignored, vec!["http/1.1"]) };
    Ok((grpc, webhooks))
}
