//! What a tunnel is for: the service or workload that its authority means (§2.1). Pure: one snapshot in, one target or one refusal
//! out.
//!
//! Only what is bound to this waypoint is served: whoever else comes here came by mistake, or to go round a policy.

use hbone::Authority;
use l7::balance::Endpoint;
use model::{AppProtocol, GatewayAddress, GatewayDestination, Identity, Mesh, NetworkAddress, Service, Str, Workload};
use std::{net::SocketAddr, sync::Arc};

/// Who this waypoint is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    /// Its identity.
    pub identity: &'a Identity,
    /// Its gateway's name, which is its service's too.
    pub gateway: &'a str,
    /// Its network.
    pub network: &'a Str,
}

/// What a tunnel is for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The service.
    pub service: Option<Arc<Service>>,
    /// The workload, if no service.
    pub workload: Option<Endpoint>,
    /// The address that was asked for.
    pub address: Option<SocketAddr>,
    /// The port that was asked for.
    pub port: u16,
    /// What is spoken there; `None`: the first bytes tell.
    pub protocol: Option<AppProtocol>,
}

/// Why a tunnel is for nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    /// Nobody has this address or name.
    #[error("nothing in the mesh is {0}")]
    Nothing(String),
    /// It is somebody else's.
    #[error("{0} is not bound to this waypoint")]
    Elsewhere(String),
    /// The service has no such port.
    #[error("the service {0} has no port {1}")]
    NoPort(Str, u16),
}

/// Decides what an authority means.
pub(crate) fn resolve(mesh: &Mesh, own: Own<'_>, authority: &Authority) -> Result<Target, Unknown> {
    let elsewhere = || Unknown::Elsewhere(authority.to_string());
    match authority {
        Authority::Hostname(host, port) => {
            let candidates = mesh.services_by_hostname(host);
            let bound = candidates.iter().find(|service| serves(mesh, own, service));
            match (bound, candidates.is_empty()) {
                (Some(service), _) => of_service(service, None, *port),
                (None, false) => Err(elsewhere()),
                (None, true) => Err(Unknown::Nothing(authority.to_string())),
            }
        }
        Authority::Address(address) => {
            let place = NetworkAddress { network: own.network.clone(), address: address.ip() };
            if let Some(service) = mesh.service_by_vip(&place, Some(&own.identity.namespace)) {
                return if serves(mesh, own, service) {
                    of_service(service, Some(*address), address.port())
                } else {
                    Err(elsewhere())
                };
            }
            let workload = mesh.workload_by_address(&place);
            let workload = workload.ok_or_else(|| Unknown::Nothing(authority.to_string()))?;
            if !workload.waypoint.as_ref().is_some_and(|waypoint| is_own(mesh, own, waypoint)) {
                return Err(elsewhere());
            }
            Ok(of_workload(workload, *address))
        }
    }
}

fn of_service(service: &Arc<Service>, address: Option<SocketAddr>, port: u16) -> Result<Target, Unknown> {
    if service.target_port(port).is_none() {
        return Err(Unknown::NoPort(service.hostname.clone(), port));
    }
    let protocol = service.protocol(port);
    Ok(Target { service: Some(service.clone()), workload: None, address, port, protocol })
}

fn of_workload(workload: &Arc<Workload>, address: SocketAddr) -> Target {
    let endpoint = Endpoint { workload: workload.clone(), address, health: Arc::default() };
    Target { service: None, workload: Some(endpoint), address: Some(address), port: address.port(), protocol: None }
}

/// Whether a service is bound to this waypoint.
fn serves(mesh: &Mesh, own: Own<'_>, service: &Service) -> bool {
    let weighted = service.weighted_waypoints.iter().map(|waypoint| &waypoint.destination);
    service.waypoint.iter().chain(weighted).any(|waypoint| is_own(mesh, own, waypoint))
}

/// Whether a waypoint's address is this one's: its service is named as the gateway is, in the same namespace.
fn is_own(mesh: &Mesh, own: Own<'_>, waypoint: &GatewayAddress) -> bool {
    let named = |service: &Service| *service.namespace == *own.identity.namespace && *service.name == *own.gateway;
    match &waypoint.destination {
        GatewayDestination::Hostname(name) => match mesh.service_by_key(name) {
            Some(service) => named(service),
            None => {
                let first = name.hostname.split('.').next().unwrap_or_default();
                *name.namespace == *own.identity.namespace && first == own.gateway
            }
        },
        GatewayDestination::Address(address) => match mesh.service_by_vip(address, None) {
            Some(service) => named(service),
            None => mesh.workload_by_address(address).is_some_and(|workload| workload.has_identity(own.identity)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Change, NamespacedHostname};
    use rstest::rstest;

    fn vip(text: &str) -> NetworkAddress {
        NetworkAddress { network: "".into(), address: text.parse().unwrap() }
    }

    fn waypoint(name: &str) -> GatewayAddress {
        let hostname = format!("{name}.shop.svc.cluster.local").into();
        let destination = GatewayDestination::Hostname(NamespacedHostname { namespace: "shop".into(), hostname });
        GatewayAddress { destination, hbone_mtls_port: 15008 }
    }

    fn service(name: &str, address: &str, bound: Option<&str>) -> Change {
        Change::Service(Arc::new(Service {
            name: name.into(),
            namespace: "shop".into(),
            hostname: format!("{name}.shop.svc.cluster.local").into(),
            vips: vec![vip(address)],
            ports: vec![(80, 8080), (15008, 15008)],
            protocols: vec![(80, AppProtocol::Http1)],
            waypoint: bound.map(waypoint),
            ..Service::default()
        }))
    }

    fn pod(uid: &str, address: &str, bound: Option<&str>) -> Change {
        let addresses = vec![address.parse().unwrap()];
        let waypoint = bound.map(waypoint);
        Change::Workload(Arc::new(Workload { uid: uid.into(), addresses, waypoint, ..Workload::default() }))
    }

    #[rstest]
    #[case::service("10.96.0.1:80", "web")]
    #[case::hostname("web.shop.svc.cluster.local:80", "web")]
    #[case::workload("10.0.0.1:9090", "pod")]
    #[case::no_port("10.96.0.1:81", "the service web.shop.svc.cluster.local has no port 81")]
    #[case::other_waypoint("10.96.0.2:80", "10.96.0.2:80 is not bound to this waypoint")]
    #[case::unbound_hostname(
        "free.shop.svc.cluster.local:80",
        "free.shop.svc.cluster.local:80 is not bound to this waypoint"
    )]
    #[case::unbound_workload("10.0.0.2:80", "10.0.0.2:80 is not bound to this waypoint")]
    #[case::nobody("10.0.0.9:80", "nothing in the mesh is 10.0.0.9:80")]
    fn tunnels_are_for_what_is_bound_here(#[case] authority: &str, #[case] expected: &str) {
        let mesh = Mesh::new().apply([
            service("waypoint", "10.96.0.9", None),
            service("web", "10.96.0.1", Some("waypoint")),
            service("other", "10.96.0.2", Some("elsewhere")),
            service("free", "10.96.0.3", None),
            pod("pod", "10.0.0.1", Some("waypoint")),
            pod("free-pod", "10.0.0.2", None),
        ]);
        let identity = "spiffe://cluster.local/ns/shop/sa/waypoint".parse().unwrap();
        let own = Own { identity: &identity, gateway: "waypoint", network: &"".into() };
        let found = match resolve(&mesh, own, &authority.parse().unwrap()) {
            Ok(Target { service: Some(service), .. }) => service.name.to_string(),
            Ok(Target { workload: Some(endpoint), .. }) => endpoint.workload.uid.to_string(),
            Ok(_) => String::new(),
            Err(unknown) => unknown.to_string(),
        };
        assert_eq!(found, expected);
    }
}
