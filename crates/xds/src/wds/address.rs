//! `istio.workload.Address` → [`Workload`] or [`Service`].

use super::{Address, ConversionError, DURATION_TYPE_URL, SESSION_AFFINITY_EXTENSION, ip};
use model::{
    AppProtocol, ApplicationTunnel, ApplicationTunnelProtocol, Cidr, GatewayAddress, GatewayDestination, Health,
    HealthPolicy, IpFamilies, LoadBalancing, LoadBalancingMode, LoadBalancingScope, Locality, NamespacedHostname,
    NetworkAddress, NetworkMode, PortMap, Service, SessionAffinity, Str, TunnelProtocol, Visibility, WeightedWaypoint,
    Workload, WorkloadType, well_known,
};
use prost::Message;
use proto::workload as wire;
use std::time::Duration;

/// The model value of an Address resource's bytes.
pub fn decode_address(bytes: &[u8]) -> Result<Address, ConversionError> {
    match wire::Address::decode(bytes)?.r#type {
        Some(wire::address::Type::Workload(workload)) => Ok(Address::Workload(Box::new(self::workload(workload)?))),
        Some(wire::address::Type::Service(service)) => Ok(Address::Service(Box::new(self::service(service)?))),
        None => Err(ConversionError::Missing("type")),
    }
}

fn or_default(text: String, default: &str) -> Str {
    if text.is_empty() { default.into() } else { text.into() }
}

fn unknown(field: &'static str, value: i32) -> ConversionError {
    ConversionError::UnknownEnum { field, value }
}

fn workload(wire: wire::Workload) -> Result<Workload, ConversionError> {
    let mut addresses = Vec::with_capacity(wire.addresses.len());
    for bytes in &wire.addresses {
        addresses.push(ip("addresses", bytes)?);
    }
    Ok(Workload {
        tunnel_protocol: tunnel_protocol(wire.tunnel_protocol)?,
        network_mode: match wire::NetworkMode::try_from(wire.network_mode) {
            Ok(wire::NetworkMode::Standard) => NetworkMode::Standard,
            Ok(wire::NetworkMode::HostNetwork) => NetworkMode::HostNetwork,
            Err(_) => return Err(unknown("network_mode", wire.network_mode)),
        },
        workload_type: match wire::WorkloadType::try_from(wire.workload_type) {
            Ok(wire::WorkloadType::Deployment) => WorkloadType::Deployment,
            Ok(wire::WorkloadType::Cronjob) => WorkloadType::CronJob,
            Ok(wire::WorkloadType::Pod) => WorkloadType::Pod,
            Ok(wire::WorkloadType::Job) => WorkloadType::Job,
            Err(_) => return Err(unknown("workload_type", wire.workload_type)),
        },
        status: match wire::WorkloadStatus::try_from(wire.status) {
            Ok(wire::WorkloadStatus::Healthy) => Health::Healthy,
            Ok(wire::WorkloadStatus::Unhealthy) => Health::Unhealthy,
            Err(_) => return Err(unknown("status", wire.status)),
        },
        services: endpoint_ports(wire.services)?,
        waypoint: wire.waypoint.map(|gateway| gateway_address("waypoint", gateway)).transpose()?,
        network_gateway: wire.network_gateway.map(|gateway| gateway_address("network_gateway", gateway)).transpose()?,
        application_tunnel: wire.application_tunnel.map(application_tunnel).transpose()?,
        locality: wire.locality.map(locality).unwrap_or_default(),
        uid: wire.uid.into(),
        name: wire.name.into(),
        namespace: wire.namespace.into(),
        trust_domain: or_default(wire.trust_domain, well_known::DEFAULT_TRUST_DOMAIN),
        service_account: or_default(wire.service_account, "default"),
        addresses,
        hostname: wire.hostname.into(),
        network: wire.network.into(),
        native_tunnel: wire.native_tunnel,
        node: wire.node.into(),
        workload_name: wire.workload_name.into(),
        canonical_name: wire.canonical_name.into(),
        canonical_revision: wire.canonical_revision.into(),
        cluster_id: or_default(wire.cluster_id, well_known::DEFAULT_CLUSTER_ID),
        authorization_policies: wire.authorization_policies.into_iter().map(Str::from).collect(),
        capacity: wire.capacity.unwrap_or(1),
    })
}

fn tunnel_protocol(value: i32) -> Result<TunnelProtocol, ConversionError> {
    match wire::TunnelProtocol::try_from(value) {
        Ok(wire::TunnelProtocol::None) => Ok(TunnelProtocol::None),
        Ok(wire::TunnelProtocol::Hbone) => Ok(TunnelProtocol::Hbone),
        _ => Err(ConversionError::UnsupportedTunnel(value)),
    }
}

fn endpoint_ports(
    services: std::collections::BTreeMap<String, wire::PortList>,
) -> Result<std::collections::BTreeMap<NamespacedHostname, PortMap>, ConversionError> {
    let mut map = std::collections::BTreeMap::new();
    for (key, list) in services {
        let parsed = key.parse().map_err(|()| ConversionError::ServiceKey(key))?;
        map.insert(parsed, PortMap(ports(&list.ports)));
    }
    Ok(map)
}

/// Ports are cut to 16 bits, as upstream cuts them.
fn ports(list: &[wire::Port]) -> Vec<(u16, u16)> {
    list.iter().map(|port| (port.service_port as u16, port.target_port as u16)).collect()
}

fn protocols(list: &[wire::Port]) -> Vec<(u16, AppProtocol)> {
    use wire::port::AppProtocol as Wire;
    let known = |port: &wire::Port| match port.app_protocol() {
        Wire::Unknown => None,
        Wire::Http11 => Some(AppProtocol::Http1),
        Wire::Http2 => Some(AppProtocol::Http2),
        Wire::Grpc => Some(AppProtocol::Grpc),
        Wire::Tcp => Some(AppProtocol::Tcp),
        Wire::Tls => Some(AppProtocol::Tls),
    };
    list.iter().filter_map(|port| Some((port.service_port as u16, known(port)?))).collect()
}

fn locality(wire: wire::Locality) -> Locality {
    Locality { region: wire.region.into(), zone: wire.zone.into(), subzone: wire.subzone.into() }
}

fn application_tunnel(wire: wire::ApplicationTunnel) -> Result<ApplicationTunnel, ConversionError> {
    let protocol = match wire::application_tunnel::Protocol::try_from(wire.protocol) {
        Ok(wire::application_tunnel::Protocol::None) => ApplicationTunnelProtocol::None,
        Ok(wire::application_tunnel::Protocol::Proxy) => ApplicationTunnelProtocol::Proxy,
        Err(_) => return Err(unknown("application_tunnel.protocol", wire.protocol)),
    };
    Ok(ApplicationTunnel { protocol, port: Some(wire.port as u16).filter(|port| *port != 0) })
}

fn gateway_address(field: &'static str, wire: wire::GatewayAddress) -> Result<GatewayAddress, ConversionError> {
    let destination = match wire.destination {
        Some(wire::gateway_address::Destination::Hostname(name)) => GatewayDestination::Hostname(NamespacedHostname {
            namespace: name.namespace.into(),
            hostname: name.hostname.into(),
        }),
        Some(wire::gateway_address::Destination::Address(address)) => GatewayDestination::Address(NetworkAddress {
            address: ip(field, &address.address)?,
            network: address.network.into(),
        }),
        None => return Err(ConversionError::Missing(field)),
    };
    Ok(GatewayAddress { destination, hbone_mtls_port: wire.hbone_mtls_port as u16 })
}

fn service(wire: wire::Service) -> Result<Service, ConversionError> {
    let (vips, cidr_vips) = virtual_addresses(wire.addresses)?;
    let mut weighted_waypoints = Vec::with_capacity(wire.weighted_waypoints.len());
    for choice in wire.weighted_waypoints {
        let destination = choice.destination.ok_or(ConversionError::Missing("weighted_waypoints.destination"))?;
        let destination = gateway_address("weighted_waypoints", destination)?;
        weighted_waypoints.push(WeightedWaypoint { destination, weight: choice.weight });
    }
    Ok(Service {
        ports: ports(&wire.ports),
        protocols: protocols(&wire.ports),
        waypoint: wire.waypoint.map(|gateway| gateway_address("waypoint", gateway)).transpose()?,
        load_balancing: wire.load_balancing.map(load_balancing).transpose()?,
        ip_families: match wire::IpFamilies::try_from(wire.ip_families) {
            Ok(wire::IpFamilies::Automatic) => None,
            Ok(wire::IpFamilies::Ipv4Only) => Some(IpFamilies::Ipv4),
            Ok(wire::IpFamilies::Ipv6Only) => Some(IpFamilies::Ipv6),
            Ok(wire::IpFamilies::Dual) => Some(IpFamilies::Dual),
            Err(_) => return Err(unknown("ip_families", wire.ip_families)),
        },
        visibility: match wire::Visibility::try_from(wire.visibility) {
            Ok(wire::Visibility::Namespace) => Visibility::Namespace,
            _ => Visibility::Public,
        },
        session_affinity: session_affinity(&wire.extensions),
        name: wire.name.into(),
        namespace: wire.namespace.into(),
        hostname: wire.hostname.into(),
        vips,
        cidr_vips,
        subject_alt_names: wire.subject_alt_names.into_iter().map(Str::from).collect(),
        weighted_waypoints,
        canonical: wire.canonical,
        ingress_use_waypoint: wire.ingress_use_waypoint,
    })
}

fn virtual_addresses(wire: Vec<wire::NetworkAddress>) -> Result<(Vec<NetworkAddress>, Vec<Cidr>), ConversionError> {
    let (mut exact, mut ranges) = (Vec::new(), Vec::new());
    for entry in wire {
        let address = ip("addresses", &entry.address)?;
        let network = Str::from(entry.network);
        let full = if address.is_ipv4() { 32 } else { 128 };
        match entry.length {
            Some(length) if length != full => {
                let range = u8::try_from(length).ok().and_then(|length| ipnet::IpNet::new(address, length).ok());
                let range = range.ok_or(ConversionError::PrefixLength { field: "addresses", length })?;
                ranges.push(Cidr { network, range });
            }
            _ => exact.push(NetworkAddress { network, address }),
        }
    }
    Ok((exact, ranges))
}

fn load_balancing(wire: wire::LoadBalancing) -> Result<LoadBalancing, ConversionError> {
    use wire::load_balancing::{HealthPolicy as WireHealth, Mode, Scope};
    let mut routing_preferences = Vec::with_capacity(wire.routing_preference.len());
    for value in wire.routing_preference {
        routing_preferences.push(match Scope::try_from(value) {
            Ok(Scope::Region) => LoadBalancingScope::Region,
            Ok(Scope::Zone) => LoadBalancingScope::Zone,
            Ok(Scope::Subzone) => LoadBalancingScope::Subzone,
            Ok(Scope::Node) => LoadBalancingScope::Node,
            Ok(Scope::Cluster) => LoadBalancingScope::Cluster,
            Ok(Scope::Network) => LoadBalancingScope::Network,
            Ok(Scope::UnspecifiedScope) | Err(_) => return Err(unknown("load_balancing.routing_preference", value)),
        });
    }
    let mode = match Mode::try_from(wire.mode) {
        Ok(Mode::UnspecifiedMode) => LoadBalancingMode::Standard,
        Ok(Mode::Strict) => LoadBalancingMode::Strict,
        Ok(Mode::Failover) => LoadBalancingMode::Failover,
        Ok(Mode::Passthrough) => LoadBalancingMode::Passthrough,
        Err(_) => return Err(unknown("load_balancing.mode", wire.mode)),
    };
    let health_policy = match WireHealth::try_from(wire.health_policy) {
        Ok(WireHealth::OnlyHealthy) => HealthPolicy::OnlyHealthy,
        Ok(WireHealth::AllowAll) => HealthPolicy::AllowAll,
        Err(_) => return Err(unknown("load_balancing.health_policy", wire.health_policy)),
    };
    Ok(LoadBalancing { routing_preferences, mode, health_policy })
}

/// An entry that cannot be read means no affinity: the service works all the same.
fn session_affinity(extensions: &[wire::Extension]) -> Option<SessionAffinity> {
    let entry = extensions.iter().find(|extension| extension.name == SESSION_AFFINITY_EXTENSION)?;
    let config = entry.config.as_ref().filter(|config| config.type_url == DURATION_TYPE_URL)?;
    let wire = prost_types::Duration::decode(config.value.as_slice()).ok()?;
    let timeout = Duration::try_from(wire).ok().filter(|timeout| !timeout.is_zero())?;
    Some(SessionAffinity { timeout })
}
