//! Certificates that are no longer believed although their time is not over (ztunnel.md §3.5).
//!
//! A list names certificates by issuer and serial. It comes from a file that the control plane distributes, which is trusted
//! as the roots beside it are; so neither its signature nor its own expiry is looked at, and a certificate it does not name is good.
//! [`Revocations`] is shared by handshakes, which ask it, and by open connections, which wait for it.

use crate::validity;
use arc_swap::ArcSwap;
use rustls::{CommonState, pki_types::CertificateDer};
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject as _};
use std::{
    collections::HashSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

/// How often a file is looked at. Kubernetes swaps a link when it changes, which a look by name always sees.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of a list's file: a million entries of 40 bytes is more than any authority issues.
const MAX_FILE: usize = 40 << 20;

/// A certificate as revocation lists name it: issuer and serial, both as encoded.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificateId {
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serial.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl CertificateId {
    fn of(der: &[u8]) -> Option<Self> {
        let certificate = validity::parse(der).ok()?;
        Some(Self { issuer: certificate.issuer().as_raw().into(), serial: certificate.raw_serial().into() })
    }
}

/// The certificates that the peer of a finished handshake showed.
pub fn peer_chain(state: &CommonState) -> Vec<CertificateId> {
    state.peer_certificates().unwrap_or_default().iter().filter_map(|der| CertificateId::of(der)).collect()
}

/// Why a revocation list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The file cannot be read.
    #[error("reading revoked certificates from {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The file is too large.
    #[error("the list of revoked certificates has {0} bytes, more than {MAX_FILE}")]
    TooLarge(usize),
    /// The list cannot be parsed.
    #[error("the list of revoked certificates cannot be parsed: {0}")]
    Malformed(String),
}

/// What one file says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RevocationList(HashSet<CertificateId>);

impl RevocationList {
    /// Reads PEM with any number of lists, or one list as DER. An empty text revokes nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevocationError> {
        let malformed = |error: &dyn fmt::Display| RevocationError::Malformed(error.to_string());
        if bytes.len() > MAX_FILE {
            return Err(RevocationError::TooLarge(bytes.len()));
        }
        let mut revoked = HashSet::new();
        if bytes.first() == Some(&0x30) {
            add(bytes, &mut revoked)?;
        } else {
            for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
                add(&list.map_err(|error| malformed(&error))?, &mut revoked)?;
            }
            if revoked.is_empty() && !bytes.trim_ascii().is_empty() && !bytes.windows(8).any(|part| part == b"X509 CRL")
            {
                return Err(malformed(&"it is neither PEM nor DER"));
            }
        }
        Ok(Self(revoked))
    }

    /// A list of these certificates.
    #[cfg(test)]
    pub(crate) fn of(certificates: Vec<CertificateId>) -> Self {
        Self(certificates.into_iter().collect())
    }

    fn names(&self, chain: &[CertificateId]) -> bool {
        chain.iter().any(|certificate| self.0.contains(certificate))
    }
}

fn add(der: &[u8], revoked: &mut HashSet<CertificateId>) -> Result<(), RevocationError> {
    let (_, list) =
        CertificateRevocationList::from_der(der).map_err(|error| RevocationError::Malformed(error.to_string()))?;
    let issuer: Box<[u8]> = list.issuer().as_raw().into();
    revoked.extend(
        list.iter_revoked_certificates()
            .map(|entry| CertificateId { issuer: issuer.clone(), serial: entry.raw_serial().into() }),
    );
    Ok(())
}

/// The present list, and word of its changes. Clones share it.
#[derive(Clone)]
pub struct Revocations {
    list: Arc<ArcSwap<RevocationList>>,
    changes: Arc<watch::Sender<()>>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self { list: Arc::default(), changes: Arc::new(watch::Sender::new(())) }
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocations({})", self.list.load().0.len())
    }
}

impl Revocations {
    /// Believes another list from now on.
    pub fn replace(&self, list: RevocationList) {
        if **self.list.load() != list {
            self.list.store(Arc::new(list));
            self.changes.send_replace(());
        }
    }

    /// Whether a certificate of a chain is revoked.
    pub(crate) fn includes(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        let list = self.list.load();
        !list.0.is_empty() && {
            let chain: Vec<_> =
                std::iter::once(leaf).chain(intermediates).filter_map(|der| CertificateId::of(der)).collect();
            list.names(&chain)
        }
    }

    /// Returns once a certificate of the chain is revoked: what an open connection waits for.
    pub async fn revoked(&self, chain: &[CertificateId]) {
        // Subscribed before the first look, so that a change in between is seen.
        let mut changes = self.changes.subscribe();
        while !self.list.load().names(chain) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Follows a file for as long as it is polled. A file that is not there revokes nothing and is waited for; one that
    /// cannot be parsed changes nothing.
    pub async fn follow(self, path: &Path) {
        let mut said: Option<String> = None;
        let mut seen = None;
        loop {
            let read = tokio::fs::read(path).await;
            let problem = match read {
                Ok(bytes) if seen.as_ref() == Some(&bytes) => said.clone(),
                Ok(bytes) => {
                    let parsed = RevocationList::parse(&bytes);
                    seen = Some(bytes);
                    parsed.map(|list| self.replace(list)).err().map(|error| error.to_string())
                }
                Err(reason) => Some(RevocationError::Read { path: path.to_owned(), reason }.to_string()),
            };
            if let Some(problem) = problem.as_ref().filter(|problem| said.as_ref() != Some(problem)) {
                tracing::warn!("{problem}");
            }
            said = problem;
            time::sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests;
