//! Certificates from the control plane: `CreateCertificate` (ztunnel.md §3.1).
//!
//! A fresh key for each request; who we may be is the authority's decision. When to ask, and what to do about a refusal, is
//! [`crate::cache`]'s.

use crate::{
    cache::{CertificateSource, FetchError},
    certificate::WorkloadCertificate,
    csr::SigningRequest,
    grpc::Channel,
    tls::TlsSettings,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use model::Identity;
use prost_types::{Struct, Value, value::Kind};
use proto::ca::{IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient};
use runtime::clock::Clock;
use std::time::Duration;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Life that is asked for unless SECRET_TTL says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(86_400);

/// Asks a control plane for certificates.
#[derive(Debug, Clone)]
pub struct CaClient {
    client: IstioCertificateServiceClient<Channel>,
    ttl: Duration,
    impersonate: bool,
    tls: TlsSettings,
    clock: Clock,
}

impl CaClient {
    /// A client on a channel. A node proxy asks on behalf of its workloads (`impersonate`), others for themselves.
    pub fn new(channel: Channel, ttl: Duration, impersonate: bool, clock: Clock) -> Self {
        Self {
            client: IstioCertificateServiceClient::new(channel),
            ttl,
            impersonate,
            tls: TlsSettings::default(),
            clock,
        }
    }

    /// The same with other settings for the handshakes of its certificates.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsSettings) -> Self {
        self.tls = tls;
        self
    }

    async fn create(&self, identity: &Identity) -> Result<WorkloadCertificate, FetchError> {
        let request = SigningRequest::generate(identity)?;
        let message = message(&request.pem, identity, self.ttl, self.impersonate);
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(TIMEOUT, client.create_certificate(message))
            .await
            .map_err(|_| FetchError::Timeout(TIMEOUT))?
            .map_err(|status| FetchError::Refused { code: status.code(), message: status_text(&status) })?;
        let chain = answer.into_inner().cert_chain;
        Ok(WorkloadCertificate::from_response(identity, &request.key, &chain, self.tls.clone(), self.clock.clone())?)
    }
}

impl CertificateSource for CaClient {
    fn fetch<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<WorkloadCertificate, FetchError>> {
        self.create(identity).boxed()
    }
}

/// The request as upstream's node proxy words it.
fn message(csr: &str, identity: &Identity, ttl: Duration, impersonate: bool) -> IstioCertificateRequest {
    let impersonated = || Struct {
        fields: [("ImpersonatedIdentity".to_owned(), Value { kind: Some(Kind::StringValue(identity.to_string())) })]
            .into(),
    };
    IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
        metadata: impersonate.then(impersonated),
    }
}

/// A transport failure hides behind an empty status; its cause says more.
fn status_text(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(cause) if !status.message().contains(&cause.to_string()) => format!("{}: {cause}", status.message()),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impersonation_is_metadata_and_absent_otherwise() {
        let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let shared = message("csr", &identity, DEFAULT_TTL, true);
        assert_eq!((shared.csr.as_str(), shared.validity_duration), ("csr", 86_400));
        let fields = shared.metadata.unwrap().fields;
        assert_eq!(fields.len(), 1);
        assert_eq!(fields["ImpersonatedIdentity"].kind, Some(Kind::StringValue(identity.to_string())));
        assert_eq!(message("csr", &identity, DEFAULT_TTL, false).metadata, None);
    }
}
