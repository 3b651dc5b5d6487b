//! Leaves that look right, below authorities that are not ours or must not sign them.

use crate::{
    Forgery,
    authority::{Authority, Shown, Signer, authority, der, signed, workload},
};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, KeyPair};

pub(crate) fn forgeries() -> Vec<Forgery> {
    let mut forgeries = foreign();
    forgeries.extend(intermediates());
    forgeries
}

/// An authority that signed itself.
fn rogue(organisation: &str) -> Signer {
    let key = KeyPair::generate().unwrap();
    let params = authority(organisation, BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Signer { issuer: rcgen::Issuer::new(params, key), certificate }
}

/// An authority below another.
fn below(by: &Signer, params: CertificateParams) -> Signer {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &by.issuer).unwrap().der().clone();
    Signer { issuer: rcgen::Issuer::new(params, key), certificate }
}

/// A leaf and the authorities that it comes with.
fn with(leaf: Shown, authorities: &[&Signer]) -> Shown {
    let sent = authorities.iter().map(|signer| signer.certificate.clone());
    Shown { chain: leaf.chain.into_iter().chain(sent).collect(), key: leaf.key }
}

/// What is genuine, for comparison.
pub(crate) fn through_an_intermediate(by: &Authority) -> Shown {
    let middle = below(&by.root, authority("middle", BasicConstraints::Constrained(0)));
    with(signed(&middle, |_| ()), &[&middle])
}

fn foreign() -> Vec<Forgery> {
    let of = |what: &str, forge: fn(&Authority) -> Shown| -> Forgery { (what.to_owned(), Box::new(forge)) };
    vec![
        of("nothing at all", |_| Shown { chain: Vec::new(), key: der(&KeyPair::generate().unwrap()) }),
        of("signed by itself", |_| {
            let key = KeyPair::generate().unwrap();
            Shown { chain: vec![workload().self_signed(&key).unwrap().der().clone()], key: der(&key) }
        }),
        of("of a foreign authority", |_| signed(&rogue("evil"), |_| ())),
        of("of a foreign authority that comes with it", |_| {
            let rogue = rogue("evil");
            with(signed(&rogue, |_| ()), &[&rogue])
        }),
        of("of a foreign authority with our authority's name", |_| signed(&rogue("cluster.local"), |_| ())),
        of("of a foreign authority with our authority's name that comes with it", |_| {
            let rogue = rogue("cluster.local");
            with(signed(&rogue, |_| ()), &[&rogue])
        }),
        of("of a foreign authority, with our root beside it", |by| {
            with(signed(&rogue("cluster.local"), |_| ()), &[&by.root])
        }),
        of("our root itself, without its key", |by| Shown {
            chain: vec![by.root.certificate.clone()],
            key: der(&KeyPair::generate().unwrap()),
        }),
    ]
}

fn intermediates() -> Vec<Forgery> {
    let of = |what: &str, forge: fn(&Authority) -> Shown| -> Forgery { (what.to_owned(), Box::new(forge)) };
    let through = |what: &str, middle: fn() -> CertificateParams| -> Forgery {
        let forge = move |by: &Authority| {
            let middle = below(&by.root, middle());
            with(signed(&middle, |_| ()), &[&middle])
        };
        (what.to_owned(), Box::new(forge))
    };
    vec![
        through("signed by a workload", workload),
        through("below an authority that has expired", || {
            let mut params = authority("middle", BasicConstraints::Unconstrained);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
            params
        }),
        through("below an authority that may not sign certificates", || {
            let mut params = authority("middle", BasicConstraints::Unconstrained);
            params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
            params
        }),
        through("below an authority of another domain's names", || {
            let mut params = authority("middle", BasicConstraints::Unconstrained);
            // Permitted: URI names of other.example.
            let subtree = [&[0x30, 0x13, 0xa0, 0x11, 0x30, 0x0f, 0x86, 0x0d][..], b"other.example"].concat();
            let mut names = CustomExtension::from_oid_content(&[2, 5, 29, 30], subtree);
            names.set_criticality(true);
            params.custom_extensions.push(names);
            params
        }),
        of("below an authority that is not sent", |by| {
            signed(&below(&by.root, authority("middle", BasicConstraints::Unconstrained)), |_| ())
        }),
        of("below one authority more than the first allows", |by| {
            let first = below(&by.root, authority("first", BasicConstraints::Constrained(0)));
            let second = below(&first, authority("second", BasicConstraints::Unconstrained));
            with(signed(&second, |_| ()), &[&second, &first])
        }),
        of("below a workload that calls itself an authority's name", |by| {
            let mut params = workload();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "cluster.local");
            let middle = below(&by.root, params);
            with(signed(&middle, |_| ()), &[&middle, &by.root])
        }),
        of("with a hundred certificates", |by| {
            let mut shown = by.leaf(|_| ());
            shown.chain.extend(vec![by.root.certificate.clone(); 99]);
            shown
        }),
    ]
}
