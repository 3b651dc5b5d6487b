//! The name table of ztunnel.md §9.

use super::*;
use model::{Change, NetworkAddress, PortMap, Visibility, Workload};
use rstest::rstest;

const ASKER: Asker<'_> = Asker {
    namespace: "ns1",
    network: "",
    domain: "cluster.local",
    preferred_namespace: Some("preferred"),
    search: None,
};

fn service(hostname: &str, namespace: &str, vips: &[&str]) -> Service {
    let vip = |text: &&str| NetworkAddress { network: "".into(), address: text.parse().unwrap() };
    Service {
        name: hostname.split('.').next().unwrap().into(),
        namespace: namespace.into(),
        hostname: hostname.into(),
        vips: vips.iter().map(vip).collect(),
        canonical: true,
        ..Service::default()
    }
}

fn mesh() -> Mesh {
    let mut hidden = service("hidden.ns2.svc.cluster.local", "ns2", &["10.1.0.9"]);
    hidden.visibility = Visibility::Namespace;
    let mut v4_only = service("v4.ns1.svc.cluster.local", "ns1", &["10.1.0.4", "fd00::4"]);
    v4_only.ip_families = Some(IpFamilies::Ipv4);
    let mut remote = service("remote.ns1.svc.cluster.local", "ns1", &[]);
    remote.vips = vec![NetworkAddress { network: "far".into(), address: "10.9.0.1".parse().unwrap() }];
    let mut imitation = service("shared.example.com", "ns2", &["10.1.1.2"]);
    imitation.canonical = false;
    let services = [
        service("web.ns1.svc.cluster.local", "ns1", &["10.1.0.1", "fd00::1"]),
        service("web.ns2.svc.cluster.local", "ns2", &["10.1.0.2"]),
        service("headless.ns1.svc.cluster.local", "ns1", &[]),
        service("www.example.com", "ns1", &["10.1.0.5"]),
        service("*.wild.example.com", "ns1", &["10.1.0.6"]),
        service("*.deep.wild.example.com", "ns1", &["10.1.0.7"]),
        service("no-vip.example.com", "ns1", &[]),
        service("shared.example.com", "ns3", &["10.1.1.3"]),
        service("tie.example.com", "a", &["10.1.2.1"]),
        service("tie.example.com", "preferred", &["10.1.2.2"]),
        imitation,
        hidden,
        v4_only,
        remote,
    ];
    let mut pod = Workload {
        uid: "pod".into(),
        name: "db-0".into(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        ..Workload::default()
    };
    pod.services.insert("ns1/headless.ns1.svc.cluster.local".parse().unwrap(), PortMap(vec![(80, 80)]));
    let services = services.into_iter().map(|service| Change::Service(Arc::new(service)));
    Mesh::new().apply(services.chain([Change::Workload(Arc::new(pod))]))
}

#[rstest]
#[case::short("web", Some("10.1.0.1"))]
#[case::with_namespace("web.ns2", Some("10.1.0.2"))]
#[case::with_svc("web.ns1.svc", Some("10.1.0.1"))]
#[case::full("web.ns2.svc.cluster.local", Some("10.1.0.2"))]
#[case::external("www.example.com", Some("10.1.0.5"))]
#[case::wildcard("a.wild.example.com", Some("10.1.0.6"))]
#[case::wildcard_over_two_labels("a.b.wild.example.com", Some("10.1.0.6"))]
#[case::most_specific_wildcard("a.deep.wild.example.com", Some("10.1.0.7"))]
#[case::headless("headless.ns1", Some("10.0.0.1"))]
#[case::pod_of_a_headless_service("db-0.headless.ns1.svc.cluster.local", Some("10.0.0.1"))]
#[case::pod_by_a_short_name("db-0.headless.ns1", Some("10.0.0.1"))]
#[case::no_such_pod("db-1.headless.ns1", None)]
#[case::pod_of_a_service_with_an_address("db-0.web.ns1", None)]
#[case::canonical_wins("shared.example.com", Some("10.1.1.3"))]
#[case::preferred_namespace_wins_a_tie("tie.example.com", Some("10.1.2.2"))]
#[case::unknown("nobody.ns1", None)]
#[case::the_parent_of_a_wildcard("wild.example.com", None)]
#[case::without_address_and_not_of_the_cluster("no-vip.example.com", None)]
#[case::hidden_from_this_namespace("hidden.ns2", None)]
#[case::root("", None)]
#[case::only_dots("...", None)]
fn names(#[case] question: &str, #[case] expected: Option<&str>) {
    let mesh = mesh();
    let found = find(&mesh, ASKER, question);
    let address = found.as_ref().and_then(|found| addresses(&mesh, ASKER, found, false).first().copied());
    assert_eq!(address.map(|address| address.to_string()).as_deref(), expected, "{found:?}");
    assert_eq!(found.and_then(|found| found.alias), None);
}

#[rstest]
#[case::external("www.example.com.ns1.svc.cluster.local", Some("www.example.com"))]
#[case::external_by_a_later_domain("www.example.com.cluster.local", Some("www.example.com"))]
#[case::pod("db-0.headless.ns1.svc.cluster.local.svc.cluster.local", Some("db-0.headless.ns1.svc.cluster.local"))]
#[case::doubly_searched("web.ns1.svc.cluster.local.ns1.svc.cluster.local", Some("web.ns1.svc.cluster.local"))]
#[case::wildcards_answer_for_themselves("a.wild.example.com.ns1.svc.cluster.local", None)]
fn the_search_path_is_undone_by_an_alias(#[case] question: &str, #[case] alias: Option<&str>) {
    let found = find(&mesh(), ASKER, question).unwrap();
    assert_eq!(found.alias.as_deref(), alias);
}

#[rstest]
#[case::both_families("web", true, &["fd00::1"])]
#[case::not_served_on_ipv6("v4", true, &[])]
#[case::of_another_network("remote", false, &[])]
fn families_and_networks(#[case] question: &str, #[case] v6: bool, #[case] expected: &[&str]) {
    let mesh = mesh();
    let found = find(&mesh, ASKER, question).unwrap();
    let addresses: Vec<_> = addresses(&mesh, ASKER, &found, v6).iter().map(ToString::to_string).collect();
    assert_eq!(addresses, expected);
}

#[test]
fn a_client_with_a_search_path_of_its_own_is_searched_in_that() {
    let search = ["corp.example".to_owned()];
    let asker = Asker { search: Some(&search), ..ASKER };
    let found = find(&mesh(), asker, "www.example.com.corp.example").unwrap();
    assert_eq!(found.alias.as_deref(), Some("www.example.com"));
    assert_eq!(find(&mesh(), asker, "www.example.com.ns1.svc.cluster.local"), None, "not in its path");
}
