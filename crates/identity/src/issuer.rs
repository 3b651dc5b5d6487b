//! The mesh's certificate authority: signs identities it was told to sign, and nothing a request asks for besides its key.
//!
//! Whether a caller may have an identity is decided by the control plane before it comes here. An issuer is a value: a new
//! root or a plugged-in authority is another issuer. Its key leaves it only as the text that is stored ([`Issuer::to_pem`]).

mod profile;
mod request;

pub use request::RequestError;

use crate::{
    csr::PrivateKey,
    pem::{self, PemError},
    validity::{self, UnreadableCertificate, Validity},
};
use jiff::Timestamp;
use model::Identity;
use rustls_pki_types::CertificateDer;
use std::{fmt, net::IpAddr, time::Duration};

/// Life of a self-signed root.
pub const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Longest life that may be asked for (MAX_WORKLOAD_CERT_TTL).
pub const MAX_TTL: Duration = Duration::from_secs(90 * 86_400);

/// The key of a self-signed root.
///
/// RSA is the default, as upstream's: signing is the authority's rare work, while every handshake of the mesh verifies, and
/// RSA verifies about a fifth faster than P-256. P-256 is for those who need quick start-ups, such as tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// RSA of 2048 bits.
    #[default]
    Rsa2048,
    /// ECDSA on P-256.
    EcdsaP256,
}

/// Signs certificates.
pub struct Issuer {
    signer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: CertificateDer<'static>,
    /// From the signing certificate (when it is not a root itself) towards the root.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    validity: Validity,
    max_ttl: Duration,
}

/// An issuer as it is stored (Secret `istio-ca-secret` or `cacerts`, or files of these names).
#[derive(Clone)]
pub struct IssuerPem {
    /// `ca-cert.pem`: the signing certificate.
    pub certificate: String,
    /// `ca-key.pem`: its private key.
    pub key: String,
    /// `cert-chain.pem`: certificates between it and the root; may be empty.
    pub chain: String,
    /// `root-cert.pem`: the roots that the mesh trusts.
    pub roots: String,
}

impl fmt::Debug for IssuerPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate with its key, as files and Secrets hold them.
#[derive(Clone)]
pub struct CertifiedKeyPem {
    /// Leaf first, then intermediates.
    pub chain: String,
    /// The private key, PKCS#8.
    pub key: String,
}

impl fmt::Debug for CertifiedKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedKeyPem").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Why an issuer cannot be made or does not sign.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The request is not one that is signed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// More life is asked for than is allowed.
    #[error("a certificate for {asked:?} was asked for, more than the {allowed:?} allowed (MAX_WORKLOAD_CERT_TTL)")]
    TooLong {
        /// What was asked for.
        asked: Duration,
        /// What is allowed.
        allowed: Duration,
    },
    /// The issuer's own certificate is at its end, or no time at all was asked for.
    #[error("a certificate with no time left was asked for; the authority's own certificate holds until {0}")]
    Expired(Timestamp),
    /// A part of a stored authority is not PEM.
    #[error("{part} of the certificate authority: {reason}")]
    Pem {
        /// Name of the part.
        part: &'static str,
        /// What is wrong.
        reason: PemError,
    },
    /// A certificate of a stored authority cannot be read.
    #[error("ca-cert.pem of the certificate authority: {0}")]
    Unreadable(#[from] UnreadableCertificate),
    /// The signing certificate may not sign.
    #[error("ca-cert.pem is not a certificate authority's certificate (basic constraints CA:TRUE is missing)")]
    NotAnAuthority,
    /// Key and certificate are of different pairs.
    #[error("ca-key.pem does not belong to ca-cert.pem")]
    KeyMismatch,
    /// The signing certificate does not lead to a root given with it.
    #[error("ca-cert.pem does not lead to any root in root-cert.pem through cert-chain.pem")]
    Unrooted,
    /// More groups than a client's certificate of ours can carry.
    #[error("a client certificate with {0} groups was asked for, but it can carry one; bind roles to the user instead")]
    SeveralGroups(usize),
    /// The cryptography library refused.
    #[error("making or signing a certificate: {0}")]
    Signing(#[from] rcgen::Error),
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("validity", &self.validity)
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// A new authority whose root signs directly and holds for [`ROOT_LIFE`].
    pub fn self_signed(organisation: &str, kind: KeyKind, now: Timestamp) -> Result<Self, IssuerError> {
        let key = match kind {
            KeyKind::Rsa2048 => rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?,
            KeyKind::EcdsaP256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        };
        Self::rooted(organisation, key, now)
    }

    /// The same authority with a new root certificate of the same key, so that what it signed stays trusted.
    pub fn renewed(&self, organisation: &str, now: Timestamp) -> Result<Self, IssuerError> {
        let key = rcgen::KeyPair::try_from(self.signer.key().serialized_der())?;
        Ok(Self { max_ttl: self.max_ttl, ..Self::rooted(organisation, key, now)? })
    }

    fn rooted(organisation: &str, key: rcgen::KeyPair, now: Timestamp) -> Result<Self, IssuerError> {
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
        let validity = Validity { not_before: whole(now - profile::BACKDATE), not_after: whole(now + ROOT_LIFE) };
        let params = profile::root(organisation, validity);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            signer: rcgen::Issuer::from_ca_cert_der(&certificate, key)?,
            roots: vec![certificate.clone()],
            certificate,
            intermediates: Vec::new(),
            validity,
            max_ttl: MAX_TTL,
        })
    }

    /// A stored authority. Without roots of its own the signing certificate is the root.
    pub fn from_pem(stored: &IssuerPem) -> Result<Self, IssuerError> {
        let part = |part| move |reason| IssuerError::Pem { part, reason };
        let list = |name, text: &str| match text.trim() {
            "" => Ok(Vec::new()),
            text => pem::certificates(text.as_bytes()).map_err(part(name)),
        };
        let mut own = pem::certificates(stored.certificate.as_bytes()).map_err(part("ca-cert.pem"))?;
        let key_der = pem::private_key(stored.key.as_bytes()).map_err(part("ca-key.pem"))?;
        let key = rcgen::KeyPair::try_from(key_der.secret_der())?;
        let certificate = own.remove(0);
        let mut chain = list("cert-chain.pem", &stored.chain)?;
        chain.extend(own);
        let mut roots = list("root-cert.pem", &stored.roots)?;
        if roots.is_empty() {
            roots.push(certificate.clone());
        }
        Self::assemble(key, certificate, chain, roots)
    }

    fn assemble(
        key: rcgen::KeyPair,
        certificate: CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IssuerError> {
        let parsed = validity::parse(&certificate)?;
        let constraints = parsed.basic_constraints().ok().flatten();
        if !constraints.is_some_and(|constraints| constraints.value.ca) {
            return Err(IssuerError::NotAnAuthority);
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(IssuerError::KeyMismatch);
        }
        let validity = validity::validity(&parsed)?;
        let path: Vec<_> = std::iter::once(&certificate).chain(&chain).collect();
        if !leads_to_root(&path, &roots) {
            return Err(IssuerError::Unrooted);
        }
        let mut intermediates: Vec<_> = path.into_iter().filter(|one| !roots.contains(one)).cloned().collect();
        intermediates.dedup();
        let signer = rcgen::Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { signer, certificate, intermediates, roots, validity, max_ttl: MAX_TTL })
    }

    /// The same with another limit on what may be asked for.
    #[must_use]
    pub fn with_max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = max_ttl;
        self
    }

    /// The authority as it is stored. The only way its key leaves it.
    pub fn to_pem(&self) -> IssuerPem {
        let between = self.intermediates.iter().filter(|one| **one != self.certificate);
        IssuerPem {
            certificate: pem::certificate(&self.certificate),
            key: self.signer.key().serialize_pem(),
            chain: between.map(|one| pem::certificate(one)).collect(),
            roots: self.roots_pem(),
        }
    }

    /// The roots that the mesh trusts, concatenated: what `istio-ca-root-cert` carries.
    pub fn roots_pem(&self) -> String {
        self.roots.iter().map(|root| pem::certificate(root)).collect()
    }

    /// When the signing certificate holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether a self-signed root should be renewed: a fifth of its life is left.
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        now >= self.validity.not_after - self.validity.length() / 5
    }

    /// Signs the key of a request for `identity`, whatever else the request asks for.
    ///
    /// Returns what CreateCertificate answers: the leaf, then intermediates, and as the last element all roots.
    pub fn sign(
        &self,
        request: &str,
        identity: &Identity,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<String>, IssuerError> {
        if ttl > self.max_ttl {
            return Err(IssuerError::TooLong { asked: ttl, allowed: self.max_ttl });
        }
        let key = request::public_key(request)?;
        let validity = profile::validity(now, ttl, &self.validity)?;
        let leaf = profile::workload(identity, validity)?.signed_by(&key, &self.signer)?;
        let mut chain = vec![pem::certificate(leaf.der())];
        chain.extend(self.intermediates.iter().map(|one| pem::certificate(one)));
        chain.push(self.roots_pem());
        Ok(chain)
    }

    /// A key and certificate for a server of these names and addresses.
    pub fn server_certificate(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<CertifiedKeyPem, IssuerError> {
        let validity = profile::validity(now, ttl, &self.validity)?;
        self.certify(&profile::server(names, addresses, validity)?)
    }

    /// A key and certificate for a Kubernetes user, who may be in one group.
    pub fn client_certificate(
        &self,
        common_name: &str,
        organisations: &[String],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<CertifiedKeyPem, IssuerError> {
        let validity = profile::validity(now, ttl, &self.validity)?;
        self.certify(&profile::client(common_name, organisations, validity)?)
    }

    fn certify(&self, params: &rcgen::CertificateParams) -> Result<CertifiedKeyPem, IssuerError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let leaf = params.signed_by(&key, &self.signer)?;
        let chain = std::iter::once(leaf.der()).chain(&self.intermediates).map(|one| pem::certificate(one)).collect();
        Ok(CertifiedKeyPem {
            chain,
            key: pem::encode("PRIVATE KEY", PrivateKey::from_pkcs8(key.serialize_der()).pkcs8().secret_pkcs8_der()),
        })
    }
}

/// Whether each certificate was issued by the next and the last by a root (or is one).
fn leads_to_root(path: &[&CertificateDer<'static>], roots: &[CertificateDer<'static>]) -> bool {
    let issued_by = |child: &CertificateDer<'_>, parent: &CertificateDer<'_>| {
        let (Ok(child), Ok(parent)) = (validity::parse(child), validity::parse(parent)) else {
            return false;
        };
        child.issuer() == parent.subject() && child.verify_signature(Some(parent.public_key())).is_ok()
    };
    let mut current = path[0];
    for _ in path {
        if roots.iter().any(|root| root == current || issued_by(current, root)) {
            return true;
        }
        let Some(parent) = path.iter().find(|one| **one != current && issued_by(current, one)) else {
            return false;
        };
        current = parent;
    }
    false
}

#[cfg(test)]
mod tests;
