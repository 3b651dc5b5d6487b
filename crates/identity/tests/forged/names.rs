//! Leaves whose name is not an identity of the mesh, or not one that may be shown.

use crate::{
    Forgery,
    authority::{Authority, WEB, uri},
};
use rcgen::{DnType, OtherNameValue, SanType};

pub(crate) fn forgeries() -> Vec<Forgery> {
    let written = [
        "spiffe://evil.local/ns/shop/sa/web",
        "spiffe://cluster.local.evil.example/ns/shop/sa/web",
        "spiffe://evil.cluster.local/ns/shop/sa/web",
        "spiffe://cluster.localx/ns/shop/sa/web",
        "spiffe://cluster-local/ns/shop/sa/web",
        "spiffe://cluster.local./ns/shop/sa/web",
        "spiffe://CLUSTER.LOCAL/ns/shop/sa/web",
        "spiffe://Cluster.local/ns/shop/sa/web",
        "spiffe:///ns/shop/sa/web",
        "spiffe://cluster.local:443/ns/shop/sa/web",
        "spiffe://user@cluster.local/ns/shop/sa/web",
        "spiffe://evil.local@cluster.local/ns/shop/sa/web",
        "spiffe://cluster%2elocal/ns/shop/sa/web",
        "spiffe://cluster.local /ns/shop/sa/web",
        "https://cluster.local/ns/shop/sa/web",
        "SPIFFE://cluster.local/ns/shop/sa/web",
        "Spiffe://cluster.local/ns/shop/sa/web",
        "spiffes://cluster.local/ns/shop/sa/web",
        "spiffe:/cluster.local/ns/shop/sa/web",
        "spiffe:cluster.local/ns/shop/sa/web",
        "urn:spiffe://cluster.local/ns/shop/sa/web",
        " spiffe://cluster.local/ns/shop/sa/web",
        "//cluster.local/ns/shop/sa/web",
        "cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local",
        "spiffe://cluster.local/",
        "spiffe://cluster.local/workload",
        "spiffe://cluster.local/ns/shop/sa",
        "spiffe://cluster.local/ns/shop/sa/",
        "spiffe://cluster.local/ns//sa/web",
        "spiffe://cluster.local//ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web/",
        "spiffe://cluster.local/ns/shop/sa/web/x",
        "spiffe://cluster.local/sa/web/ns/shop",
        "spiffe://cluster.local/NS/shop/SA/web",
        "spiffe://cluster.local/ns/shop/pod/web",
        "spiffe://cluster.local/ns/shop/sa/web?a=b",
        "spiffe://cluster.local/ns/shop/sa/web#a",
        "spiffe://cluster.local/ns/shop/sa/we%62",
        "spiffe://cluster.local/ns/shop%2Fsa/web",
        "spiffe://cluster.local/ns/a/../shop/sa/web",
        "spiffe://cluster.local/ns/shop/./sa/web",
        "spiffe://cluster.local/ns\\shop\\sa\\web",
        "spiffe://cluster.local/ns/shop/sa/web\0.evil.example",
        "spiffe://cluster.local/ns/shop/sa/web\n",
        "spiffe://cluster.local/ns/shop/sa/ web",
        "spiffe://cluster.local/ns/shop/sa/*",
        "",
    ];
    let mut forgeries: Vec<Forgery> = written
        .map(|name| -> Forgery { (format!("named {name:?}"), Box::new(move |by| named(by, vec![uri(name)]))) })
        .into();
    forgeries.push(long("an identity of 4,000 letters", format!("{WEB}{}", "x".repeat(4_000))));
    forgeries.push(long("a trust domain of 300 letters", format!("spiffe://{}/ns/shop/sa/web", "c".repeat(300))));
    forgeries.extend(other_kinds());
    forgeries
}

fn named(by: &Authority, names: Vec<SanType>) -> crate::Shown {
    by.leaf(|params| params.subject_alt_names = names)
}

fn long(what: &str, name: String) -> Forgery {
    (what.to_owned(), Box::new(move |by| named(by, vec![uri(&name)])))
}

fn other_kinds() -> Vec<Forgery> {
    let of = |what: &str, names: fn() -> Vec<SanType>| -> Forgery {
        (what.to_owned(), Box::new(move |by| named(by, names())))
    };
    vec![
        of("no name", Vec::new),
        of("a DNS name", || vec![SanType::DnsName("web.shop.svc.cluster.local".try_into().unwrap())]),
        of("the identity as a DNS name", || vec![SanType::DnsName(WEB.try_into().unwrap())]),
        of("the identity as a mail address", || vec![SanType::Rfc822Name(WEB.try_into().unwrap())]),
        of("an IP address", || vec![SanType::IpAddress([10, 0, 0, 2].into())]),
        of("the identity as another name", || {
            vec![SanType::OtherName((
                vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
                OtherNameValue::Utf8String(WEB.to_owned()),
            ))]
        }),
        of("two identities", || vec![uri(WEB), uri("spiffe://cluster.local/ns/shop/sa/db")]),
        of("the identity behind another", || vec![uri("spiffe://cluster.local/ns/shop/sa/db"), uri(WEB)]),
        of("the identity twice", || vec![uri(WEB), uri(WEB)]),
        of("the identity and another URI", || vec![uri(WEB), uri("https://cluster.local")]),
        of("the identity and one of another domain", || vec![uri(WEB), uri("spiffe://evil.local/ns/shop/sa/web")]),
        (
            "the identity as the subject's common name".to_owned(),
            Box::new(|by: &Authority| {
                by.leaf(|params| {
                    params.subject_alt_names.clear();
                    params.distinguished_name.push(DnType::CommonName, WEB);
                })
            }),
        ),
    ]
}
