//! Certificates good and bad, all signed by a real authority unless the case is about the authority.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose as Eku, IsCa, Issuer, KeyPair,
    KeyUsagePurpose as Ku, SanType,
};
use rstest::rstest;
use std::time::Duration;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const NOW: u64 = 1_790_000_000;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = base(NOW - 1_000, NOW + 1_000);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![Ku::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "cluster.local");
    let root = params.self_signed(&key).unwrap().der().clone();
    Authority { issuer: Issuer::new(params, key), root }
}

fn base(from: u64, to: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(to);
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn good() -> CertificateParams {
    let mut params = base(NOW - 100, NOW + 100);
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![uri(WEB)];
    params.key_usages = vec![Ku::DigitalSignature, Ku::KeyEncipherment];
    params.extended_key_usages = vec![Eku::ServerAuth, Eku::ClientAuth];
    params
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW))
}

type Change = fn(&mut CertificateParams);

#[rstest]
#[case::good("", |_: &mut CertificateParams| ())]
#[case::dns_names_beside_it("", |p: &mut CertificateParams| p.subject_alt_names.push(SanType::DnsName("web.shop".try_into().unwrap())))]
#[case::expired("Expired", |p: &mut CertificateParams| p.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(NOW - 1))]
#[case::not_yet("NotValidYet", |p: &mut CertificateParams| p.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(NOW + 9))]
#[case::no_names("carries no SPIFFE identity", |p: &mut CertificateParams| p.subject_alt_names.clear())]
#[case::dns_only("carries no SPIFFE identity", |p: &mut CertificateParams| p.subject_alt_names = vec![SanType::DnsName("web.shop".try_into().unwrap())])]
#[case::two_identities("2 URI names", |p: &mut CertificateParams| p.subject_alt_names.push(uri("spiffe://cluster.local/ns/shop/sa/db")))]
#[case::identity_and_other_uri("2 URI names", |p: &mut CertificateParams| p.subject_alt_names.push(uri("https://cluster.local")))]
#[case::same_identity_twice("2 URI names", |p: &mut CertificateParams| p.subject_alt_names.push(uri(WEB)))]
#[case::other_uri("not an identity", |p: &mut CertificateParams| p.subject_alt_names = vec![uri("https://cluster.local/ns/shop/sa/web")])]
#[case::short_uri("not an identity", |p: &mut CertificateParams| p.subject_alt_names = vec![uri("spiffe://cluster.local/ns/shop")])]
#[case::long_uri("not an identity", |p: &mut CertificateParams| p.subject_alt_names = vec![uri(&format!("{WEB}{}", "x".repeat(4_000)))])]
#[case::upper_case_domain("not an identity", |p: &mut CertificateParams| p.subject_alt_names = vec![uri("spiffe://CLUSTER.local/ns/shop/sa/web")])]
#[case::no_purpose("does not say what it is for", |p: &mut CertificateParams| p.extended_key_usages.clear())]
#[case::other_purpose("InvalidPurpose", |p: &mut CertificateParams| p.extended_key_usages = vec![Eku::CodeSigning])]
#[case::authority("invalid", |p: &mut CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))]
#[case::may_sign_certificates("authority", |p: &mut CertificateParams| p.key_usages.push(Ku::KeyCertSign))]
#[case::may_sign_revocations("authority", |p: &mut CertificateParams| p.key_usages.push(Ku::CrlSign))]
#[case::no_signatures("digital signatures", |p: &mut CertificateParams| p.key_usages = vec![Ku::KeyEncipherment])]
fn both_directions_refuse_the_same_leaves(#[case] fault: &str, #[case] change: Change) {
    let authority = authority();
    let mut params = good();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
    let trust = Trust::new(std::slice::from_ref(&authority.root), Revocations::default());
    for usage in [Usage::Server, Usage::Client] {
        let verified = trust.verify(&leaf, &[], usage, now());
        match &verified {
            Ok(identity) => assert!(fault.is_empty() && identity.to_string() == WEB, "{usage:?} accepted {identity}"),
            Err(error) => assert!(!fault.is_empty() && error.to_string().contains(fault), "{usage:?}: {error}"),
        }
    }
}

#[rstest]
#[case(Eku::ServerAuth, Usage::Server, true)]
#[case(Eku::ServerAuth, Usage::Client, false)]
#[case(Eku::ClientAuth, Usage::Client, true)]
#[case(Eku::ClientAuth, Usage::Server, false)]
fn a_purpose_is_for_one_direction(#[case] purpose: Eku, #[case] usage: Usage, #[case] accepted: bool) {
    let authority = authority();
    let mut params = good();
    params.extended_key_usages = vec![purpose];
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap().der().clone();
    assert_eq!(
        Trust::new(&[authority.root], Revocations::default()).verify(&leaf, &[], usage, now()).is_ok(),
        accepted
    );
}

#[test]
fn a_chain_must_lead_to_a_root_of_ours() {
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let foreign = good().signed_by(&key, &other.issuer).unwrap().der().clone();
    let self_signed = good().self_signed(&key).unwrap().der().clone();
    let trust = Trust::new(&[ours.root], Revocations::default());
    for leaf in [foreign, self_signed] {
        let sent_with_its_root = [other.root.clone()];
        assert!(trust.verify(&leaf, &[], Usage::Client, now()).is_err());
        assert!(trust.verify(&leaf, &sent_with_its_root, Usage::Client, now()).is_err());
    }
    let none = Trust::new(&[], Revocations::default());
    assert!(none.is_empty());
}

#[test]
fn intermediates_are_followed_within_bounds() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let mut params = base(NOW - 50, NOW + 50);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![Ku::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "middle");
    let middle = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let leaf = good().signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
    let trust = Trust::new(&[authority.root], Revocations::default());
    assert!(trust.verify(&leaf, &[], Usage::Server, now()).is_err());
    assert!(trust.verify(&leaf, std::slice::from_ref(&middle), Usage::Server, now()).is_ok());
    let flood = vec![middle; peer::MAX_CHAIN];
    assert!(trust.verify(&leaf, &flood, Usage::Server, now()).is_err());
}

#[test]
fn any_changed_byte_is_noticed_and_none_panics() {
    let authority = authority();
    let leaf = good().signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap().der().to_vec();
    let trust = Trust::new(&[authority.root], Revocations::default());
    for at in 0..leaf.len() {
        let mut changed = leaf.clone();
        changed[at] ^= 0x55;
        let verified = trust.verify(&CertificateDer::from(changed), &[], Usage::Client, now());
        assert!(verified.is_err(), "byte {at}");
        let cut = CertificateDer::from(leaf[..at].to_vec());
        assert!(trust.verify(&cut, &[], Usage::Client, now()).is_err());
    }
}

#[test]
fn a_server_must_be_expected_and_a_client_of_our_domain() {
    let web: Identity = WEB.parse().unwrap();
    let db: Identity = "spiffe://cluster.local/ns/shop/sa/db".parse().unwrap();
    let trust = Arc::new(Trust::new(&[], Revocations::default()));
    let domains = |own: &str, alias: &str| TrustDomains { own: own.into(), aliases: Arc::new([alias.into()]) };
    let server = |expected: &[Identity]| ExpectedServer {
        trust: trust.clone(),
        expected: expected.into(),
        domains: domains("cluster.local", "old.example"),
    };
    assert!(server(&[db.clone(), web.clone()]).check(&web).is_ok());
    assert!(server(&[]).check(&web).is_err(), "nobody is expected");
    assert_eq!(
        server(std::slice::from_ref(&db)).check(&web).unwrap_err().to_string(),
        format!(
            "unexpected error: identity verification error: peer did not present the expected SAN ({db}), got {web}"
        )
    );
    let client = |domain: &str| TrustedClient { trust: trust.clone(), domains: domains(domain, "old.example") };
    let renamed: Identity = "spiffe://old.example/ns/shop/sa/web".parse().unwrap();
    let stranger: Identity = "spiffe://far.example/ns/shop/sa/web".parse().unwrap();
    assert!(server(std::slice::from_ref(&web)).check(&renamed).is_ok(), "our domain by its other name");
    assert!(server(std::slice::from_ref(&renamed)).check(&web).is_ok());
    assert!(server(std::slice::from_ref(&db)).check(&renamed).is_err(), "another workload");
    assert!(server(std::slice::from_ref(&stranger)).check(&web).is_err(), "a domain that is none of ours");
    assert!(client("cluster.local").check(&renamed).is_ok());
    assert!(client("cluster.local").check(&stranger).is_err());
    assert!(client("cluster.local").check(&web).is_ok());
    assert_eq!(
        client("other.example").check(&web).unwrap_err().to_string(),
        format!(
            "unexpected error: identity verification error: peer did not present the expected trustdomain (other.example), got {web}"
        )
    );
}
