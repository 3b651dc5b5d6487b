//! Who a peer is, read from the certificate it proved to own.
//!
//! Stricter than upstream on purpose: a leaf carries exactly one URI name and that is the identity, so no reader can pick
//! another name than the verifier did. Whether the chain is trusted is `tls::verify`'s question.

use crate::validity::{self, UnreadableCertificate};
use model::{Identity, IdentityError};
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

/// Certificates of a chain that are looked at; roots and a few intermediates are all that is ever needed.
pub const MAX_CHAIN: usize = 10;
/// Bytes of one certificate of a chain.
pub const MAX_CERTIFICATE: usize = 32 << 10;
/// Length of an identity (SPIFFE: 2048 bytes).
const MAX_URI: usize = 2048;
/// Length of a trust domain (SPIFFE: 255 bytes).
const MAX_TRUST_DOMAIN: usize = 255;

/// Why a certificate names no peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No certificate was presented.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The chain is longer than is looked at.
    #[error("the peer's chain has {0} certificates, more than {MAX_CHAIN}")]
    ChainTooLong(usize),
    /// One certificate is larger than is looked at.
    #[error("a certificate of the peer has {0} bytes, more than {MAX_CERTIFICATE}")]
    CertificateTooLarge(usize),
    /// The leaf cannot be parsed.
    #[error(transparent)]
    Unreadable(#[from] UnreadableCertificate),
    /// There is no URI name.
    #[error("the peer's certificate carries no SPIFFE identity")]
    NoIdentity,
    /// There is more than one URI name.
    #[error("the peer's certificate carries {0} URI names where exactly one is allowed")]
    SeveralIdentities(usize),
    /// The URI name is not a SPIFFE identity of the mesh's form.
    #[error("the peer's certificate names {0:?}, which is not an identity of the mesh")]
    BadIdentity(String),
    /// The certificate may sign others, so it is not a workload's.
    #[error("the peer presented a certificate authority's certificate")]
    Authority,
    /// The certificate's key may not sign a handshake.
    #[error("the key usage of the peer's certificate does not include digital signatures")]
    NoDigitalSignature,
    /// The certificate of an authority on the chain is not for signing others.
    #[error("an authority on the peer's chain may not sign certificates by its key usage")]
    MayNotSign,
    /// The certificate does not limit what it is for.
    #[error("the peer's certificate does not say what it is for (no extended key usage)")]
    NoPurpose,
}

/// The one identity of the leaf of a chain.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<Identity, PeerError> {
    let leaf = chain.first().ok_or(PeerError::NoCertificate)?;
    if chain.len() > MAX_CHAIN {
        return Err(PeerError::ChainTooLong(chain.len()));
    }
    if let Some(large) = chain.iter().find(|certificate| certificate.len() > MAX_CERTIFICATE) {
        return Err(PeerError::CertificateTooLarge(large.len()));
    }
    let leaf = validity::parse(leaf)?;
    workload_usage(&leaf)?;
    identity(&leaf)
}

/// Checks that a certificate is a workload's: not an authority's, good for signing handshakes, and made for
/// something (for what exactly, the chain's verification knows).
fn workload_usage(leaf: &X509Certificate<'_>) -> Result<(), PeerError> {
    let unreadable = |error: x509_parser::error::X509Error| UnreadableCertificate(error.to_string());
    if leaf.basic_constraints().map_err(unreadable)?.is_some_and(|constraints| constraints.value.ca) {
        return Err(PeerError::Authority);
    }
    if leaf.extended_key_usage().map_err(unreadable)?.is_none() {
        return Err(PeerError::NoPurpose);
    }
    match leaf.key_usage().map_err(unreadable)? {
        Some(usage) if usage.value.key_cert_sign() || usage.value.crl_sign() => Err(PeerError::Authority),
        Some(usage) if !usage.value.digital_signature() => Err(PeerError::NoDigitalSignature),
        _ => Ok(()),
    }
}

/// Checks that an authority on a chain may sign certificates, when it says what it may do.
pub(crate) fn signs_certificates(authority: &CertificateDer<'_>) -> Result<(), PeerError> {
    let authority = validity::parse(authority)?;
    let usage = authority.key_usage().map_err(|error| UnreadableCertificate(error.to_string()))?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) { Err(PeerError::MayNotSign) } else { Ok(()) }
}

/// The one URI name of a certificate, as an identity.
pub(crate) fn identity(leaf: &X509Certificate<'_>) -> Result<Identity, PeerError> {
    let names = leaf.subject_alternative_name().map_err(|error| UnreadableCertificate(error.to_string()))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris.as_slice() {
        [] => Err(PeerError::NoIdentity),
        [uri] => spiffe(uri),
        several => Err(PeerError::SeveralIdentities(several.len())),
    }
}

/// Parses a URI name by SPIFFE's rules of length and characters, then by the mesh's form.
fn spiffe(uri: &str) -> Result<Identity, PeerError> {
    // What goes into an error is cut, so that a log line cannot be flooded by a peer.
    let bad = || PeerError::BadIdentity(uri.chars().take(128).collect());
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if uri.len() > MAX_URI {
        return Err(bad());
    }
    let identity: Identity = uri.parse().map_err(|_: IdentityError| bad())?;
    let trust_domain = &identity.trust_domain;
    let segments = [trust_domain, &identity.namespace, &identity.service_account];
    let lower = !trust_domain.contains(|c: char| c.is_ascii_uppercase());
    if trust_domain.len() <= MAX_TRUST_DOMAIN && lower && segments.iter().all(|part| part.chars().all(legal)) {
        Ok(identity)
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("spiffe://cluster.local/ns/shop/sa/web", true)]
    #[case("spiffe://td_1.example-2/ns/shop/sa/cert-manager.io", true)]
    #[case("spiffe://Cluster.local/ns/shop/sa/web", false)]
    #[case("spiffe://cluster.local/ns/shop/sa/we\0b", false)]
    #[case("spiffe://cluster.local/ns/sh%6fp/sa/web", false)]
    #[case("spiffe://user@cluster.local/ns/shop/sa/web", false)]
    #[case("spiffe://cluster.local:80/ns/shop/sa/web", false)]
    #[case("spiffe://cluster.local/ns/shop/sa/web?x", false)]
    #[case("spiffe://cluster.local/ns/shop/sa/web/", false)]
    #[case("SPIFFE://cluster.local/ns/shop/sa/web", false)]
    fn an_identity_has_only_spiffes_characters(#[case] uri: &str, #[case] valid: bool) {
        assert_eq!(spiffe(uri).is_ok(), valid, "{uri:?}");
    }

    #[test]
    fn lengths_are_bounded() {
        let account = "a".repeat(MAX_URI);
        assert!(spiffe(&format!("spiffe://cluster.local/ns/shop/sa/{account}")).is_err());
        let domain = "d".repeat(MAX_TRUST_DOMAIN + 1);
        assert!(spiffe(&format!("spiffe://{domain}/ns/shop/sa/web")).is_err());
    }

    #[test]
    fn bounds_come_before_parsing() {
        assert_eq!(peer_identity(&[]), Err(PeerError::NoCertificate));
        let small = CertificateDer::from(vec![0; 4]);
        assert_eq!(peer_identity(&vec![small; MAX_CHAIN + 1]), Err(PeerError::ChainTooLong(MAX_CHAIN + 1)));
        let large = CertificateDer::from(vec![0; MAX_CERTIFICATE + 1]);
        assert_eq!(peer_identity(&[large]), Err(PeerError::CertificateTooLarge(MAX_CERTIFICATE + 1)));
    }
}
