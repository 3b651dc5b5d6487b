//! The tables of ztunnel.md §7.2 and §7.3.

use super::*;
use model::{ApplicationTunnel, Change, NamespacedHostname, PortMap, WeightedWaypoint};
use rstest::rstest;

const ILLEGAL: [u16; 3] = [15001, 15006, 15008];

fn key(name: &str) -> NamespacedHostname {
    NamespacedHostname { namespace: "ns".into(), hostname: format!("{name}.ns.svc").into() }
}

fn workload(name: &str, address: &str) -> Workload {
    Workload {
        uid: name.into(),
        name: name.into(),
        namespace: "ns".into(),
        addresses: vec![address.parse().unwrap()],
        ..Workload::default()
    }
}

fn service(name: &str, vip: &str, waypoint: Option<GatewayDestination>) -> Service {
    Service {
        name: name.into(),
        namespace: "ns".into(),
        hostname: key(name).hostname,
        vips: vec![NetworkAddress { network: "".into(), address: vip.parse().unwrap() }],
        ports: vec![(80, 8080), (81, 0)],
        waypoint: waypoint.map(|destination| GatewayAddress { destination, hbone_mtls_port: 15008 }),
        ..Service::default()
    }
}

/// The local workload 10.0.0.1 is the pod of service `way`, which is the waypoint of `behind`; `other` has another's.
fn mesh(local: &Workload) -> Mesh {
    let named = |name| Some(GatewayDestination::Hostname(key(name)));
    let by_address =
        GatewayDestination::Address(NetworkAddress { network: "".into(), address: "10.0.0.1".parse().unwrap() });
    let mut sandwiched = workload("sandwiched", "10.0.0.7");
    sandwiched.waypoint = Some(GatewayAddress { destination: by_address, hbone_mtls_port: 15008 });
    let weighted = |name, weight| WeightedWaypoint {
        destination: GatewayAddress { destination: named(name).unwrap(), hbone_mtls_port: 15008 },
        weight,
    };
    let split = Service {
        weighted_waypoints: vec![weighted("elsewhere", 9), weighted("way", 1)],
        ..service("split", "10.1.0.4", None)
    };
    Mesh::new().apply([
        Change::Workload(Arc::new(local.clone())),
        Change::Workload(Arc::new(workload("stranger", "10.0.0.9"))),
        Change::Workload(Arc::new(sandwiched)),
        Change::Service(Arc::new(service("way", "10.1.0.1", None))),
        Change::Service(Arc::new(service("behind", "10.1.0.2", named("way")))),
        Change::Service(Arc::new(service("other", "10.1.0.3", named("elsewhere")))),
        Change::Service(Arc::new(split)),
    ])
}

fn local_workload() -> Workload {
    let mut local = workload("local", "10.0.0.1");
    local.services.insert(key("way"), PortMap(vec![(80, 9090), (81, 9191)]));
    local
}

fn resolve_for(local: &Workload, authority: &str) -> Result<Target, Refusal> {
    let network = Str::from("");
    let standpoint = Local {
        workload: local,
        address: "10.0.0.1".parse().unwrap(),
        network: &network,
        illegal_ports: &ILLEGAL,
        localhost_app_tunnel: true,
    };
    resolve(&mesh(local), standpoint, &authority.parse().unwrap())
}

#[rstest]
#[case::own_address("10.0.0.1:8080", Ok("10.0.0.1:8080"))]
#[case::a_service_it_is_the_waypoint_of("10.1.0.2:80", Ok("10.0.0.1:80"))]
#[case::a_workload_it_is_the_waypoint_of("10.0.0.7:80", Ok("10.0.0.1:80"))]
#[case::a_service_it_is_one_of_several_waypoints_of("10.1.0.4:80", Ok("10.0.0.1:80"))]
#[case::another_waypoints_service("10.1.0.3:80", Err(400))]
#[case::its_own_service_without_waypoint("10.1.0.1:80", Err(400))]
#[case::another_workload("10.0.0.9:8080", Err(400))]
#[case::unknown_address("10.0.0.200:8080", Err(400))]
#[case::hostname_with_endpoint_port("way.ns.svc:80", Ok("10.0.0.1:9090"))]
#[case::hostname_with_named_port("way.ns.svc:81", Ok("10.0.0.1:9191"))]
#[case::hostname_with_service_target("behind.ns.svc:80", Ok("10.0.0.1:8080"))]
#[case::hostname_with_unresolved_named_port("behind.ns.svc:81", Err(503))]
#[case::hostname_without_that_port("way.ns.svc:82", Err(503))]
#[case::unknown_hostname("nobody.ns.svc:80", Err(503))]
#[case::back_into_the_proxy("10.0.0.1:15008", Err(503))]
fn what_a_connect_may_reach(#[case] authority: &str, #[case] expected: Result<&str, u16>) {
    let resolved = resolve_for(&local_workload(), authority);
    let seen = resolved.as_ref().map(|target| target.connect.to_string()).map_err(|refusal| refusal.status);
    assert_eq!(seen, expected.map(str::to_owned), "{resolved:?}");
}

#[rstest]
#[case::address("10.1.0.9:80", Ok("10.1.0.9:80"))]
#[case::hostname("way.ns.svc:80", Ok("10.1.0.1:80"))]
fn a_sandwiched_application_is_reached_over_loopback_with_a_header(
    #[case] authority: &str,
    #[case] destination: Result<&str, u16>,
) {
    let mut local = local_workload();
    local.application_tunnel =
        Some(ApplicationTunnel { protocol: ApplicationTunnelProtocol::Proxy, port: Some(15088) });
    let target = resolve_for(&local, authority).unwrap();
    assert_eq!(target.connect, "127.0.0.1:15088".parse().unwrap());
    assert_eq!(target.application, "10.0.0.1:15088".parse().unwrap());
    assert_eq!(target.proxy_header.map(|address| address.to_string()).ok_or(0), destination.map(str::to_owned));
}

#[rstest]
#[case::as_said(Some("way.ns.svc"), 1, Some("way"))]
#[case::not_its_own(Some("behind.ns.svc"), 9090, Some("way"))]
#[case::by_port(None, 9191, Some("way"))]
#[case::nothing(None, 1, None)]
fn the_service_in_telemetry(#[case] said: Option<&str>, #[case] port: u16, #[case] expected: Option<&str>) {
    let local = local_workload();
    let service = addressed_service(&mesh(&local), &local, said, port);
    assert_eq!(service.as_ref().map(|service| &*service.name), expected);
}
