//! The authority against good and bad requests, and its stored forms.

use super::*;
use crate::{csr::SigningRequest, peer::peer_identity};
use rstest::rstest;
use x509_parser::extensions::ParsedExtension;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn web() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

fn issuer() -> Issuer {
    Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, now()).unwrap()
}

fn leaf(chain: &[String]) -> CertificateDer<'static> {
    pem::certificates(chain[0].as_bytes()).unwrap().remove(0)
}

#[rstest]
#[case(KeyKind::Rsa2048)]
#[case(KeyKind::EcdsaP256)]
fn signs_the_identity_it_is_told_and_not_the_one_asked_for(#[case] kind: KeyKind) {
    let issuer = Issuer::self_signed("cluster.local", kind, now()).unwrap();
    let other: Identity = "spiffe://cluster.local/ns/other/sa/admin".parse().unwrap();
    let request = SigningRequest::generate(&other).unwrap();
    let chain = issuer.sign(&request.pem, &web(), DAY, now()).unwrap();
    assert_eq!(chain.len(), 2, "leaf and roots");
    assert_eq!(chain[1], issuer.roots_pem());
    let leaf = leaf(&chain);
    assert_eq!(peer_identity(std::slice::from_ref(&leaf)), Ok(web()));

    let parsed = validity::parse(&leaf).unwrap();
    let holds = validity::validity(&parsed).unwrap();
    assert_eq!((holds.not_before, holds.not_after), (now() - Duration::from_secs(120), now() + DAY));
    assert_eq!(parsed.subject().iter().count(), 0);
    assert_eq!(parsed.issuer().to_string(), "O=cluster.local");
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    let extended = parsed.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.server_auth && extended.value.client_auth && !extended.value.any);
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let san = parsed.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical, "critical, since the subject is empty");
    assert!(
        parsed.extensions().iter().any(|e| matches!(e.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_)))
    );
}

#[test]
fn a_root_is_an_authority_named_by_its_organisation_for_ten_years() {
    let issuer = issuer();
    let parsed = validity::parse(&issuer.roots[0]).unwrap();
    assert_eq!(parsed.subject().to_string(), "O=cluster.local");
    assert!(parsed.basic_constraints().unwrap().unwrap().value.ca);
    assert!(parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert_eq!(issuer.validity(), validity::validity(&parsed).unwrap());
    assert_eq!(issuer.validity().not_after, now() + ROOT_LIFE);
    assert!(!issuer.renewal_due(now() + ROOT_LIFE / 2) && issuer.renewal_due(now() + ROOT_LIFE / 10 * 9));
}

#[test]
fn serials_differ() {
    let request = SigningRequest::generate(&web()).unwrap();
    let issuer = issuer();
    let serials: std::collections::HashSet<_> = (0..16)
        .map(|_| {
            validity::parse(&leaf(&issuer.sign(&request.pem, &web(), DAY, now()).unwrap())).unwrap().serial.clone()
        })
        .collect();
    assert_eq!(serials.len(), 16);
}

#[test]
fn life_is_bounded_by_policy_and_by_the_issuer() {
    let request = SigningRequest::generate(&web()).unwrap();
    let issuer = issuer().with_max_ttl(DAY);
    let long = issuer.sign(&request.pem, &web(), DAY * 2, now());
    assert!(matches!(long, Err(IssuerError::TooLong { .. })));
    let end = issuer.validity().not_after;
    let chain = issuer.sign(&request.pem, &web(), DAY, end - Duration::from_secs(60)).unwrap();
    assert_eq!(validity::validity(&validity::parse(&leaf(&chain)).unwrap()).unwrap().not_after, end);
    assert!(matches!(issuer.sign(&request.pem, &web(), DAY, end), Err(IssuerError::Expired(_))));
}

/// A request with one byte of its signed part changed.
fn tampered() -> String {
    let mut der = pem::signing_request(SigningRequest::generate(&web()).unwrap().pem.as_bytes()).unwrap();
    let at = der.windows(4).position(|window| window == b"shop").unwrap();
    der[at] = b'S';
    pem::encode("CERTIFICATE REQUEST", &der)
}

fn request_with(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

#[rstest]
#[case::empty(String::new())]
#[case::not_a_request("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned())]
#[case::cut("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n".to_owned())]
#[case::two_blocks(SigningRequest::generate(&web()).unwrap().pem.repeat(2))]
#[case::certificate(issuer().roots_pem())]
#[case::tampered(tampered())]
#[case::too_long("A".repeat(20_000))]
#[case::weak_curve(request_with(&rcgen::PKCS_ECDSA_P521_SHA512))]
fn bad_requests_are_refused(#[case] request: String) {
    let error = issuer().sign(&request, &web(), DAY, now()).unwrap_err();
    assert!(matches!(error, IssuerError::Request(_)), "{error}");
}

#[rstest]
#[case(&rcgen::PKCS_ECDSA_P256_SHA256)]
#[case(&rcgen::PKCS_ECDSA_P384_SHA384)]
#[case(&rcgen::PKCS_ED25519)]
#[case(&rcgen::PKCS_RSA_SHA256)]
fn the_usual_kinds_of_key_are_signed(#[case] algorithm: &'static rcgen::SignatureAlgorithm) {
    issuer().sign(&request_with(algorithm), &web(), DAY, now()).unwrap();
}

#[rstest]
#[case(KeyKind::Rsa2048)]
#[case(KeyKind::EcdsaP256)]
fn a_stored_authority_signs_like_the_first(#[case] kind: KeyKind) {
    let first = Issuer::self_signed("cluster.local", kind, now()).unwrap();
    let second = Issuer::from_pem(&first.to_pem()).unwrap();
    assert_eq!((second.roots_pem(), second.validity()), (first.roots_pem(), first.validity()));
    let request = SigningRequest::generate(&web()).unwrap();
    let leaf = leaf(&second.sign(&request.pem, &web(), DAY, now()).unwrap());
    assert!(leads_to_root(&[&leaf], &first.roots));
}

#[test]
fn an_intermediate_authority_sends_its_chain() {
    let root = issuer();
    let key = rcgen::KeyPair::generate().unwrap();
    let middle = profile::root("middle", root.validity()).signed_by(&key, &root.signer).unwrap();
    let stored = IssuerPem {
        certificate: pem::certificate(middle.der()),
        key: key.serialize_pem(),
        chain: String::new(),
        roots: root.roots_pem(),
    };
    let issuer = Issuer::from_pem(&stored).unwrap();
    let request = SigningRequest::generate(&web()).unwrap();
    let chain = issuer.sign(&request.pem, &web(), DAY, now()).unwrap();
    assert_eq!(chain[1..], [stored.certificate, root.roots_pem()]);
    assert_eq!(Issuer::from_pem(&issuer.to_pem()).unwrap().intermediates, issuer.intermediates);
}

#[test]
fn a_renewed_root_keeps_its_key() {
    let first = issuer();
    let request = SigningRequest::generate(&web()).unwrap();
    let leaf = leaf(&first.sign(&request.pem, &web(), DAY, now()).unwrap());
    let second = first.renewed("cluster.local", now() + ROOT_LIFE / 10 * 9).unwrap();
    assert!(second.validity().not_after > first.validity().not_after);
    assert!(leads_to_root(&[&leaf], &second.roots));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (one, two) = (issuer().to_pem(), issuer().to_pem());
    let swapped = IssuerPem { key: two.key.clone(), ..one.clone() };
    assert!(matches!(Issuer::from_pem(&swapped), Err(IssuerError::KeyMismatch)));
    let foreign = IssuerPem { roots: two.roots, ..one.clone() };
    assert!(matches!(Issuer::from_pem(&foreign), Err(IssuerError::Unrooted)));
    let server = issuer().server_certificate(&["a.b".to_owned()], &[], DAY, now()).unwrap();
    let leaf = IssuerPem { certificate: server.chain, key: server.key, chain: String::new(), roots: String::new() };
    assert!(matches!(Issuer::from_pem(&leaf), Err(IssuerError::NotAnAuthority)));
    let broken = IssuerPem { key: "nothing".to_owned(), ..one };
    assert!(matches!(Issuer::from_pem(&broken), Err(IssuerError::Pem { part: "ca-key.pem", .. })));
}

#[test]
fn nothing_prints_a_key() {
    let issuer = issuer();
    let stored = issuer.to_pem();
    let server = issuer.server_certificate(&["a.b".to_owned()], &[], DAY, now()).unwrap();
    assert!(!format!("{issuer:?}{stored:?}{server:?}").contains("PRIVATE"));
}

#[test]
fn a_group_is_never_dropped_silently() {
    let issuer = issuer();
    let groups = ["one".to_owned(), "two".to_owned()];
    assert!(issuer.client_certificate("dev", &groups[..1], DAY, now()).is_ok());
    let several = issuer.client_certificate("dev", &groups, DAY, now());
    assert!(matches!(several, Err(IssuerError::SeveralGroups(2))));
}

/// Object identifier and criticality of each extension, in order of identifier.
fn extensions(der: &[u8]) -> Vec<(String, bool)> {
    let parsed = validity::parse(der).unwrap();
    let mut all: Vec<_> = parsed.extensions().iter().map(|one| (one.oid.to_id_string(), one.critical)).collect();
    all.sort();
    all
}

#[test]
fn certificates_are_made_like_upstreams() {
    let upstream = |text: &str| pem::certificates(text.as_bytes()).unwrap().remove(0);
    let their_leaf = upstream(include_str!("../../testdata/upstream-leaf.pem"));
    let their_root = upstream(include_str!("../../testdata/upstream-root.pem"));
    let ours = Issuer::self_signed("cluster.local", KeyKind::Rsa2048, now()).unwrap();
    let request = SigningRequest::generate(&web()).unwrap();
    let leaf = leaf(&ours.sign(&request.pem, &web(), DAY, now()).unwrap());
    assert_eq!(extensions(&leaf), extensions(&their_leaf));
    assert_eq!(extensions(&ours.roots[0]), extensions(&their_root));
    for (ours, theirs) in [(&leaf, &their_leaf), (&ours.roots[0], &their_root)] {
        let (ours, theirs) = (validity::parse(ours).unwrap(), validity::parse(theirs).unwrap());
        assert_eq!(ours.key_usage().unwrap(), theirs.key_usage().unwrap());
        assert_eq!(ours.extended_key_usage().unwrap(), theirs.extended_key_usage().unwrap());
        assert_eq!(ours.basic_constraints().unwrap(), theirs.basic_constraints().unwrap());
        assert_eq!(ours.issuer().to_string(), theirs.issuer().to_string());
        assert_eq!(ours.subject().to_string(), theirs.subject().to_string());
        assert_eq!(ours.signature_algorithm, theirs.signature_algorithm);
        assert_eq!(ours.public_key().algorithm, theirs.public_key().algorithm);
    }
    assert!(leads_to_root(&[&their_leaf], &[their_root]));
}
