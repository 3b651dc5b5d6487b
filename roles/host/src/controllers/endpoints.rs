//! EndpointSlices of services: which pods stand behind a service, on which ports, and whether they may be used.
//!
//! Pods whose named ports resolve to the same numbers share a slice; a slice's name follows from those numbers, so the
//! same pods always give the same slices. Services without a selector belong to whoever writes their slices.

use std::collections::BTreeMap;

use api::discovery::{MANAGED_BY_LABEL, SERVICE_NAME_LABEL};
use api::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, IntOrString, ObjectReference, Pod, Resource, Service,
};

/// This controller's name in the slices that it writes.
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Endpoints in one slice, as Kubernetes' own controller has by default times ten: a slice is one object on the wire.
const SLICE_LIMIT: usize = 1_000;

/// The slices that should exist for a service; `None` if it does not want any made.
pub(super) fn slices(service: &Service, pods: &[&Pod]) -> Option<Vec<EndpointSlice>> {
    if service.spec.selector.is_empty() || service.spec.type_ == "ExternalName" {
        return None;
    }
    let mut groups: BTreeMap<Vec<(String, String, i32, String)>, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| stands_behind(service, pod)) {
        groups.entry(ports(service, pod)).or_default().push(endpoint(service, pod));
    }
    if groups.is_empty() {
        return Some(vec![slice(service, &[], Vec::new(), 0)]);
    }
    let mut made = Vec::new();
    for (ports, mut endpoints) in groups {
        endpoints.sort_by(|one, other| one.addresses.cmp(&other.addresses));
        for (number, part) in endpoints.chunks(SLICE_LIMIT).enumerate() {
            made.push(slice(service, &ports, part.to_vec(), number));
        }
    }
    Some(made)
}

fn stands_behind(service: &Service, pod: &Pod) -> bool {
    let selected = |(key, value): (&String, &String)| pod.metadata().label(key) == Some(value.as_str());
    pod.namespace() == service.namespace()
        && !pod.status.pod_ip.is_empty()
        && !pod.is_terminal()
        && service.spec.selector.iter().all(selected)
}

/// The service's ports with the numbers that they have at this pod; ports that it does not name are left out.
fn ports(service: &Service, pod: &Pod) -> Vec<(String, String, i32, String)> {
    let protocol = |text: &str| if text.is_empty() { "TCP".to_owned() } else { text.to_owned() };
    let resolve = |port: &api::ServicePort| match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => named_port(pod, name, &protocol(&port.protocol)),
    };
    let known = service.spec.ports.iter().filter_map(|port| {
        Some((port.name.clone(), protocol(&port.protocol), resolve(port)?, port.app_protocol.clone()))
    });
    known.collect()
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let restartable = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let mut ports = pod.spec.containers.iter().chain(restartable).flat_map(|container| &container.ports);
    let same = |text: &str| text == protocol || (text.is_empty() && protocol == "TCP");
    ports.find(|port| port.name == name && same(&port.protocol)).map(|port| port.container_port)
}

fn endpoint(service: &Service, pod: &Pod) -> Endpoint {
    let serving = pod.is_ready();
    let terminating = pod.metadata().deletion_timestamp.is_some();
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let named_by_service = pod.spec.subdomain == service.name();
    Endpoint {
        addresses: vec![pod.status.pod_ip.clone()],
        conditions: EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) },
        hostname: if named_by_service { pod.spec.hostname.clone() } else { String::new() },
        node_name: pod.spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: "Pod".to_owned(),
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: pod.metadata().uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn slice(
    service: &Service,
    ports: &[(String, String, i32, String)],
    endpoints: Vec<Endpoint>,
    number: usize,
) -> EndpointSlice {
    let name = format!("{}-{}", service.name(), suffix(ports, number));
    let mut metadata = api::ObjectMeta::named(service.namespace(), name);
    metadata.labels = service.metadata().labels.clone();
    if service.spec.cluster_ip == "None" {
        metadata.labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    metadata.labels.insert(SERVICE_NAME_LABEL.to_owned(), service.name().to_owned());
    metadata.labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    metadata.owner_references = vec![service.controller_reference()];
    let port = |(name, protocol, port, app_protocol): &(String, String, i32, String)| EndpointPort {
        name: name.clone(),
        protocol: protocol.clone(),
        port: Some(*port),
        app_protocol: app_protocol.clone(),
    };
    EndpointSlice { metadata, address_type: "IPv4".to_owned(), endpoints, ports: ports.iter().map(port).collect() }
}

/// Five letters that stand for the ports, so that the same group of pods keeps its slice.
fn suffix(ports: &[(String, String, i32, String)], number: usize) -> String {
    use sha2::Digest;
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = sha2::Sha256::digest(format!("{ports:?} {number}"));
    digest.iter().take(5).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Whether two slices say the same; names, versions and times aside.
pub(super) fn same(one: &EndpointSlice, other: &EndpointSlice) -> bool {
    one.endpoints == other.endpoints
        && one.ports == other.ports
        && one.address_type == other.address_type
        && one.metadata().labels == other.metadata().labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::rollout::tests::{pod, time};

    fn service(target: Option<IntOrString>) -> Service {
        let mut service = Service { metadata: api::ObjectMeta::named("ns", "web"), ..Service::default() };
        service.spec.selector.insert("app".to_owned(), "web".to_owned());
        service.spec.ports.push(api::ServicePort {
            name: "http".to_owned(),
            port: 80,
            target_port: target,
            ..api::ServicePort::default()
        });
        service
    }

    fn backend(name: &str, address: &str, ready: bool) -> Pod {
        let mut pod = pod(name, ready.then_some(1));
        pod.metadata.labels.insert("app".to_owned(), "web".to_owned());
        pod.status.pod_ip = address.to_owned();
        pod
    }

    fn conditions(slices: &[EndpointSlice]) -> Vec<(bool, bool, bool)> {
        let flag = |value: Option<bool>| value.unwrap();
        let all = slices.iter().flat_map(|slice| &slice.endpoints).map(|endpoint| &endpoint.conditions);
        all.map(|one| (flag(one.ready), flag(one.serving), flag(one.terminating))).collect()
    }

    #[rstest::rstest]
    #[case::ready(true, false, false, (true, true, false))]
    #[case::not_ready(false, false, false, (false, false, false))]
    #[case::going(true, true, false, (false, true, true))]
    #[case::published_anyway(false, false, true, (true, false, false))]
    fn readiness(
        #[case] ready: bool,
        #[case] going: bool,
        #[case] publish: bool,
        #[case] expected: (bool, bool, bool),
    ) {
        let mut service = service(None);
        service.spec.publish_not_ready_addresses = publish;
        let mut pod = backend("a", "10.0.0.1", ready);
        pod.metadata.deletion_timestamp = going.then(|| time(5));
        assert_eq!(conditions(&slices(&service, &[&pod]).unwrap()), [expected]);
    }

    #[test]
    fn named_ports_are_resolved_at_each_pod() {
        let mut old = backend("a", "10.0.0.1", true);
        let mut new = backend("b", "10.0.0.2", true);
        for (pod, number) in [(&mut old, 8080), (&mut new, 9090)] {
            let port = api::ContainerPort { name: "web".to_owned(), container_port: number, ..Default::default() };
            pod.spec.containers.push(api::Container { ports: vec![port], ..Default::default() });
        }
        let made = slices(&service(Some("web".into())), &[&old, &new]).unwrap();
        let ports: Vec<_> = made.iter().map(|slice| slice.ports[0].port.unwrap()).collect();
        assert_eq!(ports, [8080, 9090]);
        assert_ne!(made[0].name(), made[1].name());
    }

    #[rstest::rstest]
    #[case::own_number(None, 80)]
    #[case::number(Some(8080.into()), 8080)]
    fn numbered_ports(#[case] target: Option<IntOrString>, #[case] port: i32) {
        let pod = backend("a", "10.0.0.1", true);
        assert_eq!(slices(&service(target), &[&pod]).unwrap()[0].ports[0].port, Some(port));
    }

    #[test]
    fn others_do_not_stand_behind_it() {
        let mut elsewhere = backend("a", "10.0.0.1", true);
        elsewhere.metadata.namespace = "other".to_owned();
        let mut over = backend("b", "10.0.0.2", true);
        over.status.phase = "Succeeded".to_owned();
        let waiting = backend("c", "", true);
        let stranger = pod("d", Some(1));
        let made = slices(&service(None), &[&elsewhere, &over, &waiting, &stranger]).unwrap();
        assert!(made.len() == 1 && made[0].endpoints.is_empty());
    }

    #[test]
    fn a_service_without_selector_is_left_alone() {
        let mut service = service(None);
        service.spec.selector.clear();
        assert_eq!(slices(&service, &[]), None);
    }
}
