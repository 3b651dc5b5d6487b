//! What a decision would look up and not find: the addresses to ask for, when addresses are asked for one by one
//! (ztunnel.md §1.7). Pure.

use super::Source;
use model::{GatewayAddress, GatewayDestination, Mesh, NetworkAddress, Service, Workload};
use std::{net::SocketAddr, sync::Arc};

/// Resource names or addresses that a decision about `destination` needs next; none when it has all there is. What is found
/// may need more in turn, so one asks again after an answer.
pub(crate) fn wanted(mesh: &Mesh, source: Source<'_>, destination: SocketAddr) -> Vec<String> {
    if destination.ip().is_loopback() {
        return Vec::new();
    }
    let address = NetworkAddress { network: source.network.clone(), address: destination.ip() };
    let workload = mesh.workload_by_address(&address);
    let service = mesh.service_by_vip(&address, Some(&source.workload.namespace));
    let mut names = Vec::new();
    match (workload, service) {
        (None, None) => names.push(address.to_string()),
        (workload, service) => {
            workload.into_iter().for_each(|workload| of_workload(mesh, workload, &mut names));
            service.into_iter().for_each(|service| of_service(mesh, service, &mut names));
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn of_workload(mesh: &Mesh, workload: &Workload, names: &mut Vec<String>) {
    let gateways = workload.waypoint.iter().chain(&workload.network_gateway);
    gateways.for_each(|gateway| of_gateway(mesh, gateway, names));
}

fn of_service(mesh: &Mesh, service: &Arc<Service>, names: &mut Vec<String>) {
    let weighted = service.weighted_waypoints.iter().map(|choice| &choice.destination);
    service.waypoint.iter().chain(weighted).for_each(|gateway| of_gateway(mesh, gateway, names));
    let members = mesh.members(&service.key());
    if members.is_empty() {
        // Known as an address only: by its name the control plane tells of its endpoints too.
        names.push(service.key().to_string());
    }
    members.iter().for_each(|workload| of_workload(mesh, workload, names));
}

fn of_gateway(mesh: &Mesh, gateway: &GatewayAddress, names: &mut Vec<String>) {
    let (known, name) = match &gateway.destination {
        GatewayDestination::Address(address) => {
            let service = mesh.service_by_vip(address, None);
            let known = mesh.workload_by_address(address).is_some()
                || service.is_some_and(|service| !mesh.members(&service.key()).is_empty());
            (known, address.to_string())
        }
        GatewayDestination::Hostname(key) => {
            let known = mesh.service_by_key(key).is_some() && !mesh.members(key).is_empty();
            let as_workload = mesh.workloads_by_hostname(&key.hostname);
            (known || as_workload.iter().any(|workload| workload.namespace == key.namespace), key.to_string())
        }
    };
    if !known {
        names.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Change, NamespacedHostname, PortMap, Str};

    fn key(name: &str) -> NamespacedHostname {
        NamespacedHostname { namespace: "ns".into(), hostname: name.into() }
    }

    fn workload(name: &str, address: &str, service: &str) -> Change {
        let mut workload = Workload {
            uid: name.into(),
            addresses: vec![address.parse().unwrap()],
            namespace: "ns".into(),
            ..Workload::default()
        };
        workload.services.insert(key(service), PortMap(vec![(80, 8080)]));
        Change::Workload(Arc::new(workload))
    }

    #[test]
    fn one_asks_for_what_is_missing_until_nothing_is() {
        let client = Workload { namespace: "ns".into(), ..Workload::default() };
        let network = Str::from("");
        let source = Source { workload: &client, network: &network, illegal_ports: &[] };
        let asked = |mesh: &Mesh| wanted(mesh, source, "10.1.0.1:80".parse().unwrap());
        let mesh = Mesh::new();
        assert_eq!(asked(&mesh), ["/10.1.0.1"]);
        let waypoint = GatewayAddress { destination: GatewayDestination::Hostname(key("way")), hbone_mtls_port: 15008 };
        let service = Service {
            namespace: "ns".into(),
            hostname: "web".into(),
            vips: vec![NetworkAddress { network: "".into(), address: "10.1.0.1".parse().unwrap() }],
            waypoint: Some(waypoint),
            ..Service::default()
        };
        let mesh = mesh.apply([Change::Service(Arc::new(service))]);
        assert_eq!(asked(&mesh), ["ns/way", "ns/web"]);
        let way = Service { namespace: "ns".into(), hostname: "way".into(), ..Service::default() };
        let mesh = mesh.apply([Change::Service(Arc::new(way)), workload("w", "10.0.0.7", "way")]);
        assert_eq!(asked(&mesh), ["ns/web"]);
        assert!(asked(&mesh.apply([workload("s", "10.0.0.2", "web")])).is_empty());
        assert!(wanted(&mesh, source, "127.0.0.1:80".parse().unwrap()).is_empty());
    }
}
