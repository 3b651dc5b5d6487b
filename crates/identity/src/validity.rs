//! What a dump, a refresh and a log want to know of a certificate: its serial and the time it holds.
//!
//! Read from the certificate once, when it arrives; nothing here decides whether the certificate is trusted.

use crate::pem;
use jiff::Timestamp;
use std::time::Duration;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// The time in which a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second in which it holds.
    pub not_before: Timestamp,
    /// Last second in which it holds.
    pub not_after: Timestamp,
}

impl Validity {
    /// Whether the certificate holds at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// How long the certificate holds in all.
    pub fn length(&self) -> Duration {
        self.not_after.duration_since(self.not_before).try_into().unwrap_or_default()
    }

    /// The middle of its time, when a replacement is due (ztunnel.md §3.3).
    pub fn half_life(&self) -> Timestamp {
        self.not_before + self.length() / 2
    }
}

/// One certificate as dumps show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The certificate as PEM text.
    pub pem: String,
    /// Serial number, decimal.
    pub serial: String,
    /// The time in which it holds.
    pub validity: Validity,
}

/// The certificate cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be parsed: {0}")]
pub struct UnreadableCertificate(pub String);

impl CertificateInfo {
    /// Reads what a dump shows from DER.
    pub fn from_der(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        let certificate = parse(der)?;
        let validity = validity(&certificate)?;
        Ok(Self { pem: pem::certificate(der), serial: certificate.tbs_certificate.serial.to_string(), validity })
    }
}

/// A certificate with nothing behind its end.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, UnreadableCertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(UnreadableCertificate("there are bytes behind its end".to_owned())),
        Err(error) => Err(UnreadableCertificate(error.to_string())),
    }
}

/// When a parsed certificate holds.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, UnreadableCertificate> {
    let time = |seconds| {
        Timestamp::from_second(seconds)
            .map_err(|error| UnreadableCertificate(format!("a time in it is out of range: {error}")))
    };
    let validity = certificate.validity();
    Ok(Validity {
        not_before: time(validity.not_before.timestamp())?,
        not_after: time(validity.not_after.timestamp())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_life_is_the_middle_and_the_edges_hold() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let validity = Validity { not_before: at(1_000), not_after: at(3_000) };
        assert_eq!(validity.half_life(), at(2_000));
        assert!(validity.holds(at(1_000)) && validity.holds(at(3_000)));
        assert!(!validity.holds(at(999)) && !validity.holds(at(3_001)));
    }

    #[test]
    fn a_backward_validity_has_no_length() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let validity = Validity { not_before: at(3_000), not_after: at(1_000) };
        assert_eq!(validity.length(), Duration::ZERO);
    }

    #[test]
    fn bytes_that_are_no_certificate_are_named_so() {
        assert!(CertificateInfo::from_der(b"nonsense").is_err());
    }
}
