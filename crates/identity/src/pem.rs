//! Textual certificates and keys: the only place that knows the armour.
//!
//! Reading is bounded, because these texts come from files, secrets and other processes; what the blocks mean is left to
//! the modules that ask for them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{PemObject as _, SectionKind},
};

/// A bundle larger than this is a mistake or an attack: 1 000 roots of 1 KiB.
const MAX_TEXT: usize = 1 << 20;

/// Why a text is not the PEM that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The text is longer than any bundle the mesh handles.
    #[error("the PEM text has {0} bytes, more than {MAX_TEXT}")]
    TooLong(usize),
    /// The armour or the base64 inside is broken.
    #[error("the PEM text is malformed: {0}")]
    Malformed(String),
    /// There is no block of the wanted kind.
    #[error("there is no {0} block in the PEM text")]
    Missing(&'static str),
    /// There are several blocks where one is wanted.
    #[error("there are {found} blocks in the PEM text where exactly one {wanted} is wanted")]
    Several {
        /// What was wanted.
        wanted: &'static str,
        /// How many blocks there are.
        found: usize,
    },
}

/// Every certificate of a text, in order; at least one.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    bounded(text)?;
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::Malformed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(PemError::Missing("CERTIFICATE"));
    }
    Ok(certificates)
}

/// The one private key of a text, in PKCS#8, PKCS#1 or SEC1 form.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    bounded(text)?;
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => PemError::Missing("PRIVATE KEY"),
        other => PemError::Malformed(other.to_string()),
    })
}

/// The one certificate request of a text that holds nothing else.
pub(crate) fn signing_request(text: &[u8]) -> Result<Vec<u8>, PemError> {
    const WANTED: &str = "CERTIFICATE REQUEST";
    bounded(text)?;
    let found = text.windows(10).filter(|window| window == b"-----BEGIN").count();
    if found > 1 {
        return Err(PemError::Several { wanted: WANTED, found });
    }
    match <(SectionKind, Vec<u8>)>::from_pem_slice(text) {
        Ok((SectionKind::Csr, der)) => Ok(der),
        Ok(_) | Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(PemError::Missing(WANTED)),
        Err(error) => Err(PemError::Malformed(error.to_string())),
    }
}

/// One block of armoured text, ending in a newline.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// One certificate as text.
pub fn certificate(der: &[u8]) -> String {
    encode("CERTIFICATE", der)
}

fn bounded(text: &[u8]) -> Result<(), PemError> {
    if text.len() > MAX_TEXT { Err(PemError::TooLong(text.len())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn what_is_encoded_is_read_back() {
        let ders: [&[u8]; 3] = [&[1; 47], &[2; 48], &[3; 49]];
        let text: String = ders.iter().map(|der| certificate(der)).collect();
        assert!(text.ends_with("-----END CERTIFICATE-----\n"));
        let read = certificates(text.as_bytes()).unwrap();
        assert_eq!(read.iter().map(|der| der.as_ref()).collect::<Vec<_>>(), ders);
    }

    #[rstest]
    #[case("", PemError::Missing("CERTIFICATE REQUEST"))]
    #[case("no armour at all", PemError::Missing("CERTIFICATE REQUEST"))]
    #[case(&encode("CERTIFICATE", b"x"), PemError::Missing("CERTIFICATE REQUEST"))]
    #[case(
        &encode("CERTIFICATE REQUEST", b"x").repeat(2),
        PemError::Several { wanted: "CERTIFICATE REQUEST", found: 2 }
    )]
    fn a_request_is_exactly_one_block(#[case] text: &str, #[case] expected: PemError) {
        assert_eq!(signing_request(text.as_bytes()), Err(expected));
    }

    #[test]
    fn a_text_without_end_is_refused_before_it_is_read() {
        let text = vec![b'A'; MAX_TEXT + 1];
        assert_eq!(certificates(&text), Err(PemError::TooLong(MAX_TEXT + 1)));
    }
}
