//! Conversions: defaults, refusals, and nothing lost on the way there and back.

use super::*;
use model::{
    Action, AppProtocol, Authorization, GatewayAddress, GatewayDestination, LoadBalancing, LoadBalancingMode,
    LoadBalancingScope, Match, NamespacedHostname, NetworkAddress, PolicyScope, PortMap, Rule, SessionAffinity,
    StringMatch,
};
use prost::Message;
use proto::{security, workload as wire};
use rstest::rstest;
use std::time::Duration;

fn of_workload(workload: wire::Workload) -> Result<Address, ConversionError> {
    decode_address(&wire::Address { r#type: Some(wire::address::Type::Workload(workload)) }.encode_to_vec())
}

fn of_service(service: wire::Service) -> Result<Address, ConversionError> {
    decode_address(&wire::Address { r#type: Some(wire::address::Type::Service(service)) }.encode_to_vec())
}

#[test]
fn an_empty_workload_has_the_defaults() {
    let Ok(Address::Workload(workload)) = of_workload(wire::Workload::default()) else { panic!("not a workload") };
    assert_eq!(*workload, Workload::default());
}

#[rstest]
#[case::legacy_tunnel(wire::Workload { tunnel_protocol: 2, ..Default::default() }, "tunnel protocol 2 is not supported")]
#[case::tunnel(wire::Workload { tunnel_protocol: 9, ..Default::default() }, "tunnel protocol 9 is not supported")]
#[case::status(wire::Workload { status: 2, ..Default::default() }, "status has the unknown value 2")]
#[case::network_mode(wire::Workload { network_mode: 2, ..Default::default() }, "network_mode has the unknown value 2")]
#[case::workload_type(wire::Workload { workload_type: 4, ..Default::default() }, "workload_type has the unknown value 4")]
#[case::address(wire::Workload { addresses: vec![vec![1, 2, 3]], ..Default::default() }, "addresses: an address has 4 or 16 bytes, not 3")]
#[case::gateway(wire::Workload { waypoint: Some(wire::GatewayAddress::default()), ..Default::default() }, "waypoint is missing")]
#[case::services(wire::Workload { services: [("web".to_owned(), wire::PortList::default())].into(), ..Default::default() }, "service key \"web\" is not <namespace>/<hostname>")]
fn workloads_that_are_refused(#[case] workload: wire::Workload, #[case] reason: &str) {
    assert_eq!(of_workload(workload).unwrap_err().to_string(), reason);
}

#[rstest]
#[case::families(wire::Service { ip_families: 4, ..Default::default() }, "ip_families has the unknown value 4")]
#[case::scope(wire::Service { load_balancing: Some(wire::LoadBalancing { routing_preference: vec![0], ..Default::default() }), ..Default::default() }, "load_balancing.routing_preference has the unknown value 0")]
#[case::mode(wire::Service { load_balancing: Some(wire::LoadBalancing { mode: 7, ..Default::default() }), ..Default::default() }, "load_balancing.mode has the unknown value 7")]
#[case::weighted(wire::Service { weighted_waypoints: vec![wire::WeightedWaypoint::default()], ..Default::default() }, "weighted_waypoints.destination is missing")]
#[case::range(wire::Service { addresses: vec![wire::NetworkAddress { address: vec![10, 0, 0, 0], length: Some(33), ..Default::default() }], ..Default::default() }, "addresses: prefix length 33 does not fit the address")]
fn services_that_are_refused(#[case] service: wire::Service, #[case] reason: &str) {
    assert_eq!(of_service(service).unwrap_err().to_string(), reason);
}

#[test]
fn an_unknown_visibility_is_public_and_a_full_length_is_an_exact_address() {
    let addresses = vec![
        wire::NetworkAddress { address: vec![10, 0, 0, 1], length: Some(32), ..Default::default() },
        wire::NetworkAddress { address: vec![10, 1, 0, 0], length: Some(16), ..Default::default() },
    ];
    let Ok(Address::Service(service)) = of_service(wire::Service { visibility: 9, addresses, ..Default::default() })
    else {
        panic!("not a service")
    };
    assert_eq!(service.visibility, model::Visibility::Public);
    assert_eq!((service.vips.len(), service.cidr_vips.len()), (1, 1));
}

#[test]
fn neither_kind_is_refused() {
    assert_eq!(decode_address(&[]), Err(ConversionError::Missing("type")));
    assert!(matches!(decode_address(&[0xff]), Err(ConversionError::Decode(_))));
}

#[test]
fn a_workload_survives_the_wire() {
    let service = NamespacedHostname { namespace: "shop".into(), hostname: "web.shop.svc.cluster.local".into() };
    let workload = Workload {
        uid: "Kubernetes//Pod/shop/web-1".into(),
        trust_domain: "other".into(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        waypoint: Some(GatewayAddress {
            destination: GatewayDestination::Hostname(service.clone()),
            hbone_mtls_port: 15008,
        }),
        services: [(service, PortMap(vec![(80, 8080)]))].into(),
        authorization_policies: vec!["shop/deny".into()],
        capacity: 0,
        ..Workload::default()
    };
    let address = Address::Workload(Box::new(workload));
    assert_eq!(decode_address(&encode_address(&address).encode_to_vec()), Ok(address));
}

#[test]
fn a_service_survives_the_wire_with_its_affinity() {
    let service = Service {
        namespace: "shop".into(),
        hostname: "web.shop.svc.cluster.local".into(),
        vips: vec![NetworkAddress { network: "net".into(), address: "10.96.0.1".parse().unwrap() }],
        ports: vec![(80, 8080), (81, 8081)],
        protocols: vec![(80, AppProtocol::Grpc)],
        load_balancing: Some(LoadBalancing {
            routing_preferences: vec![LoadBalancingScope::Node],
            mode: LoadBalancingMode::Strict,
            ..LoadBalancing::default()
        }),
        session_affinity: Some(SessionAffinity { timeout: Duration::from_secs(10_800) }),
        ..Service::default()
    };
    let address = Address::Service(Box::new(service));
    assert_eq!(address.name(), "shop/web.shop.svc.cluster.local".into());
    assert_eq!(decode_address(&encode_address(&address).encode_to_vec()), Ok(address));
}

#[rstest]
#[case::other_name("other", DURATION_TYPE_URL, vec![8, 1])]
#[case::other_type(SESSION_AFFINITY_EXTENSION, "type.googleapis.com/google.protobuf.Empty", vec![])]
#[case::not_a_duration(SESSION_AFFINITY_EXTENSION, DURATION_TYPE_URL, vec![0xff])]
#[case::no_time(SESSION_AFFINITY_EXTENSION, DURATION_TYPE_URL, vec![])]
fn an_extension_that_says_nothing_does_not_refuse_the_service(
    #[case] name: &str,
    #[case] type_url: &str,
    #[case] value: Vec<u8>,
) {
    let config = Some(prost_types::Any { type_url: type_url.to_owned(), value });
    let extension = wire::Extension { name: name.to_owned(), config };
    let Ok(Address::Service(service)) = of_service(wire::Service { extensions: vec![extension], ..Default::default() })
    else {
        panic!("not a service")
    };
    assert_eq!(service.session_affinity, None);
}

fn with_match(action: security::Action, entry: security::Match) -> Authorization {
    let clause = security::Clause { matches: vec![entry] };
    let wire = security::Authorization {
        action: action.into(),
        rules: vec![security::Rule { clauses: vec![clause] }],
        ..security::Authorization::default()
    };
    decode_authorization(&wire.encode_to_vec()).unwrap()
}

#[rstest]
#[case::address_bytes(security::Match { source_ips: vec![security::Address { address: vec![1], length: 8 }], ..Default::default() })]
#[case::prefix_length(security::Match { not_source_ips: vec![security::Address { address: vec![1, 2, 3, 4], length: 33 }], ..Default::default() })]
#[case::no_variant(security::Match { principals: vec![security::StringMatch::default()], ..Default::default() })]
#[case::port(security::Match { destination_ports: vec![65_536], ..Default::default() })]
fn a_bad_element_makes_the_rule_unusable_and_never_widens_it(#[case] entry: security::Match) {
    for action in [security::Action::Allow, security::Action::Deny] {
        let policy = with_match(action, entry.clone());
        assert!(policy.rules[0].unusable);
        // On the wire it is sent as what it means: an ALLOW of nothing, a DENY of everything.
        let sent = encode_authorization(&policy);
        let matches_everything = sent.rules[0].clauses.is_empty();
        assert_eq!(matches_everything, action == security::Action::Deny);
    }
}

#[rstest]
#[case(security::Authorization { scope: 3, ..Default::default() }, "scope has the unknown value 3")]
#[case(security::Authorization { action: 2, ..Default::default() }, "action has the unknown value 2")]
fn policies_that_are_refused(#[case] policy: security::Authorization, #[case] reason: &str) {
    assert_eq!(decode_authorization(&policy.encode_to_vec()).unwrap_err().to_string(), reason);
}

#[test]
fn a_policy_survives_the_wire() {
    let entry = Match {
        principals: vec![
            StringMatch::Exact("a".into()),
            StringMatch::Prefix("b".into()),
            StringMatch::Suffix("c".into()),
        ],
        not_principals: vec![StringMatch::Presence],
        source_ips: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        destination_ports: vec![80, 65_535],
        ..Match::default()
    };
    let policy = Authorization {
        name: "a".into(),
        namespace: "b".into(),
        scope: PolicyScope::Namespace,
        action: Action::Deny,
        rules: vec![Rule { clauses: vec![vec![entry, Match::default()], vec![]], unusable: false }, Rule::default()],
        dry_run: true,
    };
    assert_eq!(decode_authorization(&encode_authorization(&policy).encode_to_vec()), Ok(policy));
}

proptest::proptest! {
    /// Bytes from a stranger are read or refused, nothing else.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)) {
        let _ = decode_address(&bytes);
        let _ = decode_authorization(&bytes);
    }
}
