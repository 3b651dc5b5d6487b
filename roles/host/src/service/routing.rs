//! Which connections go where, decided from services and slices alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use api::discovery::SERVICE_NAME_LABEL;
use api::{Endpoint, EndpointSlice, Resource, Service};

/// A transport protocol that services are routed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// What a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Frontend {
    pub(crate) address: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// Who answers.
pub(crate) type Backend = (Ipv4Addr, u16);

/// Every service address of the node with its backends; none means that connections are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Routing {
    pub(crate) frontends: BTreeMap<Frontend, BTreeSet<Backend>>,
}

/// Decides the routing of the node called `node`.
pub(crate) fn routing<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node: &str,
) -> Routing {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| slice.address_type == "IPv4") {
        if let Some(service) = slice.metadata().label(SERVICE_NAME_LABEL) {
            by_service.entry((slice.namespace(), service)).or_default().push(slice);
        }
    }
    let mut routing = Routing::default();
    for service in services {
        let slices = by_service.get(&(service.namespace(), service.name())).map(Vec::as_slice).unwrap_or_default();
        for address in cluster_addresses(service) {
            for (protocol, port, name) in ports(service) {
                let backends = backends(service, slices, protocol, name, node);
                routing.frontends.insert(Frontend { address, protocol, port }, backends);
            }
        }
    }
    routing
}

/// The IPv4 cluster addresses; headless services and external names have none.
fn cluster_addresses(service: &Service) -> BTreeSet<Ipv4Addr> {
    if service.spec.type_ == "ExternalName" {
        return BTreeSet::new();
    }
    let all = std::iter::once(&service.spec.cluster_ip).chain(&service.spec.cluster_ips);
    all.filter_map(|text| text.parse().ok()).collect()
}

fn ports(service: &Service) -> impl Iterator<Item = (Protocol, u16, &str)> {
    service.spec.ports.iter().filter_map(|port| Some((protocol(&port.protocol)?, number(port.port)?, &*port.name)))
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// The endpoints that are ready, or while none is, those that still serve though they are going.
fn backends(
    service: &Service,
    slices: &[&EndpointSlice],
    wanted: Protocol,
    name: &str,
    node: &str,
) -> BTreeSet<Backend> {
    let only_local = service.spec.internal_traffic_policy == "Local";
    let near = |endpoint: &&Endpoint| !only_local || endpoint.node_name == node;
    let collect = |usable: fn(&Endpoint) -> bool| {
        let mut found = BTreeSet::new();
        for slice in slices {
            let same = |port: &&api::EndpointPort| port.name == name && protocol(&port.protocol) == Some(wanted);
            let Some(port) = slice.ports.iter().find(same).and_then(|port| number(port.port?)) else { continue };
            let endpoints = slice.endpoints.iter().filter(near).filter(|endpoint| usable(endpoint));
            let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
            found.extend(addresses.filter_map(|text| Some((text.parse().ok()?, port))));
        }
        found
    };
    let ready = collect(|endpoint| endpoint.conditions.ready.unwrap_or(true));
    if !ready.is_empty() {
        return ready;
    }
    collect(|endpoint| endpoint.conditions.serving.unwrap_or(true) && endpoint.conditions.terminating.unwrap_or(false))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::service) fn service(name: &str, address: &str, ports: &[(&str, &str, i32)]) -> Service {
        let mut service = Service { metadata: api::ObjectMeta::named("ns", name), ..Service::default() };
        service.spec.cluster_ip = address.to_owned();
        service.spec.ports = ports
            .iter()
            .map(|(name, protocol, port)| api::ServicePort {
                name: (*name).to_owned(),
                protocol: (*protocol).to_owned(),
                port: *port,
                ..Default::default()
            })
            .collect();
        service
    }

    /// A slice of the service: ports, and endpoints as address, node, ready, serving, terminating.
    pub(in crate::service) fn slice(
        service: &str,
        ports: &[(&str, &str, i32)],
        endpoints: &[(&str, &str, bool, bool, bool)],
    ) -> EndpointSlice {
        let mut slice = EndpointSlice { metadata: api::ObjectMeta::named("ns", "s"), ..EndpointSlice::default() };
        slice.metadata.labels.insert(SERVICE_NAME_LABEL.to_owned(), service.to_owned());
        slice.address_type = "IPv4".to_owned();
        slice.ports = ports
            .iter()
            .map(|(name, protocol, port)| api::EndpointPort {
                name: (*name).to_owned(),
                protocol: (*protocol).to_owned(),
                port: Some(*port),
                ..Default::default()
            })
            .collect();
        slice.endpoints = endpoints
            .iter()
            .map(|(address, node, ready, serving, terminating)| Endpoint {
                addresses: vec![(*address).to_owned()],
                node_name: (*node).to_owned(),
                conditions: api::EndpointConditions {
                    ready: Some(*ready),
                    serving: Some(*serving),
                    terminating: Some(*terminating),
                },
                ..Default::default()
            })
            .collect();
        slice
    }

    fn backends_of(routing: &Routing, port: u16) -> Vec<String> {
        let frontend = routing.frontends.iter().find(|(frontend, _)| frontend.port == port);
        frontend.unwrap().1.iter().map(|(address, port)| format!("{address}:{port}")).collect()
    }

    const HTTP: &[(&str, &str, i32)] = &[("http", "TCP", 80)];
    const TARGET: &[(&str, &str, i32)] = &[("http", "TCP", 8080)];

    #[rstest::rstest]
    #[case::ready_only(&[("10.0.0.1", "n1", true, true, false), ("10.0.0.2", "n1", false, false, false)], &["10.0.0.1:8080"])]
    #[case::going_ones_as_a_last_resort(&[("10.0.0.1", "n1", false, true, true)], &["10.0.0.1:8080"])]
    #[case::going_ones_are_spared(&[("10.0.0.1", "n1", false, true, true), ("10.0.0.2", "n1", true, true, false)], &["10.0.0.2:8080"])]
    #[case::none(&[("10.0.0.1", "n1", false, false, true)], &[])]
    fn backends_by_readiness(#[case] endpoints: &[(&str, &str, bool, bool, bool)], #[case] expected: &[&str]) {
        let (service, slice) = (service("web", "10.96.0.5", HTTP), slice("web", TARGET, endpoints));
        assert_eq!(backends_of(&routing([&service], [&slice], "n1"), 80), expected);
    }

    #[test]
    fn a_local_service_stays_on_its_node() {
        let mut service = service("web", "10.96.0.5", HTTP);
        service.spec.internal_traffic_policy = "Local".to_owned();
        let endpoints = [("10.0.0.1", "n1", true, true, false), ("10.0.0.2", "n2", true, true, false)];
        let slice = slice("web", TARGET, &endpoints);
        assert_eq!(backends_of(&routing([&service], [&slice], "n2"), 80), ["10.0.0.2:8080"]);
    }

    #[test]
    fn ports_are_matched_by_name_and_protocol() {
        let ports = [("dns", "UDP", 53), ("dns-tcp", "TCP", 53)];
        let (service, slice) =
            (service("dns", "10.96.0.10", &ports), slice("dns", &ports, &[("10.0.0.1", "n1", true, true, false)]));
        let routing = routing([&service], [&slice], "n1");
        let protocols: Vec<_> = routing.frontends.keys().map(|frontend| frontend.protocol).collect();
        assert_eq!(protocols, [Protocol::Tcp, Protocol::Udp]);
        assert!(routing.frontends.values().all(|backends| backends.len() == 1));
    }

    #[rstest::rstest]
    #[case::headless("None", "")]
    #[case::external("", "ExternalName")]
    #[case::not_yet("", "")]
    fn services_without_an_address_have_no_route(#[case] address: &str, #[case] kind: &str) {
        let mut service = service("web", address, HTTP);
        service.spec.type_ = kind.to_owned();
        assert!(routing([&service], [], "n1").frontends.is_empty());
    }
}
