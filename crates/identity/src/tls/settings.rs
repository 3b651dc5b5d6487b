//! What an operator may change about the mesh's TLS (TLS12_ENABLED, COMPLIANCE_POLICY, CRL_PATH, TRUST_DOMAIN_ALIASES).

use crate::revocation::Revocations;
use model::{Identity, Str};
use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider},
    version::{TLS12, TLS13},
};
use std::sync::Arc;

static MODERN: [&SupportedProtocolVersion; 1] = [&TLS13];
static WITH_OLD: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Settings of every handshake of a workload. The default is the mesh's profile.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// TLS 1.2 too, for peers that cannot do better.
    pub tls12: bool,
    /// The hybrid post-quantum key exchange alone (COMPLIANCE_POLICY=pqc).
    pub post_quantum_only: bool,
    /// Certificates that are no longer believed.
    pub revocations: Revocations,
    /// Trust domains that are this mesh's too: it was renamed, or meshes were joined.
    pub trust_domain_aliases: Arc<[Str]>,
}

/// Which trust domains are one: our own and its other names.
#[derive(Debug, Clone)]
pub(crate) struct TrustDomains {
    pub(crate) own: Str,
    pub(crate) aliases: Arc<[Str]>,
}

impl TrustDomains {
    /// Whether a domain is ours by any name.
    pub(crate) fn holds(&self, domain: &str) -> bool {
        *self.own == *domain || self.aliases.iter().any(|alias| **alias == *domain)
    }

    /// Whether two identities are the same workload's: equal, or equal but for names of our own domain.
    pub(crate) fn same(&self, one: &Identity, other: &Identity) -> bool {
        one == other
            || (one.namespace == other.namespace
                && one.service_account == other.service_account
                && self.holds(&one.trust_domain)
                && self.holds(&other.trust_domain))
    }
}

impl TlsSettings {
    pub(crate) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        // Post-quantum key exchange exists in TLS 1.3 alone.
        if self.tls12 && !self.post_quantum_only { &WITH_OLD } else { &MODERN }
    }

    /// AES-256 before AES-128, as upstream's; the hybrid post-quantum group before the classic ones.
    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        use provider::{cipher_suite as suite, kx_group as group};
        let mut suites: Vec<SupportedCipherSuite> =
            vec![suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_AES_128_GCM_SHA256];
        if self.tls12 {
            suites.extend([
                suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ]);
        }
        let mut groups: Vec<&'static dyn SupportedKxGroup> = vec![group::X25519MLKEM768];
        if !self.post_quantum_only {
            groups.extend([group::X25519, group::SECP256R1, group::SECP384R1]);
        }
        Arc::new(CryptoProvider { cipher_suites: suites, kx_groups: groups, ..provider::default_provider() })
    }
}
