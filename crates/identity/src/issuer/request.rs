//! What an authority accepts as a certificate request.
//!
//! Only the key is taken from a request; names and extensions in it are ignored, because the issuer builds its own.

use crate::pem::{self, PemError};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer as _, public_key::PublicKey};

/// Bytes of a request as text; an RSA-4096 request with many names has less than 4 KiB.
const MAX_REQUEST: usize = 16 << 10;
/// Weakest RSA key that is signed.
const MIN_RSA_BITS: usize = 2048;
/// Strongest RSA key that is signed: more only costs the verifiers time.
const MAX_RSA_BITS: usize = 4096;

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The text is too long.
    #[error("the certificate request has {0} bytes, more than {MAX_REQUEST}")]
    TooLong(usize),
    /// The armour is not that of one request.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The request inside cannot be parsed.
    #[error("the certificate request cannot be parsed: {0}")]
    Unreadable(String),
    /// The request is not signed by the key in it.
    #[error("the certificate request's signature does not match its key")]
    BadSignature,
    /// The key is of a kind or strength that is not signed.
    #[error("the certificate request's key is {0}; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits")]
    BadKey(String),
}

/// Parses a request and gives the key that it proves to own.
pub(super) fn public_key(text: &str) -> Result<SubjectPublicKeyInfo, RequestError> {
    if text.len() > MAX_REQUEST {
        return Err(RequestError::TooLong(text.len()));
    }
    let der = pem::signing_request(text.as_bytes())?;
    let request = match X509CertificationRequest::from_der(&der) {
        Ok(([], request)) => request,
        Ok(_) => return Err(RequestError::Unreadable("there are bytes behind its end".to_owned())),
        Err(error) => return Err(RequestError::Unreadable(error.to_string())),
    };
    let subject_key = &request.certification_request_info.subject_pki;
    let parsed = subject_key.parsed().map_err(|error| RequestError::Unreadable(error.to_string()))?;
    acceptable(&parsed)?;
    // Signing is costly to verify for large keys, so this comes after the bounds.
    request.verify_signature().map_err(|_| RequestError::BadSignature)?;
    SubjectPublicKeyInfo::from_der(subject_key.raw)
        .map_err(|error| RequestError::BadKey(format!("not supported ({error})")))
}

fn acceptable(key: &PublicKey<'_>) -> Result<(), RequestError> {
    let bad = |what: String| Err(RequestError::BadKey(what));
    match key {
        PublicKey::RSA(rsa) => {
            let bits = rsa.key_size();
            match rsa.try_exponent() {
                _ if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) => bad(format!("RSA of {bits} bits")),
                Ok(65_537) => Ok(()),
                Ok(exponent) => bad(format!("RSA with exponent {exponent}")),
                Err(_) => bad("RSA with an oversized exponent".to_owned()),
            }
        }
        PublicKey::EC(point) if matches!(point.key_size(), 256 | 384) => Ok(()),
        PublicKey::EC(point) => bad(format!("an elliptic curve key of {} bits", point.key_size())),
        // Ed25519 has no parsed form; that it is one is checked with the signature.
        PublicKey::Unknown(bytes) if bytes.len() == 32 => Ok(()),
        _ => bad("of an unknown kind".to_owned()),
    }
}
