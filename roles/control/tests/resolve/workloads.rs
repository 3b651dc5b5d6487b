//! Pods, entries and services as the mesh sees them (control-plane A4 to A6).

use super::{resolve, resolver, service, workload};
use control::settings::Mesh;
use proto::workload::{
    NetworkMode, TunnelProtocol, WorkloadStatus,
    load_balancing::{HealthPolicy, Mode, Scope},
};
use rstest::rstest;

fn pod(metadata: &str, spec: &str, status: &str) -> Option<proto::workload::Workload> {
    let changes = resolve(&format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: n1, labels: {{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}}}}}\n---\n\
         {{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop{metadata}}}, spec: {spec}, status: {status}}}"
    ));
    workload(&changes, "Kubernetes//Pod/shop/web")
}

const READY: &str = "{phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}";

#[rstest]
#[case::running(READY, true)]
#[case::pending_with_an_address("{phase: Pending, podIP: 10.0.0.1}", true)]
#[case::without_an_address("{phase: Pending}", false)]
#[case::succeeded("{phase: Succeeded, podIP: 10.0.0.1}", false)]
#[case::failed("{phase: Failed, podIP: 10.0.0.1}", false)]
fn which_pods_are_workloads(#[case] status: &str, #[case] expected: bool) {
    assert_eq!(pod("", "{}", status).is_some(), expected);
}

#[rstest]
#[case::ready("", READY, WorkloadStatus::Healthy)]
#[case::not_ready("", "{phase: Running, podIP: 10.0.0.1}", WorkloadStatus::Unhealthy)]
#[case::terminating(", deletionTimestamp: '2026-01-01T00:00:00Z'", READY, WorkloadStatus::Unhealthy)]
fn health(#[case] metadata: &str, #[case] status: &str, #[case] expected: WorkloadStatus) {
    assert_eq!(pod(metadata, "{}", status).unwrap().status(), expected);
}

#[rstest]
#[case::plain("", TunnelProtocol::None, false)]
#[case::captured(", annotations: {ambient.istio.io/redirection: enabled}", TunnelProtocol::Hbone, false)]
#[case::on_its_way(", annotations: {ambient.istio.io/redirection: pending}", TunnelProtocol::None, false)]
#[case::asked_for_only(", labels: {istio.io/dataplane-mode: ambient}", TunnelProtocol::None, false)]
#[case::by_itself(", labels: {networking.istio.io/tunnel: 'x, http'}", TunnelProtocol::Hbone, true)]
fn tunnels(#[case] metadata: &str, #[case] protocol: TunnelProtocol, #[case] native: bool) {
    let pod = pod(metadata, "{}", READY).unwrap();
    assert_eq!((pod.tunnel_protocol(), pod.native_tunnel), (protocol, native));
}

#[test]
fn a_pods_place_and_addresses() {
    let status = "{phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: '2001:db8::1'}], podIP: 10.0.0.1}";
    let pod = pod("", "{nodeName: n1, hostNetwork: true}", status).unwrap();
    assert_eq!(pod.addresses.iter().map(Vec::len).collect::<Vec<_>>(), [4, 16]);
    assert_eq!(pod.network_mode(), NetworkMode::HostNetwork);
    let locality = pod.locality.unwrap();
    assert_eq!((locality.region.as_str(), locality.zone.as_str(), locality.subzone.as_str()), ("r", "z", ""));
    assert_eq!(
        (pod.service_account.as_str(), pod.trust_domain.as_str(), pod.cluster_id.as_str()),
        ("default", "", "Kubernetes")
    );
}

#[test]
fn another_installation_has_its_own_names() {
    let mesh =
        Mesh { cluster_id: "east".into(), trust_domain: "acme".into(), domain: "acme.local".into(), ..Mesh::default() };
    let yaml = "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}}\n---\n\
                {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}\n---\n\
                {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, status: {podIP: 10.0.0.1}}";
    let changes = resolver(yaml, mesh).resolve();
    let pod = workload(&changes, "east//Pod/shop/web").unwrap();
    assert_eq!((pod.trust_domain.as_str(), pod.network.as_str(), pod.cluster_id.as_str()), ("acme", "net1", "east"));
    assert_eq!(service(&changes, "shop/web.shop.svc.acme.local").unwrap().addresses[0].network, "net1");
    let alias = changes.addresses["east//Pod/shop/web"].as_ref().unwrap().aliases.clone();
    assert_eq!(alias, ["net1/10.0.0.1".into()]);
}

#[rstest]
#[case::plain("{}", "", None)]
#[case::local("{internalTrafficPolicy: Local}", "", Some((Mode::Strict, vec![Scope::Node], HealthPolicy::OnlyHealthy)))]
#[case::field("{trafficDistribution: PreferSameZone}", "", Some((Mode::Failover, vec![Scope::Network, Scope::Region, Scope::Zone], HealthPolicy::OnlyHealthy)))]
#[case::annotation("{}", ", annotations: {networking.istio.io/traffic-distribution: preferclose}", Some((Mode::Failover, vec![Scope::Network, Scope::Region, Scope::Zone], HealthPolicy::OnlyHealthy)))]
#[case::unknown("{trafficDistribution: Nearby}", "", None)]
#[case::unready_too("{publishNotReadyAddresses: true}", "", Some((Mode::UnspecifiedMode, vec![], HealthPolicy::AllowAll)))]
fn load_balancing(
    #[case] spec: &str,
    #[case] metadata: &str,
    #[case] expected: Option<(Mode, Vec<Scope>, HealthPolicy)>,
) {
    let changes = resolve(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop{metadata}}}, spec: {spec}}}"
    ));
    let found = service(&changes, "shop/web.shop.svc.cluster.local").unwrap().load_balancing;
    assert_eq!(found.map(|lb| (lb.mode(), lb.routing_preference().collect(), lb.health_policy())), expected);
}

#[test]
fn session_affinity_travels_as_an_extension() {
    let changes = resolve(
        "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {sessionAffinity: ClientIP}}",
    );
    let body = &changes.addresses["shop/web.shop.svc.cluster.local"].as_ref().unwrap().body;
    let Ok(xds::wds::Address::Service(web)) = xds::wds::decode_address(body) else { panic!("not a service") };
    assert_eq!(web.session_affinity.unwrap().timeout.as_secs(), 10_800);
}

#[test]
fn an_external_name_is_no_service() {
    let changes = resolve(
        "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {type: ExternalName, externalName: a.b}}",
    );
    assert!(changes.addresses.is_empty());
}

#[test]
fn a_service_without_selector_gets_the_pods_its_slices_point_to_and_the_others_as_they_are() {
    let changes = resolve(
        "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {ports: [{name: sql, port: 5432, targetPort: 5433}]}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: db-0, namespace: shop, uid: u}, status: {podIP: 10.0.0.1}}\n---\n\
         {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-x, namespace: shop, labels: {kubernetes.io/service-name: db}}, addressType: IPv4,\
           ports: [{name: sql, port: 5433}], endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: db-0, namespace: shop, uid: u}}, {addresses: [192.0.2.1], conditions: {ready: false}}]}",
    );
    let key = "shop/db.shop.svc.cluster.local";
    assert_eq!(workload(&changes, "Kubernetes//Pod/shop/db-0").unwrap().services[key].ports[0].target_port, 5433);
    let outside = workload(&changes, "Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-x/192.0.2.1").unwrap();
    assert_eq!((outside.status(), outside.network_mode()), (WorkloadStatus::Unhealthy, NetworkMode::HostNetwork));
    assert!(!changes.addresses.contains_key("Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-x/10.0.0.1"));
}

#[test]
fn of_several_claims_to_a_host_one_is_sent_per_namespace_and_one_is_the_real_one() {
    let entry = |namespace: &str, name: &str, created: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}},\
             spec: {{hosts: [ext.example.com], addresses: [192.0.2.1], resolution: STATIC, ports: [{{number: 80, name: http}}]}}}}"
        )
    };
    let all = [
        entry("a", "newer", "2026-01-02T00:00:00Z"),
        entry("a", "newest", "2026-01-03T00:00:00Z"),
        entry("b", "oldest", "2026-01-01T00:00:00Z"),
    ];
    let changes = resolve(&all.join("\n---\n"));
    let (a, b) = (service(&changes, "a/ext.example.com").unwrap(), service(&changes, "b/ext.example.com").unwrap());
    assert_eq!((a.name.as_str(), a.canonical), ("newer", false));
    assert_eq!((b.name.as_str(), b.canonical), ("oldest", true));

    // When the winner goes, the next one takes its place.
    let mut resolver = resolver(&all.join("\n---\n"), Mesh::default());
    resolver.resolve();
    resolver.remove::<api::ServiceEntry>("a", "newer");
    resolver.remove::<api::ServiceEntry>("b", "oldest");
    let changes = resolver.resolve();
    let a = service(&changes, "a/ext.example.com").unwrap();
    assert_eq!((a.name.as_str(), a.canonical), ("newest", true));
    assert!(changes.addresses["b/ext.example.com"].is_none());
}

#[rstest]
#[case::passthrough("resolution: NONE, addresses: [10.0.0.0/8]", Some((10, Some(8))), true)]
#[case::exact("resolution: STATIC, addresses: [10.1.2.3/32]", Some((10, None)), false)]
#[case::allocated("resolution: DNS", Some((240, None)), false)]
fn addresses_of_entries(#[case] spec: &str, #[case] expected: Option<(u8, Option<u32>)>, #[case] passthrough: bool) {
    let changes = resolve(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: e, namespace: shop}}, spec: {{hosts: [ext.example.com], {spec}}},\
         status: {{addresses: [{{host: ext.example.com, value: 240.240.0.5}}]}}}}"
    ));
    let service = service(&changes, "shop/ext.example.com").unwrap();
    assert_eq!(service.addresses.first().map(|vip| (vip.address[0], vip.length)), expected);
    assert_eq!(service.load_balancing.is_some_and(|lb| lb.mode() == Mode::Passthrough), passthrough);
}

#[test]
fn entries_are_selected_like_pods() {
    let changes = resolve(
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop}, spec: {hosts: [ext.example.com], resolution: STATIC,\
           workloadSelector: {labels: {app: vm}}, ports: [{number: 80, name: http, targetPort: 8080}, {number: 81, name: admin}]}}\n---\n\
         {apiVersion: v1, kind: Service, metadata: {name: vm, namespace: shop}, spec: {selector: {app: vm}, ports: [{name: http, port: 80, targetPort: web}]}}\n---\n\
         {apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: vm1, namespace: shop}, spec: {address: vm.example.com, labels: {app: vm}, weight: 3, locality: r/z, ports: {admin: 9000, web: 8000}}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop, labels: {app: vm}}, status: {podIP: 10.0.0.1}}",
    );
    let vm = workload(&changes, "Kubernetes/networking.istio.io/WorkloadEntry/shop/vm1").unwrap();
    let targets = |workload: &proto::workload::Workload, key: &str| {
        workload.services[key].ports.iter().map(|port| port.target_port).collect::<Vec<_>>()
    };
    assert_eq!(targets(&vm, "shop/ext.example.com"), [8080, 9000]);
    assert_eq!(targets(&vm, "shop/vm.shop.svc.cluster.local"), [8000]);
    assert_eq!((vm.hostname.as_str(), vm.addresses.len(), vm.capacity), ("vm.example.com", 0, Some(3)));
    assert_eq!(vm.locality.as_ref().unwrap().zone, "z");
    let pod = workload(&changes, "Kubernetes//Pod/shop/p").unwrap();
    assert_eq!(targets(&pod, "shop/ext.example.com"), [8080, 81]);
}
