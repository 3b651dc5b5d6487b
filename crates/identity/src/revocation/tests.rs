//! Lists made by a real authority, read, followed and waited for.

use super::*;
use futures_util::FutureExt as _;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber};

const ISSUER: &str = "cluster.local";

struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, ISSUER);
        Self { issuer: rcgen::Issuer::new(params, KeyPair::generate().unwrap()) }
    }

    fn certificate(&self, serial: u64) -> CertificateId {
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().unwrap();
        CertificateId::of(params.signed_by(&key, &self.issuer).unwrap().der()).unwrap()
    }

    fn list(&self, serials: &[u64]) -> rcgen::CertificateRevocationList {
        let time = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: time,
            reason_code: None,
            invalidity_date: None,
        };
        CertificateRevocationListParams {
            this_update: time,
            next_update: rcgen::date_time_ymd(2020, 1, 2),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .unwrap()
    }
}

#[test]
fn lists_are_read_in_each_form_and_long_ended_ones_too() {
    let authority = Authority::new();
    let pem = format!("{}{}", authority.list(&[1, 200]).pem().unwrap(), authority.list(&[3]).pem().unwrap());
    let der = authority.list(&[1, 200, 3]).der().to_vec();
    let from_pem = RevocationList::parse(pem.as_bytes()).unwrap();
    assert_eq!(from_pem, RevocationList::parse(&der).unwrap());
    let named = |serial| from_pem.names(&[authority.certificate(serial)]);
    assert!(named(1) && named(200) && named(3) && !named(2));
    assert_eq!(RevocationList::parse(b" \n").unwrap(), RevocationList::default());
    assert_eq!(
        RevocationList::parse(authority.list(&[]).pem().unwrap().as_bytes()).unwrap(),
        RevocationList::default()
    );
}

#[test]
fn broken_lists_are_errors_and_never_panics() {
    assert!(RevocationList::parse(b"hello").is_err());
    let der = Authority::new().list(&[1, 2, 3]).der().to_vec();
    for at in 1..der.len() {
        let _ = RevocationList::parse(&der[..at]);
        let mut changed = der.clone();
        changed[at] ^= 0x55;
        let _ = RevocationList::parse(&changed);
    }
}

#[tokio::test]
async fn an_open_connection_learns_of_its_peers_end() {
    let authority = Authority::new();
    let revocations = Revocations::default();
    let chain = [authority.certificate(7), authority.certificate(8)];
    let mut waiting = Box::pin(revocations.revoked(&chain));
    assert!(waiting.as_mut().now_or_never().is_none());
    revocations.replace(RevocationList::parse(authority.list(&[9]).der()).unwrap());
    assert!(waiting.as_mut().now_or_never().is_none());
    revocations.replace(RevocationList::parse(authority.list(&[9, 8]).der()).unwrap());
    waiting.await;
    revocations.revoked(&chain).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_is_waited_for_followed_and_kept_when_it_breaks() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca-crl.pem");
    let revocations = Revocations::default();
    let (following, path) = (revocations.clone(), file.clone());
    tokio::spawn(async move { following.follow(&path).await });
    time::sleep(LOOK_EVERY * 2).await;
    std::fs::write(&file, authority.list(&[1]).pem().unwrap()).unwrap();
    revocations.revoked(&[authority.certificate(1)]).await;
    std::fs::write(&file, "broken").unwrap();
    time::sleep(LOOK_EVERY * 2).await;
    revocations.revoked(&[authority.certificate(1)]).await;
    std::fs::write(&file, authority.list(&[2]).pem().unwrap()).unwrap();
    revocations.revoked(&[authority.certificate(2)]).await;
}
