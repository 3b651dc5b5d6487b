//! Leaves with the right name that are not good for it: time, usage, and bytes that somebody touched.

use crate::{
    Forgery,
    authority::{Authority, Shown, WEB, der},
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose as Extended, IsCa, KeyPair,
    KeyUsagePurpose as Usage,
};
use rustls_pki_types::CertificateDer;

pub(crate) fn forgeries() -> Vec<Forgery> {
    let mut forgeries = contents();
    forgeries.extend(touched());
    forgeries
}

fn contents() -> Vec<Forgery> {
    let with = |what: &str, change: fn(&mut CertificateParams)| -> Forgery {
        (what.to_owned(), Box::new(move |by: &Authority| by.leaf(change)))
    };
    vec![
        with("expired", |params| params.not_after = rcgen::date_time_ymd(2021, 1, 1)),
        with("not yet valid", |params| params.not_before = rcgen::date_time_ymd(2098, 1, 1)),
        with("expired before it was valid", |params| {
            (params.not_before, params.not_after) = (params.not_after, params.not_before);
        }),
        with("for nothing", |params| params.extended_key_usages.clear()),
        with("for signing code", |params| params.extended_key_usages = vec![Extended::CodeSigning]),
        with("for mail", |params| params.extended_key_usages = vec![Extended::EmailProtection]),
        with("for answering OCSP", |params| params.extended_key_usages = vec![Extended::OcspSigning]),
        with("an authority", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        with("an authority of leaves alone", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        with("may sign certificates", |params| params.key_usages.push(Usage::KeyCertSign)),
        with("may sign revocations", |params| params.key_usages.push(Usage::CrlSign)),
        with("may not sign", |params| params.key_usages = vec![Usage::KeyEncipherment]),
        with("may only agree on keys", |params| params.key_usages = vec![Usage::KeyAgreement]),
        with("something critical that nobody knows", |params| {
            let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        }),
    ]
}

/// Genuine leaves that were changed after they were signed, or that belong to another key.
fn touched() -> Vec<Forgery> {
    let changed = |what: &str, change: fn(&mut Vec<u8>)| -> Forgery {
        let forge = move |by: &Authority| {
            let shown = by.leaf(|_| ());
            let mut bytes = shown.chain[0].to_vec();
            change(&mut bytes);
            Shown { chain: vec![CertificateDer::from(bytes)], ..shown }
        };
        (what.to_owned(), Box::new(forge))
    };
    vec![
        changed("a signature with one bit changed", |bytes| *bytes.last_mut().unwrap() ^= 1),
        changed("a name with one letter changed", |bytes| {
            let at = bytes.windows(WEB.len()).position(|window| window == WEB.as_bytes()).unwrap();
            bytes[at + WEB.len() - 1] = b'c';
        }),
        changed("a serial number with one bit changed", |bytes| bytes[20] ^= 1),
        changed("a byte behind its end", |bytes| bytes.push(0)),
        changed("a second certificate behind its end", |bytes| bytes.extend(bytes.clone())),
        changed("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
        changed("no bytes", Vec::clear),
        changed("zeros", |bytes| bytes.fill(0)),
        changed("text", |bytes| *bytes = b"-----BEGIN CERTIFICATE-----\n".to_vec()),
        changed("a sequence of 2^31 bytes", |bytes| *bytes = vec![0x30, 0x84, 0x80, 0, 0, 0, 0x30]),
        (
            "somebody's certificate without its key".to_owned(),
            Box::new(|by: &Authority| Shown { key: der(&KeyPair::generate().unwrap()), ..by.leaf(|_| ()) }),
        ),
    ]
}
