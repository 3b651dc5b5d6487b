//! Asking for a certificate: a fresh key and the request that proves it (ztunnel.md §3.1).
//!
//! The request has an empty subject and one extension, the critical URI name; an authority builds the name itself anyway.

use model::Identity;
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::fmt;

/// A private key of ours. It is never printed, logged or serialised by accident.
pub struct PrivateKey(PrivatePkcs8KeyDer<'static>);

impl PrivateKey {
    /// A key from PKCS#8 DER.
    pub(crate) fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(der.into())
    }

    /// The same key.
    pub(crate) fn again(&self) -> Self {
        Self(self.0.clone_key())
    }

    /// The key for those that sign with it.
    pub(crate) fn pkcs8(&self) -> &PrivatePkcs8KeyDer<'static> {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A certificate request and the key it was made with.
#[derive(Debug)]
pub struct SigningRequest {
    /// The request, PEM.
    pub pem: String,
    /// The key that the certificate will belong to.
    pub key: PrivateKey,
}

/// The request could not be made.
#[derive(Debug, thiserror::Error)]
#[error("making a key and certificate request for {identity}: {reason}")]
pub struct SigningRequestError {
    identity: Identity,
    reason: rcgen::Error,
}

impl SigningRequest {
    /// Makes an ECDSA P-256 key and a request for `identity`.
    pub fn generate(identity: &Identity) -> Result<Self, SigningRequestError> {
        let build = || {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.subject_alt_names = vec![rcgen::SanType::URI(identity.to_string().try_into()?)];
            let pem = params.serialize_request(&key)?.pem()?;
            Ok(Self { pem, key: PrivateKey::from_pkcs8(key.serialize_der()) })
        };
        build().map_err(|reason| SigningRequestError { identity: identity.clone(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::{
        certification_request::X509CertificationRequest, extensions::ParsedExtension, prelude::FromDer as _,
    };

    #[test]
    fn a_request_has_an_empty_subject_and_one_critical_uri() {
        let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let request = SigningRequest::generate(&identity).unwrap();
        let der = crate::pem::signing_request(request.pem.as_bytes()).unwrap();
        let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
        parsed.verify_signature().unwrap();
        assert_eq!(parsed.certification_request_info.subject.iter().count(), 0);
        let critical_names = [0x06, 3, 0x55, 0x1d, 0x11, 0x01, 1, 0xff];
        assert!(der.windows(8).any(|part| part == critical_names), "the names are critical");
        let extensions: Vec<_> = parsed.requested_extensions().unwrap().collect();
        let [ParsedExtension::SubjectAlternativeName(names)] = extensions.as_slice() else {
            panic!("one extension expected: {extensions:?}");
        };
        assert_eq!(
            names.general_names,
            [x509_parser::extensions::GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]
        );
        assert_eq!(format!("{:?}", request.key), "PrivateKey");
    }
}
