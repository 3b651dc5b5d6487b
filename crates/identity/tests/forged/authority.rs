//! A real authority, our own certificate from it, and leaves that it signs with anything in them.

use identity::{Issuer, IssuerSource, KeyKind, WorkloadCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use runtime::clock::Clock;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{sync::Arc, time::Duration};

/// Whom the forgers want to be.
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// What a peer shows in a handshake, and the key that it signs with.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// An issuer together with its certificate.
pub(crate) struct Signer {
    pub(crate) issuer: rcgen::Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

/// The mesh's authority.
pub(crate) struct Authority {
    source: IssuerSource,
    pub(crate) root: Signer,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let clock = Clock::system();
        let issuer = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, clock.now()).unwrap();
        let pem = issuer.to_pem();
        let root = Signer {
            issuer: rcgen::Issuer::from_ca_cert_pem(&pem.certificate, KeyPair::from_pem(&pem.key).unwrap()).unwrap(),
            certificate: identity::pem::certificates(pem.certificate.as_bytes()).unwrap().remove(0),
        };
        Self { source: IssuerSource::new(Arc::new(issuer), Duration::from_secs(3_600), clock), root }
    }

    /// The certificate of the side under test.
    pub(crate) fn ours(&self) -> WorkloadCertificate {
        self.source.certificate(&"spiffe://cluster.local/ns/shop/sa/ours".parse().unwrap()).unwrap()
    }

    /// A genuine leaf of [`WEB`], changed and then signed by the root.
    pub(crate) fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        signed(&self.root, change)
    }
}

/// A leaf of [`WEB`], changed and then signed.
pub(crate) fn signed(by: &Signer, change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let key = KeyPair::generate().unwrap();
    let mut params = workload();
    change(&mut params);
    let leaf = params.signed_by(&key, &by.issuer).unwrap().der().clone();
    Shown { chain: vec![leaf], key: der(&key) }
}

/// The key as it is used.
pub(crate) fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

/// What a genuine leaf says.
pub(crate) fn workload() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 1, 1);
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![uri(WEB)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// What an authority says of itself.
pub(crate) fn authority(organisation: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = workload();
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages.clear();
    params.subject_alt_names.clear();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params
}

/// A URI name.
pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}
