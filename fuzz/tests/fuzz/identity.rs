//! Certificates, requests and names of peers.

use crate::text;
use ::identity::{Issuer, KeyKind, csr::SigningRequest, peer_identity, pem, revocation::RevocationList};
use jiff::Timestamp;
use model::Identity;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::time::Duration;

fn issuer() -> Issuer {
    Issuer::self_signed("fuzz", KeyKind::EcdsaP256, Timestamp::now()).unwrap()
}

fn name() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

#[test]
fn certificate_requests() {
    let issuer = issuer();
    let request = SigningRequest::generate(&name()).unwrap();
    fuzz::run("certificate_requests", &[request.pem.as_bytes()], |bytes| {
        let _ = issuer.sign(&text(bytes), &name(), Duration::from_secs(60), Timestamp::now());
    });
}

#[test]
fn peer_certificates() {
    let request = SigningRequest::generate(&name()).unwrap();
    let chain = issuer().sign(&request.pem, &name(), Duration::from_secs(60), Timestamp::now()).unwrap();
    let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    fuzz::run("peer_certificates", &[&leaf], |bytes| {
        let _ = peer_identity(&[CertificateDer::from(bytes.to_vec())]);
        let _ = ::identity::CertificateInfo::from_der(bytes);
    });
}

#[test]
fn certificate_files() {
    let roots = issuer().roots_pem();
    fuzz::run("certificate_files", &[roots.as_bytes()], |bytes| drop(pem::certificates(bytes)));
}

#[test]
fn revocation_lists() {
    fuzz::run(
        "revocation_lists",
        &[b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n", &[0x30, 0x00]],
        |bytes| {
            let _ = RevocationList::parse(bytes);
        },
    );
}

#[test]
fn spiffe_names() {
    fuzz::run("spiffe_names", &[b"spiffe://cluster.local/ns/shop/sa/web"], |bytes| {
        let text = text(bytes);
        if let Ok(identity) = text.parse::<Identity>() {
            assert_eq!(identity.to_string(), text);
        }
    });
}
