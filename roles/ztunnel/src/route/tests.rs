//! The rows of ztunnel.md §6, each as a small mesh, a destination and the way that must come out.

use super::*;
use model::{
    ApplicationTunnel, ApplicationTunnelProtocol, Change, Cidr, GatewayAddress, GatewayDestination, Health,
    HealthPolicy, LoadBalancing, LoadBalancingScope, Locality, NamespacedHostname, NetworkMode, PortMap, Visibility,
    WeightedWaypoint,
};
use rstest::rstest;

mod affinity;

const ILLEGAL: [u16; 3] = [15001, 15006, 15008];

fn key(name: &str) -> NamespacedHostname {
    NamespacedHostname { namespace: "ns".into(), hostname: format!("{name}.ns.svc").into() }
}

fn at(network: &str, address: &str) -> NetworkAddress {
    NetworkAddress { network: network.into(), address: address.parse().unwrap() }
}

fn named(name: &str) -> Option<GatewayAddress> {
    Some(GatewayAddress { destination: GatewayDestination::Hostname(key(name)), hbone_mtls_port: 15008 })
}

fn addressed(address: &str, port: u16) -> Option<GatewayAddress> {
    Some(GatewayAddress { destination: GatewayDestination::Address(at("", address)), hbone_mtls_port: port })
}

/// A workload speaking HBONE; its service account is its name.
fn workload(name: &str, addresses: &[&str]) -> Workload {
    Workload {
        uid: format!("//Pod/ns/{name}").into(),
        name: name.into(),
        namespace: "ns".into(),
        service_account: name.into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        tunnel_protocol: TunnelProtocol::Hbone,
        ..Workload::default()
    }
}

fn service(name: &str, vip: &str) -> Service {
    Service {
        name: name.into(),
        namespace: "ns".into(),
        hostname: key(name).hostname,
        vips: vec![at("", vip)],
        ports: vec![(80, 8080), (81, 0), (15008, 15008)],
        ..Service::default()
    }
}

fn serves(mut workload: Workload, service: &str, ports: &[(u16, u16)]) -> Workload {
    workload.services.insert(key(service), PortMap(ports.to_vec()));
    workload
}

#[derive(Default)]
struct World(Vec<Change>);

impl World {
    fn with(mut self, workload: Workload) -> Self {
        self.0.push(Change::Workload(Arc::new(workload)));
        self
    }

    fn and(mut self, service: Service) -> Self {
        self.0.push(Change::Service(Arc::new(service)));
        self
    }

    fn way(self, destination: &str) -> Result<Route, Reason> {
        self.way_of(&workload("client", &["10.0.0.1"]), destination, 0)
    }

    /// The way that `source` is given when chance always says `chance` (or the highest there is).
    fn way_of(self, source: &Workload, destination: &str, chance: u64) -> Result<Route, Reason> {
        let mesh = Mesh::new().apply(self.0);
        let network = Str::from("");
        let standpoint = Source { workload: source, network: &network, illegal_ports: &ILLEGAL };
        let mut below = |limit: u64| chance.min(limit - 1);
        let mut chooser = Chooser::new(&mut below, source.addresses.first().copied());
        decide(&mesh, standpoint, destination.parse().unwrap(), &mut chooser)
    }
}

/// `plain 10.0.0.2:80`, `hbone 10.0.0.2:15008 (10.0.0.2:8080) as server`, `double …`.
fn text(way: &Result<Route, Reason>) -> String {
    let route = match way {
        Ok(route) => route,
        Err(reason) => return format!("error {reason}"),
    };
    let hop = match &route.hop {
        Hop::Address(address) => address.to_string(),
        Hop::Name { hostname, port, .. } => format!("{hostname}:{port}"),
    };
    let names = |identities: &[Identity]| {
        identities.iter().map(|identity| &*identity.service_account).collect::<Vec<_>>().join("+")
    };
    match &route.tunnel {
        Tunnel::Plain => format!("plain {hop}"),
        Tunnel::Hbone { authority, expected } => format!("hbone {hop} ({authority}) as {}", names(expected)),
        Tunnel::DoubleHbone { authority, gateway, expected } => {
            format!("double {hop} ({authority}) as {} then {}", names(gateway), names(expected))
        }
    }
}

/// A server behind a service, plain and tunnelled neighbours.
fn shop() -> World {
    let mut plain = workload("plain", &["10.0.0.3"]);
    plain.tunnel_protocol = TunnelProtocol::None;
    let mut node = workload("node", &["10.0.0.9"]);
    node.network_mode = NetworkMode::HostNetwork;
    World::default()
        .with(serves(workload("server", &["10.0.0.2", "fd00::2"]), "web", &[(80, 8080), (81, 9191)]))
        .with(plain)
        .with(node)
        .and(service("web", "10.1.0.1"))
        .and(service("empty", "10.1.0.2"))
}

#[rstest]
#[case::unknown("1.2.3.4:443", "plain 1.2.3.4:443")]
#[case::workload("10.0.0.2:7070", "hbone 10.0.0.2:15008 (10.0.0.2:7070) as server")]
#[case::workload_v6("[fd00::2]:7070", "hbone [fd00::2]:15008 ([fd00::2]:7070) as server")]
#[case::plain_workload("10.0.0.3:7070", "plain 10.0.0.3:7070")]
#[case::host_network("10.0.0.9:22", "plain 10.0.0.9:22")]
#[case::service("10.1.0.1:80", "hbone 10.0.0.2:15008 (10.0.0.2:8080) as server")]
#[case::named_port("10.1.0.1:81", "hbone 10.0.0.2:15008 (10.0.0.2:9191) as server")]
#[case::not_a_port_of_the_service("10.1.0.1:82", "error no healthy upstream")]
#[case::no_endpoints("10.1.0.2:80", "error no healthy upstream")]
#[case::into_the_proxy("127.0.0.1:15001", "error attempted recursive call to ourselves")]
#[case::loopback("127.0.0.1:80", "plain 127.0.0.1:80")]
fn destinations(#[case] destination: &str, #[case] expected: &str) {
    assert_eq!(text(&shop().way(destination)), expected);
}

#[test]
fn telemetry_is_told_workload_and_service() {
    let route = shop().way("10.1.0.1:80").unwrap();
    assert_eq!(route.workload.as_ref().map(|workload| &*workload.name), Some("server"));
    assert_eq!(route.service.as_ref().map(|service| &*service.name), Some("web"));
    assert_eq!(shop().way("10.0.0.2:80").unwrap().service, None);
}

#[test]
fn a_service_may_be_answered_under_further_names() {
    let mut web = service("web", "10.1.0.1");
    web.subject_alt_names = vec!["spiffe://cluster.local/ns/ns/sa/other".into(), "not-an-identity".into()];
    let world = World::default().and(web).with(serves(workload("server", &["10.0.0.2"]), "web", &[(80, 8080)]));
    assert_eq!(text(&world.way("10.1.0.1:80")), "hbone 10.0.0.2:15008 (10.0.0.2:8080) as other+server");
}

/// `web` has the waypoint `way`, whose only pod is 10.0.0.7.
fn with_waypoint(waypoint: Option<GatewayAddress>) -> World {
    let web = Service { waypoint, ..service("web", "10.1.0.1") };
    let mut named = workload("lonely", &["10.0.0.8"]);
    named.hostname = "lonely.ns.svc".into();
    World::default()
        .and(web)
        .and(service("way", "10.1.0.7"))
        .and(service("broken", "10.1.0.8"))
        .with(serves(workload("waypoint", &["10.0.0.7"]), "way", &[(15008, 15008)]))
        .with(serves(workload("server", &["10.0.0.2"]), "web", &[(80, 8080)]))
        .with(named)
}

#[rstest]
#[case::by_hostname(named("way"), "hbone 10.0.0.7:15008 (10.1.0.1:80) as waypoint")]
#[case::by_address_of_the_service(addressed("10.1.0.7", 15008), "hbone 10.0.0.7:15008 (10.1.0.1:80) as waypoint")]
#[case::by_address_of_a_workload(addressed("10.0.0.7", 15088), "hbone 10.0.0.7:15088 (10.1.0.1:80) as waypoint")]
#[case::by_hostname_of_a_workload(named("lonely"), "hbone 10.0.0.8:15008 (10.1.0.1:80) as lonely")]
#[case::without_endpoints(named("broken"), "error unknown waypoint: waypoint ns/broken.ns.svc port 15008 not found")]
#[case::unknown(named("nobody"), "error unknown waypoint: waypoint ns/nobody.ns.svc port 15008 not found")]
#[case::unknown_address(
    addressed("10.9.9.9", 15008),
    "error unknown waypoint: waypoint /10.9.9.9 port 15008 not found"
)]
fn a_service_waypoint_is_gone_through_or_nothing_is(#[case] waypoint: Option<GatewayAddress>, #[case] expected: &str) {
    assert_eq!(text(&with_waypoint(waypoint).way("10.1.0.1:80")), expected);
}

#[rstest]
#[case(&[("way", 1), ("broken", 0)], 0, "hbone 10.0.0.7")]
#[case(&[("way", 1), ("lonely", 3)], 1, "hbone 10.0.0.8")]
#[case(&[("broken", 0)], 0, "hbone 10.0.0.7")]
fn weighted_waypoints_are_sampled_and_else_the_single_one_counts(
    #[case] weights: &[(&str, u32)],
    #[case] chance: u64,
    #[case] expected: &str,
) {
    let weighted =
        weights.iter().map(|(name, weight)| WeightedWaypoint { destination: named(name).unwrap(), weight: *weight });
    let mut world = with_waypoint(None);
    let web = Service { weighted_waypoints: weighted.collect(), waypoint: named("way"), ..service("web", "10.1.0.1") };
    world = world.and(web);
    let way = text(&world.way_of(&workload("client", &["10.0.0.1"]), "10.1.0.1:80", chance));
    assert!(way.starts_with(expected), "{way}");
}

#[test]
fn a_workloads_waypoint_is_for_traffic_addressed_to_the_workload() {
    let behind =
        || serves(Workload { waypoint: named("way"), ..workload("behind", &["10.0.0.4"]) }, "back", &[(80, 8080)]);
    let world = || with_waypoint(None).with(behind()).and(service("back", "10.1.0.4"));
    assert_eq!(text(&world().way("10.0.0.4:80")), "hbone 10.0.0.7:15008 (10.0.0.4:80) as waypoint");
    assert_eq!(text(&world().way("10.1.0.4:80")), "hbone 10.0.0.4:15008 (10.0.0.4:8080) as behind");
    let waypoint = workload("waypoint", &["10.0.0.7"]);
    assert_eq!(text(&world().way_of(&waypoint, "10.0.0.4:80", 0)), "hbone 10.0.0.4:15008 (10.0.0.4:80) as behind");
    let imitation = workload("waypoint", &["10.0.0.66"]);
    assert_eq!(text(&world().way_of(&imitation, "10.0.0.4:80", 0)), "hbone 10.0.0.7:15008 (10.0.0.4:80) as waypoint");
}

#[test]
fn a_workloads_waypoint_in_another_network_is_not_dialled_by_its_address() {
    let waypoint = Workload { network: "far".into(), ..workload("waypoint", &["10.0.0.7"]) };
    let behind = Workload { waypoint: named("way"), ..workload("behind", &["10.0.0.4"]) };
    let world =
        World::default().and(service("way", "10.1.0.7")).with(serves(waypoint, "way", &[(15008, 15008)])).with(behind);
    let expected = "error unknown network gateway: waypoint ns/way.ns.svc is in network \"far\", \
                    which is reached by service only";
    assert_eq!(text(&world.way("10.0.0.4:80")), expected);
}

#[test]
fn a_waypoint_behind_a_tunnelled_workload_may_lack_the_port() {
    let tunnel = ApplicationTunnel { protocol: ApplicationTunnelProtocol::Proxy, port: Some(15088) };
    let waypoint = Workload { application_tunnel: Some(tunnel), ..workload("sandwich", &["10.0.0.7"]) };
    let portless = Service { ports: Vec::new(), ..service("way", "10.1.0.7") };
    let world = World::default()
        .and(Service { waypoint: named("way"), ..service("web", "10.1.0.1") })
        .and(portless)
        .with(serves(waypoint, "way", &[]));
    assert_eq!(text(&world.way("10.1.0.1:80")), "hbone 10.0.0.7:15008 (10.1.0.1:80) as sandwich");
}

/// `web` lives in another network behind 10.0.0.5.
fn remote(gateway: Option<GatewayAddress>) -> World {
    let server = Workload { network: "far".into(), network_gateway: gateway, ..workload("server", &["10.0.0.2"]) };
    let mut web = service("web", "10.1.0.1");
    web.subject_alt_names = vec!["spiffe://cluster.local/ns/ns/sa/server".into()];
    World::default().and(web).with(serves(server, "web", &[(80, 8080)])).with(workload("gateway", &["10.0.0.5"]))
}

#[rstest]
#[case::through_its_gateway(
    addressed("10.0.0.5", 15443),
    "double 10.0.0.5:15443 (web.ns.svc:80) as gateway then server"
)]
#[case::gateway_unknown(addressed("10.0.0.6", 15443), "error unknown network gateway: gateway /10.0.0.6 not found")]
#[case::no_gateway(None, "error unknown network gateway: workload //Pod/ns/server has no network gateway")]
fn another_network(#[case] gateway: Option<GatewayAddress>, #[case] expected: &str) {
    assert_eq!(text(&remote(gateway).way("10.1.0.1:80")), expected);
}

fn balanced(mode: LoadBalancingMode, preferences: &[LoadBalancingScope]) -> Option<LoadBalancing> {
    Some(LoadBalancing { routing_preferences: preferences.to_vec(), mode, health_policy: HealthPolicy::OnlyHealthy })
}

fn place(mut workload: Workload, region: &str, zone: &str, network: &str) -> Workload {
    workload.locality = Locality { region: region.into(), zone: zone.into(), subzone: "".into() };
    workload.network = network.into();
    if !network.is_empty() {
        workload.network_gateway = addressed("10.0.0.5", 15443);
    }
    workload
}

#[rstest]
#[case::all(balanced(LoadBalancingMode::Standard, &[]), &["here", "region", "zone-elsewhere", "away"])]
#[case::failover(balanced(LoadBalancingMode::Failover, &[LoadBalancingScope::Region, LoadBalancingScope::Zone]), &["here"])]
#[case::failover_is_in_order(balanced(LoadBalancingMode::Failover, &[LoadBalancingScope::Zone]), &["here", "zone-elsewhere"])]
#[case::strict(balanced(LoadBalancingMode::Strict, &[LoadBalancingScope::Region]), &["here", "region"])]
#[case::strict_without_match(balanced(LoadBalancingMode::Strict, &[LoadBalancingScope::Region, LoadBalancingScope::Subzone, LoadBalancingScope::Node]), &[])]
#[case::own_network_first(balanced(LoadBalancingMode::Failover, &[LoadBalancingScope::Network, LoadBalancingScope::Region, LoadBalancingScope::Zone]), &["here"])]
fn locality(#[case] balancing: Option<LoadBalancing>, #[case] expected: &[&str]) {
    let placed = [("here", "r1", "z1"), ("region", "r1", "z2"), ("zone-elsewhere", "r2", "z1"), ("away", "r3", "z3")];
    let client = Workload { node: "n1".into(), ..place(workload("client", &["10.0.0.1"]), "r1", "z1", "") };
    let mut seen: Vec<String> = Vec::new();
    for chance in 0..placed.len() as u64 {
        let mut world =
            World::default().and(Service { load_balancing: balancing.clone(), ..service("web", "10.1.0.1") });
        for (index, (name, region, zone)) in placed.iter().enumerate() {
            let pod = place(workload(name, &[&format!("10.0.1.{index}")]), region, zone, "");
            world = world.with(serves(pod, "web", &[(80, 8080)]));
        }
        if let Ok(route) = world.way_of(&client, "10.1.0.1:80", chance) {
            let name = route.workload.unwrap().name.to_string();
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
    }
    seen.sort();
    let mut expected: Vec<_> = expected.iter().map(|name| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn the_own_network_outweighs_every_other_match() {
    let preferences = [LoadBalancingScope::Network, LoadBalancingScope::Region, LoadBalancingScope::Zone];
    let balancing = balanced(LoadBalancingMode::Failover, &preferences);
    let client = place(workload("client", &["10.0.0.1"]), "r1", "z1", "");
    let world = World::default()
        .and(Service { load_balancing: balancing, ..service("web", "10.1.0.1") })
        .with(serves(place(workload("far", &["10.0.1.1"]), "r1", "z1", "far"), "web", &[(80, 80)]))
        .with(serves(place(workload("near", &["10.0.1.2"]), "r9", "z9", ""), "web", &[(80, 80)]));
    assert_eq!(text(&world.way_of(&client, "10.1.0.1:80", 0)), "hbone 10.0.1.2:15008 (10.0.1.2:80) as near");
}

#[test]
fn capacity_weighs_and_zero_is_never_chosen() {
    let pod = |name: &str, address: &str, capacity| {
        serves(Workload { capacity, ..workload(name, &[address]) }, "web", &[(80, 8080)])
    };
    let chosen = |chance| {
        let world = World::default()
            .and(service("web", "10.1.0.1"))
            .with(pod("a", "10.0.1.1", 0))
            .with(pod("b", "10.0.1.2", 3))
            .with(pod("c", "10.0.1.3", 1));
        world
            .way_of(&workload("client", &["10.0.0.1"]), "10.1.0.1:80", chance)
            .unwrap()
            .workload
            .unwrap()
            .name
            .to_string()
    };
    assert_eq!([chosen(0), chosen(1), chosen(2), chosen(3)], ["b", "b", "b", "c"]);
}

#[rstest]
#[case(HealthPolicy::OnlyHealthy, "error no healthy upstream")]
#[case(HealthPolicy::AllowAll, "hbone 10.0.0.2:15008 (10.0.0.2:8080) as server")]
fn health(#[case] health_policy: HealthPolicy, #[case] expected: &str) {
    let sick = Workload { status: Health::Unhealthy, ..workload("server", &["10.0.0.2"]) };
    let balancing = LoadBalancing { health_policy, ..LoadBalancing::default() };
    let world = World::default()
        .and(Service { load_balancing: Some(balancing), ..service("web", "10.1.0.1") })
        .with(serves(sick, "web", &[(80, 8080)]));
    assert_eq!(text(&world.way("10.1.0.1:80")), expected);
}

#[test]
fn passthrough_keeps_the_original_destination() {
    let balancing = balanced(LoadBalancingMode::Passthrough, &[]);
    let world = World::default().and(Service { load_balancing: balancing, ..service("web", "10.1.0.1") });
    assert_eq!(text(&world.way("10.1.0.1:80")), "plain 10.1.0.1:80");
}

#[test]
fn ranges_visibility_and_names() {
    let mut range = service("range", "10.1.0.1");
    range.vips.clear();
    range.cidr_vips = vec![Cidr { network: "".into(), range: "192.168.0.0/16".parse().unwrap() }];
    let mut hidden = service("hidden", "10.1.0.2");
    (hidden.visibility, hidden.namespace) = (Visibility::Namespace, "elsewhere".into());
    let external = Workload {
        hostname: "db.example.com".into(),
        tunnel_protocol: TunnelProtocol::None,
        ..workload("external", &[])
    };
    let world = || {
        World::default().and(range.clone()).and(hidden.clone()).with(serves(external.clone(), "range", &[(80, 5432)]))
    };
    assert_eq!(text(&world().way("192.168.3.4:80")), "plain db.example.com:5432");
    assert_eq!(text(&world().way("10.1.0.2:80")), "plain 10.1.0.2:80", "as if it did not exist");
}
