//! What a CONNECT may reach: is the destination this workload's business, and which socket address serves it
//! (ztunnel.md §7.2, §7.3). Pure: one snapshot in, one target or one refusal with its status out.

use hbone::Authority;
use model::{
    ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Mesh, NetworkAddress, Reason, Service, Str, Workload,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// The workload at hand and the standpoint of this proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local<'a> {
    /// The workload that the tunnel arrived for.
    pub workload: &'a Workload,
    /// The address that the tunnel's connection arrived on.
    pub address: IpAddr,
    /// The network that this proxy stands in.
    pub network: &'a Str,
    /// Ports that lead back into the proxy.
    pub illegal_ports: &'a [u16],
    /// Sandwiched applications are reached over loopback.
    pub localhost_app_tunnel: bool,
}

/// Where the application is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What policies and telemetry are told.
    pub application: SocketAddr,
    /// What the socket connects to: the same, or loopback for a sandwiched application.
    pub connect: SocketAddr,
    /// The application wants a PROXY header; this is the destination it should read there.
    pub proxy_header: Option<SocketAddr>,
}

/// A CONNECT that is answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Why.
    pub reason: Reason,
}

impl Refusal {
    /// A refusal.
    pub(crate) fn new(status: u16, reason: Reason) -> Self {
        Self { status, reason }
    }
}

/// Decides what `authority` means here.
pub(crate) fn resolve(mesh: &Mesh, local: Local<'_>, authority: &Authority) -> Result<Target, Refusal> {
    if !is_allowed(mesh, local, authority) {
        let what = format!("ip mismatch: {} != {}", local.address, authority);
        return Err(Refusal::new(400, Reason::BadRequest(what)));
    }
    let service = match authority {
        Authority::Address(_) => None,
        Authority::Hostname(host, _) => Some(named_service(mesh, local, host)?),
    };
    let port = match (&service, authority) {
        (None, authority) => authority.port(),
        (Some(service), authority) => service_target(service, local.workload, authority.port())?,
    };
    if local.illegal_ports.contains(&port) {
        return Err(Refusal::new(503, Reason::SelfCall));
    }
    let tunnel = local.workload.application_tunnel;
    let application = SocketAddr::new(local.address, tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port));
    let wants_header = tunnel.is_some_and(|tunnel| tunnel.protocol == ApplicationTunnelProtocol::Proxy);
    let connect = if wants_header && local.localhost_app_tunnel { loopback(application) } else { application };
    let proxy_header =
        if wants_header { Some(header_destination(local, authority, service.as_deref())?) } else { None };
    Ok(Target { application, connect, proxy_header })
}

/// Any of: a hostname (resolved against this workload below), the address the connection came for, a workload with a
/// tunnel of its own, or something whose waypoint is this workload.
fn is_allowed(mesh: &Mesh, local: Local<'_>, authority: &Authority) -> bool {
    let Authority::Address(target) = authority else { return true };
    if target.ip() == local.address || local.workload.application_tunnel.is_some() {
        return true;
    }
    let target = NetworkAddress { network: local.network.clone(), address: target.ip() };
    if let Some(workload) = mesh.workload_by_address(&target) {
        return workload.waypoint.as_ref().is_some_and(|waypoint| is_waypoint(mesh, local, waypoint));
    }
    mesh.service_by_vip(&target, None).is_some_and(|service| {
        let weighted = service.weighted_waypoints.iter().map(|waypoint| &waypoint.destination);
        service.waypoint.iter().chain(weighted).any(|waypoint| is_waypoint(mesh, local, waypoint))
    })
}

/// Whether `waypoint` leads to the local workload.
fn is_waypoint(mesh: &Mesh, local: Local<'_>, waypoint: &GatewayAddress) -> bool {
    let serves = |service: &Service| local.workload.services.contains_key(&service.key());
    let owns = |workload: &Workload| workload.addresses.contains(&local.address);
    match &waypoint.destination {
        GatewayDestination::Address(address) => {
            mesh.service_by_vip(address, None).is_some_and(|service| serves(service))
                || mesh.workload_by_address(address).is_some_and(|workload| owns(workload))
        }
        GatewayDestination::Hostname(name) => match mesh.service_by_key(name) {
            Some(service) => serves(service),
            None => mesh
                .workloads_by_hostname(&name.hostname)
                .iter()
                .any(|workload| workload.namespace == name.namespace && owns(workload)),
        },
    }
}

/// The service that a hostname means for the local workload.
fn named_service(mesh: &Mesh, local: Local<'_>, host: &str) -> Result<Arc<Service>, Refusal> {
    let candidates = mesh.services_by_hostname(host);
    let best = mesh.best_service(candidates, Some(&local.workload.namespace));
    best.cloned()
        .ok_or_else(|| Refusal::new(503, Reason::BadRequest(format!("no service or workload for hostname: {host}"))))
}

/// The workload's port for a service port.
fn service_target(service: &Service, workload: &Workload, service_port: u16) -> Result<u16, Refusal> {
    let own = workload.services.get(&service.key()).and_then(|ports| ports.target(service_port));
    own.or_else(|| service.target_port(service_port).filter(|port| *port != 0)).ok_or_else(|| {
        let what = format!("requested service {}:{service_port} found, but cannot resolve port", service.hostname);
        Refusal::new(503, Reason::BadRequest(what))
    })
}

/// What a PROXY header names as destination: the authority's address, or a virtual address of the named service.
fn header_destination(
    local: Local<'_>,
    authority: &Authority,
    service: Option<&Service>,
) -> Result<SocketAddr, Refusal> {
    let (service, port) = match (authority, service) {
        (Authority::Address(address), _) => return Ok(*address),
        (Authority::Hostname(_, port), Some(service)) => (service, *port),
        (Authority::Hostname(..), None) => return Err(Refusal::new(503, Reason::NoHealthyUpstream)),
    };
    let rank = |vip: &&NetworkAddress| (vip.network != *local.network, vip.address.is_ipv6());
    service.vips.iter().min_by_key(rank).map(|vip| SocketAddr::new(vip.address, port)).ok_or_else(|| {
        let what = format!("requested service {} found, but has no IP addresses", service.hostname);
        Refusal::new(503, Reason::BadRequest(what))
    })
}

fn loopback(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(host, address.port())
}

/// The service to name in telemetry: the one the client said it addressed, if the workload belongs to it; else the
/// first one that serves on the application's port.
pub(crate) fn addressed_service(
    mesh: &Mesh,
    workload: &Workload,
    forwarded_host: Option<&str>,
    port: u16,
) -> Option<Arc<Service>> {
    let said = forwarded_host.and_then(|host| workload.services.keys().find(|key| &*key.hostname == host));
    let by_port = || {
        let serving = workload.services.iter().find(|(_, ports)| ports.0.iter().any(|(_, target)| *target == port));
        serving.map(|(key, _)| key)
    };
    mesh.service_by_key(said.or_else(by_port)?).cloned()
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
