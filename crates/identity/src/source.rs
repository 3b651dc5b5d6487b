//! Certificates from an authority in the same process: for the control plane's own identity, for tests, for benches.

use crate::{
    cache::{CertificateSource, FetchError},
    certificate::WorkloadCertificate,
    csr::SigningRequest,
    issuer::Issuer,
    tls::TlsSettings,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use model::Identity;
use runtime::clock::Clock;
use std::{sync::Arc, time::Duration};

/// Signs with an [`Issuer`] directly; every identity is granted.
#[derive(Debug, Clone)]
pub struct IssuerSource {
    issuer: Arc<Issuer>,
    ttl: Duration,
    tls: TlsSettings,
    clock: Clock,
}

impl IssuerSource {
    /// A source whose certificates hold for `ttl`.
    pub fn new(issuer: Arc<Issuer>, ttl: Duration, clock: Clock) -> Self {
        Self { issuer, ttl, tls: TlsSettings::default(), clock }
    }

    /// The same with other settings for the handshakes of its certificates.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsSettings) -> Self {
        self.tls = tls;
        self
    }

    /// A certificate, at once.
    pub fn certificate(&self, identity: &Identity) -> Result<WorkloadCertificate, FetchError> {
        let request = SigningRequest::generate(identity)?;
        let chain = self.issuer.sign(&request.pem, identity, self.ttl, self.clock.now())?;
        Ok(WorkloadCertificate::from_response(identity, &request.key, &chain, self.tls.clone(), self.clock.clone())?)
    }
}

impl CertificateSource for IssuerSource {
    fn fetch<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<WorkloadCertificate, FetchError>> {
        std::future::ready(self.certificate(identity)).boxed()
    }
}
