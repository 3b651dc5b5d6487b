//! Whether a peer's certificate is believed: chain, time and usage, then who it names.
//!
//! Both directions share the pure [`Trust::verify`]; they differ in which identities they accept. Everything fails closed: an
//! empty set of expected identities accepts nobody.

use crate::{
    peer::{self, PeerError},
    revocation::Revocations,
    tls::{MESH, settings::TrustDomains},
};
use model::Identity;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{fmt, sync::Arc};
use webpki::{EndEntityCert, KeyUsage};

/// id-kp-serverAuth.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// id-kp-clientAuth.
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What the peer's certificate must be good for. That a leaf says what it is for is [`peer::peer_identity`]'s check; an
/// intermediate need not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Serving.
    Server,
    /// Calling.
    Client,
}

impl Usage {
    const fn key_usage(self) -> KeyUsage {
        match self {
            Self::Server => KeyUsage::required_if_present(SERVER_AUTH),
            Self::Client => KeyUsage::required_if_present(CLIENT_AUTH),
        }
    }
}

/// The roots that came with our own certificate, and what has been revoked since.
pub(crate) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    revocations: Revocations,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} roots)", self.anchors.len())
    }
}

impl Trust {
    /// The roots that can be read; the others are logged and left out.
    pub(crate) fn new(roots: &[CertificateDer<'static>], revocations: Revocations) -> Self {
        let anchor = |root| match webpki::anchor_from_trusted_cert(root) {
            Ok(anchor) => Some(anchor.to_owned()),
            Err(error) => {
                tracing::warn!("ignoring a root certificate that cannot be read: {error}");
                None
            }
        };
        Self { anchors: roots.iter().filter_map(anchor).collect(), revocations }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Checks a chain for a usage at a time, and gives the identity it proves.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<Identity, Error> {
        if intermediates.len() >= peer::MAX_CHAIN {
            return Err(identity_error(PeerError::ChainTooLong(intermediates.len() + 1)));
        }
        let entity = EndEntityCert::try_from(leaf).map_err(chain_error)?;
        let path = entity.verify_for_usage(
            MESH.signature_verification_algorithms.all,
            &self.anchors,
            intermediates,
            now,
            usage.key_usage(),
            None,
            None,
        );
        // Webpki does not look at the key usage of those who signed (RFC 5280 §6.1.4 n).
        let path = path.map_err(chain_error)?;
        let mut signers = path.intermediate_certificates();
        signers.try_for_each(|signer| peer::signs_certificates(&signer.der())).map_err(identity_error)?;
        if self.revocations.includes(leaf, intermediates) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        peer::peer_identity(std::slice::from_ref(leaf)).map_err(identity_error)
    }
}

/// Accepts a server that is one of the expected identities.
#[derive(Debug)]
pub(crate) struct ExpectedServer {
    pub(crate) trust: Arc<Trust>,
    pub(crate) expected: Arc<[Identity]>,
    pub(crate) domains: TrustDomains,
}

/// Accepts a client of our own trust domain.
#[derive(Debug)]
pub(crate) struct TrustedClient {
    pub(crate) trust: Arc<Trust>,
    pub(crate) domains: TrustDomains,
}

impl ExpectedServer {
    fn check(&self, presented: &Identity) -> Result<(), Error> {
        if self.expected.iter().any(|expected| self.domains.same(expected, presented)) {
            return Ok(());
        }
        let expected: Vec<String> = self.expected.iter().map(Identity::to_string).collect();
        Err(Error::General(format!(
            "identity verification error: peer did not present the expected SAN ({}), got {presented}",
            expected.join(",")
        )))
    }
}

impl TrustedClient {
    fn check(&self, presented: &Identity) -> Result<(), Error> {
        if self.domains.holds(&presented.trust_domain) {
            return Ok(());
        }
        Err(Error::General(format!(
            "identity verification error: peer did not present the expected trustdomain ({}), got {presented}",
            self.domains.own
        )))
    }
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(&self.trust.verify(end_entity, intermediates, Usage::Server, now)?)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &MESH.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &MESH.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        MESH.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for TrustedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(&self.trust.verify(end_entity, intermediates, Usage::Client, now)?)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &MESH.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &MESH.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        MESH.signature_verification_algorithms.supported_schemes()
    }
}

/// Maps a chain's fault to the alert that names it.
fn chain_error(error: webpki::Error) -> Error {
    use webpki::Error as Chain;
    let certificate = match error {
        Chain::BadDer | Chain::BadDerTime | Chain::TrailingData(_) => CertificateError::BadEncoding,
        Chain::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Chain::CertExpired { .. } => CertificateError::Expired,
        Chain::UnknownIssuer => CertificateError::UnknownIssuer,
        Chain::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Chain::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(certificate)
}

fn identity_error(error: PeerError) -> Error {
    Error::General(format!("identity verification error: {error}"))
}

#[cfg(test)]
mod tests;
