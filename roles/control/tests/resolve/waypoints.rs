//! Who is bound to which waypoint, and what is said about those who are not (control-plane A7).

use super::{resolve, service, workload};
use control::resolve::Subject;
use proto::workload::gateway_address::Destination;
use rstest::rstest;

const READY: &str =
    "{addresses: [{type: IPAddress, value: 10.96.0.9}, {type: Hostname, value: waypoint.infra.svc.cluster.local}]}";

/// A service and a pod in namespace shop, a waypoint in namespace infra.
fn world(namespace: &str, own: &str, waypoint: &str, routes: &str, status: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {namespace}}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop, labels: {own}}}, spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop, labels: {own}}}, status: {{podIP: 10.0.0.1}}}}\n---\n\
         {{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: waypoint, namespace: infra, labels: {waypoint}}},\
           spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {routes}}}]}}, status: {status}}}"
    )
}

const ASKS: &str = "{istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: infra}";
const ALL_MAY: &str = "{namespaces: {from: All}}";

#[rstest]
#[case::the_service_asks("{}", ASKS, "{}", ALL_MAY, READY, (true, false), "WaypointAccepted")]
#[case::the_namespace_asks(ASKS, "{}", "{}", ALL_MAY, READY, (true, false), "WaypointAccepted")]
#[case::none_goes_before_the_namespace(ASKS, "{istio.io/use-waypoint: none}", "{}", ALL_MAY, READY, (false, false), "")]
#[case::for_all("{}", ASKS, "{istio.io/waypoint-for: all}", ALL_MAY, READY, (true, true), "WaypointAccepted")]
#[case::for_workloads(
    "{}",
    ASKS,
    "{istio.io/waypoint-for: workload}",
    ALL_MAY,
    READY,
    (false, true),
    "UnsupportedTrafficType"
)]
#[case::for_none("{}", ASKS, "{istio.io/waypoint-for: none}", ALL_MAY, READY, (false, false), "UnsupportedTrafficType")]
#[case::same_namespace_only("{}", ASKS, "{}", "{namespaces: {from: Same}}", READY, (false, false), "AttachmentDenied")]
#[case::by_selector(
    "{team: a}",
    ASKS,
    "{}",
    "{namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}",
    READY,
    (true, false),
    "WaypointAccepted"
)]
#[case::by_other_selector(
    "{team: b}",
    ASKS,
    "{}",
    "{namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}",
    READY,
    (false, false),
    "AttachmentDenied"
)]
#[case::not_ready("{}", ASKS, "{}", ALL_MAY, "{}", (false, false), "WaypointIsNotReady")]
#[case::not_there("{}", "{istio.io/use-waypoint: other}", "{}", ALL_MAY, READY, (false, false), "WaypointIsNotReady")]
#[case::nobody_asks("{}", "{}", "{}", ALL_MAY, READY, (false, false), "")]
#[case::a_gateways_own_service(
    ASKS,
    "{gateway.istio.io/managed: istio.io-mesh-controller}",
    "{}",
    ALL_MAY,
    READY,
    (false, false),
    ""
)]
fn bindings(
    #[case] namespace: &str,
    #[case] own: &str,
    #[case] waypoint: &str,
    #[case] routes: &str,
    #[case] status: &str,
    #[case] bound: (bool, bool),
    #[case] reason: &str,
) {
    let changes = resolve(&world(namespace, own, waypoint, routes, status));
    let service = service(&changes, "shop/web.shop.svc.cluster.local").unwrap();
    let pod = workload(&changes, "Kubernetes//Pod/shop/web").unwrap();
    assert_eq!((service.waypoint.is_some(), pod.waypoint.is_some()), bound);
    let verdict = changes.statements.iter().find(|said| said.subject == Subject::Service).unwrap();
    assert_eq!(verdict.verdicts.first().map_or("", |verdict| verdict.reason), reason);
}

#[rstest]
#[case::hostname(READY, "waypoint.infra.svc.cluster.local")]
#[case::address("{addresses: [{type: IPAddress, value: 10.96.0.9}]}", "10.96.0.9")]
fn a_hostname_goes_before_an_address(#[case] status: &str, #[case] expected: &str) {
    let changes = resolve(&world("{}", ASKS, "{}", ALL_MAY, status));
    let waypoint = service(&changes, "shop/web.shop.svc.cluster.local").unwrap().waypoint.unwrap();
    assert_eq!(waypoint.hbone_mtls_port, 15008);
    let destination = match waypoint.destination.unwrap() {
        Destination::Hostname(name) => name.hostname,
        Destination::Address(address) => {
            std::net::IpAddr::from(<[u8; 4]>::try_from(address.address).unwrap()).to_string()
        }
    };
    assert_eq!(destination, expected);
}

#[rstest]
#[case::half("50", &[50, 50], "WaypointAccepted")]
#[case::absent("", &[100, 0], "WaypointAccepted")]
#[case::not_a_number("half", &[], "CanaryInvalidWeight")]
#[case::too_much("101", &[], "CanaryInvalidWeight")]
fn a_canary_gets_its_share(#[case] weight: &str, #[case] shares: &[u32], #[case] reason: &str) {
    let labels = "{istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: infra, \
                   istio.io/use-waypoint-canary: canary, istio.io/use-waypoint-canary-namespace: infra}";
    let annotation = if weight.is_empty() {
        String::new()
    } else {
        format!(", annotations: {{istio.io/use-waypoint-canary-weight: '{weight}'}}")
    };
    let yaml = world("{}", &format!("{labels}{annotation}"), "{}", ALL_MAY, READY);
    let canary = yaml.rsplit("\n---\n").next().unwrap().replace("name: waypoint,", "name: canary,");
    let changes = resolve(&format!("{yaml}\n---\n{canary}"));
    let service = service(&changes, "shop/web.shop.svc.cluster.local").unwrap();
    assert_eq!(service.weighted_waypoints.iter().map(|choice| choice.weight).collect::<Vec<_>>(), shares);
    assert!(service.waypoint.is_some());
    let verdict = changes.statements.iter().find(|said| said.subject == Subject::Service).unwrap();
    assert_eq!(verdict.verdicts.first().map_or("", |verdict| verdict.reason), reason);
}
