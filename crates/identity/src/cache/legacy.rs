//! Certificates and their keys in another process's hands: the only way in which a key leaves this crate, and it leaves into
//! memory that is sealed before anybody else sees it.
//!
//! What is restored is judged as an answer of the authority would be; what does not hold any more is left out.

use super::{CertificateState, Certificates, Outcome, driver::until_renewal};
use crate::{certificate::WorkloadCertificate, csr::PrivateKey, tls::TlsSettings};
use linux::sealed::{Draft, Sealed};
use model::Identity;
use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    sync::Arc,
};
use tokio::{sync::watch, time::Instant};

const FIRST_LINE: &[u8] = b"ambit certificates 1\n";
/// Largest part of a certificate that is read.
const MAX_PART: u32 = 1 << 20;
/// Parts of one certificate: identity, chain, roots, key.
const PARTS: usize = 4;

/// Certificates could not be handed on, or not taken over.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// The kernel gave no memory, or other memory than ours.
    #[error(transparent)]
    Memory(#[from] linux::Error),
    /// It is not what this program writes.
    #[error("certificates of an earlier process cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl Certificates {
    /// Counts certificates that came or went: whenever it changes, [`Certificates::seal`] has something new.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Everything that is available now, keys included, in sealed memory.
    pub fn seal(&self) -> Result<Sealed, LegacyError> {
        let available: Vec<Arc<WorkloadCertificate>> = {
            let inner = self.0.inner.lock();
            let states = inner.outcomes.values().map(|outcome| outcome.borrow().state.clone());
            states
                .filter_map(|state| match state {
                    CertificateState::Available(certificate) => Some(certificate),
                    _ => None,
                })
                .collect()
        };
        let mut draft = Draft::new("certificates")?;
        let mut to = BufWriter::new(&mut draft);
        to.write_all(FIRST_LINE)?;
        for certificate in available {
            let chain: String = certificate.chain().iter().map(|link| link.pem.as_str()).collect();
            let identity = certificate.identity().to_string();
            let key = certificate.key().pkcs8().secret_pkcs8_der();
            for part in [identity.as_bytes(), chain.as_bytes(), certificate.roots_pem().as_bytes(), key] {
                let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                to.write_all(&length.to_le_bytes())?;
                to.write_all(part)?;
            }
        }
        to.flush()?;
        drop(to);
        Ok(draft.seal()?)
    }

    /// Takes over what an earlier process sealed, as far as it still holds; how many those are.
    pub fn restore(&self, sealed: &Sealed, settings: &TlsSettings) -> Result<usize, LegacyError> {
        let mut from = BufReader::new(sealed.reader());
        let mut first = [0; FIRST_LINE.len()];
        from.read_exact(&mut first)?;
        if first != FIRST_LINE {
            return Err(io::Error::other("it was written by another version").into());
        }
        let mut restored = 0;
        while let Some(parts) = next(&mut from)? {
            restored += usize::from(self.take_over(parts, settings));
        }
        Ok(restored)
    }

    fn take_over(&self, [identity, chain, roots, key]: [Vec<u8>; PARTS], settings: &TlsSettings) -> bool {
        let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
        let Ok(identity) = text(identity).parse::<Identity>() else { return false };
        let key = PrivateKey::from_pkcs8(key);
        let answer = [text(chain), text(roots)];
        let clock = &self.0.clock;
        let certificate =
            match WorkloadCertificate::from_response(&identity, &key, &answer, settings.clone(), clock.clone()) {
                Ok(certificate) if certificate.validity().not_after >= clock.now() => certificate,
                Ok(_) => return false,
                Err(error) => {
                    tracing::warn!(%identity, "a certificate of an earlier process is not taken over: {error}");
                    return false;
                }
            };
        let renewal = Instant::now() + until_renewal(&certificate, clock.now(), rand::random_range(-0.5..=0.5));
        let mut inner = self.0.inner.lock();
        if inner.schedule.hold(&identity, renewal) {
            let outcome = Outcome { attempts: 1, state: CertificateState::Available(Arc::new(certificate)) };
            inner.outcomes.insert(identity, watch::Sender::new(outcome));
            self.0.wake.notify_one();
        }
        true
    }
}

fn next(from: &mut impl Read) -> io::Result<Option<[Vec<u8>; PARTS]>> {
    let mut parts: [Vec<u8>; PARTS] = Default::default();
    for (index, part) in parts.iter_mut().enumerate() {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Err(error) if index == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome?,
        }
        let length = u32::from_le_bytes(length);
        if length > MAX_PART {
            return Err(io::ErrorKind::InvalidData.into());
        }
        *part = vec![0; length as usize];
        from.read_exact(part)?;
    }
    Ok(Some(parts))
}
