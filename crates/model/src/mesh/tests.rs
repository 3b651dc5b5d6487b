//! Lookups by table, and the one law: a snapshot is what its resources are, however they arrived.

use super::*;
use crate::{Action, IpFamilies, LoadBalancing, NetworkMode, PolicyScope};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn ip(text: &str) -> NetworkAddress {
    NetworkAddress { network: "".into(), address: text.parse().unwrap() }
}

fn key(text: &str) -> NamespacedHostname {
    text.parse().unwrap()
}

fn workload(uid: &str, address: &str) -> Workload {
    Workload { uid: uid.into(), name: uid.into(), addresses: vec![address.parse().unwrap()], ..Workload::default() }
}

fn service(name: &str, vip: &str) -> Service {
    let NamespacedHostname { namespace, hostname } = key(name);
    Service { namespace, hostname, vips: vec![ip(vip)], ports: vec![(80, 8080)], ..Service::default() }
}

fn policy(namespace: &str, name: &str, scope: PolicyScope) -> Authorization {
    let (namespace, name) = (namespace.into(), name.into());
    Authorization { name, namespace, scope, action: Action::Deny, rules: Vec::new(), dry_run: false }
}

fn mesh(workloads: Vec<Workload>, services: Vec<Service>) -> Mesh {
    let workloads = workloads.into_iter().map(|workload| Change::Workload(Arc::new(workload)));
    Mesh::new().apply(workloads.chain(services.into_iter().map(|service| Change::Service(Arc::new(service)))))
}

#[test]
fn an_address_means_the_pod_that_speaks_hbone() {
    let hbone = Workload { tunnel_protocol: TunnelProtocol::Hbone, ..workload("c//Pod/a/new", "10.0.0.1") };
    let host = Workload { network_mode: NetworkMode::HostNetwork, ..workload("c//Pod/a/0", "10.0.0.1") };
    let entry = Workload { tunnel_protocol: TunnelProtocol::Hbone, ..workload("a entry", "10.0.0.1") };
    let mesh = mesh(vec![workload("c//Pod/a/gone", "10.0.0.1"), entry, host, hbone], vec![]);
    let uids: Vec<_> = mesh.workloads_at(&ip("10.0.0.1")).iter().map(|w| &*w.uid).collect();
    assert_eq!(uids, ["c//Pod/a/new", "c//Pod/a/gone", "a entry"]);

    let mesh = mesh.apply([Change::RemoveAddress("c//Pod/a/new".into())]);
    assert_eq!(&*mesh.workload_by_address(&ip("10.0.0.1")).unwrap().uid, "c//Pod/a/gone");
    assert!(mesh.workload_by_uid("c//Pod/a/0").is_some());
}

#[test]
fn an_address_means_the_clients_own_service_then_the_canonical_one() {
    let canonical = Service { canonical: true, ..service("b/x", "10.96.0.1") };
    let hidden = Service { visibility: Visibility::Namespace, canonical: true, ..service("0/x", "10.96.0.1") };
    let mesh = mesh(vec![], vec![service("a/x", "10.96.0.1"), canonical, hidden, service("c/x", "10.96.0.1")]);
    let seen = |client: Option<&str>| &*mesh.service_by_vip(&ip("10.96.0.1"), client).unwrap().namespace;
    assert_eq!(seen(Some("c")), "c");
    assert_eq!(seen(Some("elsewhere")), "b");
    assert_eq!(seen(Some("0")), "0");
    assert_eq!(mesh.services_by_hostname("x").len(), 4);
}

fn range(name: &str, range: &str) -> Service {
    let range = Cidr { network: "".into(), range: range.parse().unwrap() };
    Service { vips: vec![], cidr_vips: vec![range], ..service(name, "10.96.0.1") }
}

#[test]
fn a_range_is_asked_after_exact_addresses_and_the_longest_wins() {
    let services =
        vec![range("a/wide", "10.0.0.0/8"), range("b/narrow", "10.96.0.0/16"), service("a/one", "10.96.0.1")];
    let mesh = mesh(vec![], services);
    let seen = |address: &str, client: &str| &*mesh.service_by_vip(&ip(address), Some(client)).unwrap().hostname;
    assert_eq!(seen("10.96.0.1", "b"), "one");
    assert_eq!(seen("10.96.0.2", "c"), "narrow");
    assert_eq!(seen("10.96.0.2", "a"), "wide");
    assert_eq!(seen("10.1.0.2", "b"), "wide");
    assert!(mesh.service_by_vip(&ip("11.0.0.1"), None).is_none());
}

#[test]
fn a_replaced_range_leaves_nothing_behind() {
    let mut mesh = mesh(vec![], vec![range("a/x", "10.0.0.0/8")]);
    for third in 0..50 {
        let next = range("a/x", &format!("10.{third}.0.0/16"));
        mesh = mesh.apply([Change::Service(Arc::new(next))]);
    }
    assert_eq!(mesh.cidrs.len(), 1);
    assert!(mesh.service_by_vip(&ip("10.1.0.1"), None).is_none());
    assert!(mesh.service_by_vip(&ip("10.49.0.1"), None).is_some());
}

fn endpoint(uid: &str, status: Health) -> Workload {
    let services = BTreeMap::from([(key("a/x"), PortMap(vec![(80, 8080)]))]);
    Workload { services, status, ..workload(uid, "10.0.0.1") }
}

#[test]
fn endpoints_wait_for_their_service_and_follow_its_health_policy() {
    let web = key("a/x");
    let mesh = mesh(vec![endpoint("good", Health::Healthy), endpoint("bad", Health::Unhealthy)], vec![]);
    let uids = |mesh: &Mesh| mesh.endpoints(&key("a/x")).map(|e| e.workload.uid.to_string()).collect::<Vec<_>>();
    assert!(uids(&mesh).is_empty());
    assert_eq!(mesh.staged().map(|(_, members)| members.len()).sum::<usize>(), 2);

    let mesh = mesh.apply([Change::Service(Arc::new(service("a/x", "10.96.0.1")))]);
    assert_eq!(uids(&mesh), ["good"]);
    assert_eq!(mesh.endpoints(&web).next().unwrap().ports.target(80), Some(8080));

    let all = LoadBalancing { health_policy: HealthPolicy::AllowAll, ..LoadBalancing::default() };
    let open = Service { load_balancing: Some(all), ..service("a/x", "10.96.0.1") };
    assert_eq!(uids(&mesh.apply([Change::Service(Arc::new(open))])), ["bad", "good"]);

    let gone = mesh.apply([Change::RemoveAddress("a/x".into())]);
    assert!(uids(&gone).is_empty());
    assert_eq!(uids(&gone.apply([Change::Service(Arc::new(service("a/x", "10.96.0.1")))])), ["good"]);
}

#[test]
fn policies_of_the_mesh_of_the_namespace_and_by_name() {
    let policies = [
        policy("root", "all", PolicyScope::Global),
        policy("a", "namespace", PolicyScope::Namespace),
        policy("b", "other", PolicyScope::Namespace),
        policy("a", "named", PolicyScope::WorkloadSelector),
    ];
    let mesh = Mesh::new().apply(policies.map(|policy| Change::Policy(Arc::new(policy))));
    let names = ["a/named", "a/named", "a/namespace", "a/late"].map(Str::from).to_vec();
    let pod = Workload { namespace: "a".into(), authorization_policies: names, ..workload("w", "10.0.0.1") };
    let applicable = mesh.policies_for(&pod);
    let found: Vec<_> = applicable.policies.iter().map(|policy| policy.key().to_string()).collect();
    assert_eq!(found, ["root/all", "a/namespace", "a/named"]);
    assert_eq!(applicable.missing, [Str::from("a/late")]);

    let moved = mesh.apply([
        Change::Policy(Arc::new(policy("a", "namespace", PolicyScope::WorkloadSelector))),
        Change::RemovePolicy("root/all".into()),
    ]);
    let plain = Workload { authorization_policies: vec![], ..pod };
    assert!(moved.policies_for(&plain).policies.is_empty());
}

#[test]
fn the_node_agents_words_find_the_workload_on_its_node_alone() {
    let here = Workload { node: "n1".into(), namespace: "a".into(), name: "web".into(), ..workload("1", "10.0.0.1") };
    let there = Workload { node: "n2".into(), uid: "2".into(), ..here.clone() };
    let hbone = Workload { tunnel_protocol: TunnelProtocol::Hbone, ..there };
    let mesh = mesh(vec![here, hbone.clone()], vec![]);
    let found = |node| mesh.local_workload(node, "a", "web", "default").map(|w| &*w.uid);
    assert_eq!(found(Some("n2")), Some("2"));
    assert_eq!(found(Some("n3")), None);
    assert!(found(None).is_some());
    assert!(mesh.local_workload(Some("n1"), "a", "web", "other").is_none());
    assert!(mesh.identity_in_use("n2", &hbone.identity()));
    assert!(!mesh.identity_in_use("n1", &hbone.identity()), "plain workloads need no certificate");
}

#[test]
fn a_small_change_of_a_large_mesh_copies_little() {
    let pod = |index: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + index).to_string();
        let node = format!("n{}", index / 100).into();
        Workload { node, ..endpoint(&format!("c//Pod/a/{index}"), Health::Healthy).renamed(&address) }
    };
    let large = mesh((0..20_000).map(pod).collect(), vec![service("a/x", "10.96.0.1")]);
    let next = large.apply([Change::Workload(Arc::new(Workload { capacity: 2, ..pod(7) }))]);
    assert_eq!(next.workloads.shared_with(&large.workloads), 255);
    assert_eq!(next.workloads_by_address.shared_with(&large.workloads_by_address), 255);
    assert_eq!(next.services.shared_with(&large.services), 256);
    assert_eq!(next.endpoints(&key("a/x")).count(), 20_000);
}

impl Workload {
    fn renamed(self, address: &str) -> Self {
        Self { addresses: vec![address.parse().unwrap()], ..self }
    }
}

/// Everything that lookups can see, in an order of its own.
fn shape(mesh: &Mesh) -> BTreeMap<String, Vec<String>> {
    fn put<T: std::fmt::Debug>(name: &str, found: impl Iterator<Item = T>) -> (String, Vec<String>) {
        (name.to_owned(), found.map(|item| format!("{item:?}")).collect())
    }
    fn sorted(mut entry: (String, Vec<String>)) -> (String, Vec<String>) {
        entry.1.sort();
        entry
    }
    let index = [
        sorted(put("workloads", mesh.workloads.iter())),
        sorted(put("by address", mesh.workloads_by_address.iter())),
        sorted(put("by hostname", mesh.workloads_by_hostname.iter())),
        sorted(put("by node", mesh.workloads_by_node.iter())),
        sorted(put("members", mesh.members.iter())),
        sorted(put("services", mesh.services.iter())),
        sorted(put("by vip", mesh.services_by_vip.iter())),
        sorted(put("services by hostname", mesh.services_by_hostname.iter())),
        put("ranges", mesh.cidrs.iter()),
        sorted(put("policies", mesh.policies.iter())),
        put("everywhere", mesh.policies_everywhere.iter()),
        sorted(put("by namespace", mesh.policies_by_namespace.iter())),
    ];
    index.into()
}

fn any_change() -> impl Strategy<Value = Change> {
    let workloads =
        (0..4_u8, 0..3_u8, any::<bool>(), 0..3_u8, any::<bool>()).prop_map(|(uid, host, flag, x, other)| {
            let services = (0..x).map(|x| (key(&format!("a/s{x}")), PortMap(vec![(80, 8080)]))).collect();
            let tunnel_protocol = if flag { TunnelProtocol::Hbone } else { TunnelProtocol::None };
            let network_mode = if other { NetworkMode::HostNetwork } else { NetworkMode::Standard };
            let hostname = if flag { "h".into() } else { "".into() };
            let pod = workload(&format!("c//Pod/a/{uid}"), &format!("10.0.0.{host}"));
            let node = format!("n{host}").into();
            Change::Workload(Arc::new(Workload { services, tunnel_protocol, network_mode, hostname, node, ..pod }))
        });
    let services = (0..3_u8, 0..3_u8, any::<bool>(), any::<bool>()).prop_map(|(name, vip, ranged, canonical)| {
        let name = format!("a/s{name}");
        let one =
            if ranged { range(&name, &format!("10.96.{vip}.0/24")) } else { service(&name, &format!("10.96.0.{vip}")) };
        Change::Service(Arc::new(Service { canonical, ip_families: canonical.then_some(IpFamilies::Dual), ..one }))
    });
    let policies = (0..3_u8, 0..3_u8).prop_map(|(name, scope)| {
        let scopes = [PolicyScope::Global, PolicyScope::Namespace, PolicyScope::WorkloadSelector];
        Change::Policy(Arc::new(policy("a", &format!("p{name}"), scopes[usize::from(scope)])))
    });
    let removals = (0..4_u8, 0..3_u8).prop_map(|(name, kind)| match kind {
        0 => Change::RemoveAddress(format!("c//Pod/a/{name}").into()),
        1 => Change::RemoveAddress(format!("a/s{name}").into()),
        _ => Change::RemovePolicy(format!("a/p{name}").into()),
    });
    prop_oneof![4 => workloads, 2 => services, 2 => policies, 2 => removals]
}

proptest! {
    #[test]
    fn a_snapshot_is_what_its_resources_are(changes in prop::collection::vec(any_change(), 0..60), batch in 1..7_usize) {
        let stepped = changes.chunks(batch).fold(Mesh::new(), |mesh, batch| mesh.apply(batch.to_vec()));
        let survivors = stepped.services().cloned().map(Change::Service)
            .chain(stepped.policies().cloned().map(Change::Policy))
            .chain(stepped.workloads().cloned().map(Change::Workload));
        let rebuilt = Mesh::new().apply(survivors);
        prop_assert_eq!(shape(&stepped), shape(&rebuilt));
        prop_assert_eq!(stepped.workload_count(), stepped.workloads().count());
    }
}
