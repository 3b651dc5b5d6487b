//! Where an outgoing connection goes: one pure decision from one snapshot (ztunnel.md §6).
//!
//! In: the snapshot, the workload that connects, the original destination. Out: the next hop, what is spoken to it, and
//! the workload and service to be named in telemetry; or the one `Reason` why there is no way. `endpoint` chooses among
//! a service's endpoints, `gateway` resolves waypoints and network gateways. Sockets, TLS and names that need DNS are the
//! business of whoever carries the decision out.

mod affinity;
mod endpoint;
mod gateway;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use affinity::Affinity;
pub(crate) use endpoint::{Choice, Chooser};
pub(crate) use wanted::wanted;

use hbone::Authority;
use model::{
    Identity, LoadBalancingMode, Mesh, NetworkAddress, Reason, Service, Str, TunnelProtocol, Workload, well_known,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Who asks, and from which standpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The workload that connects.
    pub workload: &'a Workload,
    /// The network that this proxy stands in.
    pub network: &'a Str,
    /// Ports that lead back into the proxy.
    pub illegal_ports: &'a [u16],
}

/// A way to the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// What the socket connects to.
    pub hop: Hop,
    /// What is spoken over it.
    pub tunnel: Tunnel,
    /// The workload at the next hop: the destination itself, or a waypoint or gateway in front of it.
    pub workload: Option<Arc<Workload>>,
    /// The service that was addressed.
    pub service: Option<Arc<Service>>,
}

/// What the socket connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hop {
    /// An address.
    Address(SocketAddr),
    /// A name that DNS has to resolve first.
    Name {
        /// The name.
        hostname: Str,
        /// The port, once the address is known.
        port: u16,
        /// Which family to prefer.
        prefer_v6: bool,
    },
}

impl Hop {
    /// The same place with another port.
    fn with_port(self, port: u16) -> Self {
        match self {
            Self::Address(address) => Self::Address(SocketAddr::new(address.ip(), port)),
            Self::Name { hostname, prefer_v6, .. } => Self::Name { hostname, port, prefer_v6 },
        }
    }
}

/// What is spoken to the next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// The connection's own bytes.
    Plain,
    /// One CONNECT tunnel.
    Hbone {
        /// Where the far end is to connect to.
        authority: Authority,
        /// Who may answer.
        expected: Vec<Identity>,
    },
    /// A tunnel to a gateway and a second one within it, for the workload behind.
    DoubleHbone {
        /// The addressed service and port, told to both far ends.
        authority: Authority,
        /// Who the gateway may be.
        gateway: Vec<Identity>,
        /// Who the workload behind may be.
        expected: Vec<Identity>,
    },
}

/// Decides the way to `destination`.
pub(crate) fn decide(
    mesh: &Mesh,
    source: Source<'_>,
    destination: SocketAddr,
    chooser: &mut Chooser<'_>,
) -> Result<Route, Reason> {
    if destination.ip().is_loopback() && source.illegal_ports.contains(&destination.port()) {
        return Err(Reason::SelfCall);
    }
    let address = NetworkAddress { network: source.network.clone(), address: destination.ip() };
    // A workload's own address is never taken for a service's; a service's is looked at for a waypoint first.
    let by_address = mesh.workload_by_address(&address);
    let addressed = mesh.service_by_vip(&address, Some(&source.workload.namespace));
    if by_address.is_none()
        && let Some(service) = addressed
        && let Some(waypoint) = gateway::waypoint_of(service, chooser)
    {
        return gateway::through_waypoint(mesh, source, service, &waypoint, destination, chooser);
    }
    let upstream = match addressed {
        Some(service) if mode(service) == LoadBalancingMode::Passthrough => None,
        Some(service) => {
            let choice = endpoint::choose(
                mesh,
                source,
                service,
                endpoint::Port::Service(destination.port()),
                destination.ip(),
                chooser,
            );
            Some(choice.ok_or(Reason::NoHealthyUpstream)?)
        }
        None => by_address.map(|workload| Choice::direct(workload.clone(), destination.port())),
    };
    match upstream {
        None => Ok(passthrough(destination, None)),
        Some(choice) => to_workload(mesh, source, addressed, choice, destination, chooser),
    }
}

/// The way of a destination that the mesh knows nothing about, or was told to leave alone.
fn passthrough(destination: SocketAddr, service: Option<Arc<Service>>) -> Route {
    Route { hop: Hop::Address(destination), tunnel: Tunnel::Plain, workload: None, service }
}

fn mode(service: &Service) -> LoadBalancingMode {
    service.load_balancing.as_ref().map_or(LoadBalancingMode::Standard, |balancing| balancing.mode)
}

/// The way to a chosen workload: through its network's gateway, its waypoint, or straight.
fn to_workload(
    mesh: &Mesh,
    source: Source<'_>,
    service: Option<&Arc<Service>>,
    choice: Choice,
    destination: SocketAddr,
    chooser: &mut Chooser<'_>,
) -> Result<Route, Reason> {
    if choice.workload.network != source.workload.network {
        let Some(service) = service else {
            let network = &choice.workload.network;
            let why = format!("{destination} is in network {network:?}, which is reached by service only");
            return Err(Reason::GatewayUnknown(why));
        };
        return gateway::through_network_gateway(mesh, source, service, Some(service), &choice, destination, chooser);
    }
    if service.is_none()
        && let Some(waypoint) = &choice.workload.waypoint
        && !gateway::is_from(mesh, source, waypoint)
    {
        return gateway::to_workload_waypoint(mesh, source, waypoint, destination, chooser);
    }
    let hop = hop(&choice, service.map(|service| &**service), destination.ip())?;
    let expected = expected_identities(service.map(|service| &**service), Some(&choice.workload));
    let tunnel = match (choice.workload.tunnel_protocol, &hop) {
        (TunnelProtocol::None, _) => Tunnel::Plain,
        (TunnelProtocol::Hbone, Hop::Address(target)) => {
            Tunnel::Hbone { authority: Authority::Address(*target), expected }
        }
        (TunnelProtocol::Hbone, Hop::Name { hostname, port, .. }) => {
            Tunnel::Hbone { authority: Authority::Hostname(hostname.to_string(), *port), expected }
        }
    };
    let hop = if tunnel == Tunnel::Plain { hop } else { hop.with_port(well_known::HBONE_PORT) };
    Ok(Route { hop, tunnel, workload: Some(choice.workload), service: service.cloned() })
}

/// The identities that may answer: the service's further names and the workload's own.
fn expected_identities(service: Option<&Service>, workload: Option<&Workload>) -> Vec<Identity> {
    let names = service.into_iter().flat_map(|service| &service.subject_alt_names);
    names.filter_map(|name| name.parse().ok()).chain(workload.map(Workload::identity)).collect()
}

/// The address of a chosen workload and the port to reach it at.
fn hop(choice: &Choice, service: Option<&Service>, wanted: IpAddr) -> Result<Hop, Reason> {
    match endpoint::address_of(&choice.workload, service, wanted) {
        Some(address) => Ok(Hop::Address(SocketAddr::new(address, choice.port))),
        None if !choice.workload.hostname.is_empty() => {
            Ok(Hop::Name { hostname: choice.workload.hostname.clone(), port: choice.port, prefer_v6: wanted.is_ipv6() })
        }
        None => Err(Reason::NoHealthyUpstream),
    }
}
