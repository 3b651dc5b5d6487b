//! Ways through something in front of the destination: a waypoint, or the gateway of another network
//! (ztunnel.md §6 rows 3, 5, 6; §6.2; §6.3). A waypoint that cannot be resolved closes the way: traffic never goes past it.

use super::{
    Choice, Hop, Route, Source, Tunnel,
    endpoint::{self, Chooser, Port},
    expected_identities, hop,
};
use hbone::Authority;
use model::{GatewayAddress, GatewayDestination, Mesh, NamespacedHostname, Reason, Service, Workload};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A resolved waypoint or gateway.
struct Resolved {
    choice: Choice,
    service: Option<Arc<Service>>,
    hop: Hop,
}

impl Resolved {
    fn identities(&self) -> Vec<model::Identity> {
        expected_identities(self.service.as_deref(), Some(&self.choice.workload))
    }
}

/// The waypoint of a service: one of the weighted ones if they can be sampled, else the single one.
pub(super) fn waypoint_of(service: &Service, chooser: &mut Chooser<'_>) -> Option<GatewayAddress> {
    let weighted = chooser.weighted(service.weighted_waypoints.iter().map(|waypoint| waypoint.weight));
    match weighted {
        Some(index) => Some(service.weighted_waypoints[index].destination.clone()),
        None => service.waypoint.clone(),
    }
}

/// The way of service-addressed traffic through the service's waypoint.
pub(super) fn through_waypoint(
    mesh: &Mesh,
    source: Source<'_>,
    service: &Arc<Service>,
    waypoint: &GatewayAddress,
    destination: SocketAddr,
    chooser: &mut Chooser<'_>,
) -> Result<Route, Reason> {
    let resolved = resolve(mesh, source, waypoint, Port::Waypoint, destination.ip(), chooser);
    let resolved = resolved.ok_or_else(|| unknown_waypoint(waypoint))?;
    if resolved.choice.workload.network != source.workload.network {
        let of_waypoint = resolved.service;
        let choice = resolved.choice;
        return through_network_gateway(mesh, source, service, of_waypoint.as_deref(), &choice, destination, chooser);
    }
    Ok(to_resolved(resolved, destination, Some(service.clone())))
}

/// The way of workload-addressed traffic through the workload's waypoint.
pub(super) fn to_workload_waypoint(
    mesh: &Mesh,
    source: Source<'_>,
    waypoint: &GatewayAddress,
    destination: SocketAddr,
    chooser: &mut Chooser<'_>,
) -> Result<Route, Reason> {
    let resolved = resolve(mesh, source, waypoint, Port::Waypoint, destination.ip(), chooser);
    let resolved = resolved.ok_or_else(|| unknown_waypoint(waypoint))?;
    let network = &resolved.choice.workload.network;
    if *network != source.workload.network {
        // Its address means somebody else here, or nobody.
        let why =
            format!("waypoint {} is in network {network:?}, which is reached by service only", waypoint.destination);
        return Err(Reason::GatewayUnknown(why));
    }
    Ok(to_resolved(resolved, destination, None))
}

fn to_resolved(resolved: Resolved, destination: SocketAddr, service: Option<Arc<Service>>) -> Route {
    let expected = resolved.identities();
    Route {
        hop: resolved.hop,
        tunnel: Tunnel::Hbone { authority: Authority::Address(destination), expected },
        workload: Some(resolved.choice.workload),
        service,
    }
}

/// The way to a workload of another network: a tunnel through that network's gateway and one within it. The gateway
/// is told the `addressed` service; the workload behind proves itself as one of the service `behind`.
pub(super) fn through_network_gateway(
    mesh: &Mesh,
    source: Source<'_>,
    addressed: &Arc<Service>,
    behind: Option<&Service>,
    choice: &Choice,
    destination: SocketAddr,
    chooser: &mut Chooser<'_>,
) -> Result<Route, Reason> {
    let Some(gateway) = &choice.workload.network_gateway else {
        return Err(Reason::GatewayUnknown(format!("workload {} has no network gateway", choice.workload.uid)));
    };
    let resolved = resolve(mesh, source, gateway, Port::Service, destination.ip(), chooser)
        .ok_or_else(|| Reason::GatewayUnknown(format!("gateway {} not found", gateway.destination)))?;
    Ok(Route {
        tunnel: Tunnel::DoubleHbone {
            authority: Authority::Hostname(addressed.hostname.to_string(), destination.port()),
            gateway: resolved.identities(),
            expected: expected_identities(behind, None),
        },
        hop: resolved.hop,
        workload: Some(resolved.choice.workload),
        service: Some(addressed.clone()),
    })
}

/// Whether the source is the waypoint itself, going on to the workload behind it: address and identity must both be
/// those of one of the waypoint's workloads.
pub(super) fn is_from(mesh: &Mesh, source: Source<'_>, waypoint: &GatewayAddress) -> bool {
    let own = |workload: &Workload| {
        workload.identity() == source.workload.identity()
            && workload.addresses.iter().any(|address| source.workload.addresses.contains(address))
    };
    match &waypoint.destination {
        GatewayDestination::Address(address) => match mesh.service_by_vip(address, None) {
            Some(service) => mesh.members(&service.key()).iter().any(|workload| own(workload)),
            None => mesh.workload_by_address(address).is_some_and(|workload| own(workload)),
        },
        GatewayDestination::Hostname(hostname) => match mesh.service_by_key(hostname) {
            Some(service) => mesh.members(&service.key()).iter().any(|workload| own(workload)),
            None => by_hostname(mesh, hostname).is_some_and(|workload| own(workload)),
        },
    }
}

/// Finds a waypoint or gateway: as a service (exact namespace) or a workload, by address or by hostname.
fn resolve(
    mesh: &Mesh,
    source: Source<'_>,
    gateway: &GatewayAddress,
    port: fn(u16) -> Port,
    wanted: IpAddr,
    chooser: &mut Chooser<'_>,
) -> Option<Resolved> {
    let hbone_port = gateway.hbone_mtls_port;
    let mut of_service = |service: &Arc<Service>, wanted: IpAddr| {
        let choice = endpoint::choose(mesh, source, service, port(hbone_port), wanted, chooser)?;
        Some((choice, Some(service.clone())))
    };
    let direct = |workload: &Arc<Workload>| Some((Choice::direct(workload.clone(), hbone_port), None));
    let (wanted, found) = match &gateway.destination {
        GatewayDestination::Address(address) => {
            let found = match mesh.service_by_vip(address, None) {
                Some(service) => of_service(service, address.address),
                None => mesh.workload_by_address(address).and_then(direct),
            };
            (address.address, found)
        }
        GatewayDestination::Hostname(hostname) => {
            let found = match mesh.service_by_key(hostname) {
                Some(service) => of_service(service, wanted),
                None => by_hostname(mesh, hostname).and_then(direct),
            };
            (wanted, found)
        }
    };
    let (choice, service) = found?;
    let hop = hop(&choice, service.as_deref(), wanted).ok()?;
    Some(Resolved { choice, service, hop })
}

fn by_hostname<'a>(mesh: &'a Mesh, name: &NamespacedHostname) -> Option<&'a Arc<Workload>> {
    mesh.workloads_by_hostname(&name.hostname).iter().find(|workload| workload.namespace == name.namespace)
}

fn unknown_waypoint(waypoint: &GatewayAddress) -> Reason {
    Reason::WaypointUnknown(format!("waypoint {} port {} not found", waypoint.destination, waypoint.hbone_mtls_port))
}
