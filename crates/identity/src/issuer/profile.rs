//! What stands in the certificates that the mesh's authority signs (control-plane A13).
//!
//! Pure: parameters in, parameters out; the caller signs.

use super::IssuerError;
use crate::validity::Validity;
use jiff::Timestamp;
use model::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use std::{net::IpAddr, time::Duration};

/// How far certificates are back-dated, for peers whose clocks are late.
pub(super) const BACKDATE: Duration = Duration::from_secs(120);

/// When a certificate asked for at `now` holds: back-dated, and never longer than its issuer.
pub(super) fn validity(now: Timestamp, ttl: Duration, issuer: &Validity) -> Result<Validity, IssuerError> {
    let not_after = now.checked_add(ttl).unwrap_or(Timestamp::MAX).min(issuer.not_after);
    if not_after <= now {
        return Err(IssuerError::Expired(issuer.not_after));
    }
    Ok(Validity { not_before: now - BACKDATE, not_after })
}

/// A workload's certificate.
pub(super) fn workload(identity: &Identity, validity: Validity) -> Result<CertificateParams, IssuerError> {
    let mut params = leaf(validity);
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// A server's certificate.
pub(super) fn server(
    names: &[String],
    addresses: &[IpAddr],
    validity: Validity,
) -> Result<CertificateParams, IssuerError> {
    let mut params = leaf(validity);
    for name in names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// A client's certificate as Kubernetes reads it: the user is the common name, the group is the organisation.
pub(super) fn client(
    common_name: &str,
    groups: &[String],
    validity: Validity,
) -> Result<CertificateParams, IssuerError> {
    let mut params = leaf(validity);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    match groups {
        [] => {}
        [group] => params.distinguished_name.push(DnType::OrganizationName, group.as_str()),
        // The library's subject holds one value per kind and would silently keep the last.
        several => return Err(IssuerError::SeveralGroups(several.len())),
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

/// A self-signed root; its subject is the organisation alone, as upstream's.
pub(super) fn root(organisation: &str, validity: Validity) -> CertificateParams {
    let mut params = base(validity);
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(validity: Validity) -> CertificateParams {
    let mut params = base(validity);
    params.custom_extensions = vec![not_an_authority()];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Basic constraints that say CA:FALSE. Written by hand, because the library adds a key identifier to its own, which upstream's
/// certificates do not have and nobody needs.
fn not_an_authority() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0]);
    extension.set_criticality(true);
    extension
}

fn base(validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial(rand::random()));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: Timestamp| Duration::from_secs(time.as_second().max(0).unsigned_abs());
    params.not_before = epoch + since(validity.not_before);
    params.not_after = epoch + since(validity.not_after);
    params
}

/// A serial number is positive and not zero.
fn serial(random: u128) -> SerialNumber {
    SerialNumber::from_slice(&random.max(1).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const YEAR: u64 = 365 * 86_400;

    #[rstest]
    #[case::within_the_issuers(1_000_000, 86_400, Some(1_086_400))]
    #[case::cut_at_the_issuers_end(YEAR - 3_600, 86_400, Some(YEAR))]
    #[case::issuer_ended(YEAR, 86_400, None)]
    #[case::no_time_at_all(1_000_000, 0, None)]
    fn a_certificate_ends_with_its_issuer(#[case] now: u64, #[case] ttl: u64, #[case] end: Option<u64>) {
        let at = |second: u64| Timestamp::UNIX_EPOCH + Duration::from_secs(second);
        let issuer = Validity { not_before: at(0), not_after: at(YEAR) };
        let validity = validity(at(now), Duration::from_secs(ttl), &issuer).ok();
        assert_eq!(validity.map(|validity| validity.not_after), end.map(at));
        assert!(validity.is_none_or(|validity| validity.not_before == at(now - 120)));
    }
}
