//! [`Workload`] or [`Service`] → `istio.workload.Address`.
//!
//! Defaults are left out where upstream leaves them out (trust domain), so that equal resources have equal bytes.

use super::{Address, DURATION_TYPE_URL, SESSION_AFFINITY_EXTENSION, ip_bytes};
use model::{
    AppProtocol, ApplicationTunnelProtocol, GatewayAddress, GatewayDestination, Health, HealthPolicy, IpFamilies,
    LoadBalancing, LoadBalancingMode, LoadBalancingScope, Locality, NetworkMode, Service, SessionAffinity,
    TunnelProtocol, Visibility, Workload, WorkloadType, well_known,
};
use prost::Message;
use proto::workload as wire;

/// The wire message of a model value.
pub fn encode_address(address: &Address) -> wire::Address {
    match address {
        Address::Workload(workload) => encode_workload(workload),
        Address::Service(service) => encode_service(service),
    }
}

/// The same of a workload.
pub fn encode_workload(workload: &Workload) -> wire::Address {
    wire::Address { r#type: Some(wire::address::Type::Workload(self::workload(workload))) }
}

/// The same of a service.
pub fn encode_service(service: &Service) -> wire::Address {
    wire::Address { r#type: Some(wire::address::Type::Service(self::service(service))) }
}

fn workload(workload: &Workload) -> wire::Workload {
    let trust_domain = workload.trust_domain.as_ref();
    wire::Workload {
        uid: workload.uid.to_string(),
        name: workload.name.to_string(),
        namespace: workload.namespace.to_string(),
        addresses: workload.addresses.iter().copied().map(ip_bytes).collect(),
        hostname: workload.hostname.to_string(),
        network: workload.network.to_string(),
        tunnel_protocol: match workload.tunnel_protocol {
            TunnelProtocol::None => wire::TunnelProtocol::None,
            TunnelProtocol::Hbone => wire::TunnelProtocol::Hbone,
        }
        .into(),
        trust_domain: if trust_domain == well_known::DEFAULT_TRUST_DOMAIN {
            String::new()
        } else {
            trust_domain.to_owned()
        },
        service_account: workload.service_account.to_string(),
        waypoint: workload.waypoint.as_ref().map(gateway_address),
        network_gateway: workload.network_gateway.as_ref().map(gateway_address),
        node: workload.node.to_string(),
        canonical_name: workload.canonical_name.to_string(),
        canonical_revision: workload.canonical_revision.to_string(),
        workload_type: match workload.workload_type {
            WorkloadType::Deployment => wire::WorkloadType::Deployment,
            WorkloadType::CronJob => wire::WorkloadType::Cronjob,
            WorkloadType::Pod => wire::WorkloadType::Pod,
            WorkloadType::Job => wire::WorkloadType::Job,
        }
        .into(),
        workload_name: workload.workload_name.to_string(),
        native_tunnel: workload.native_tunnel,
        authorization_policies: workload.authorization_policies.iter().map(ToString::to_string).collect(),
        status: match workload.status {
            Health::Healthy => wire::WorkloadStatus::Healthy,
            Health::Unhealthy => wire::WorkloadStatus::Unhealthy,
        }
        .into(),
        cluster_id: workload.cluster_id.to_string(),
        services: workload
            .services
            .iter()
            .map(|(key, map)| (key.to_string(), wire::PortList { ports: ports(&map.0) }))
            .collect(),
        application_tunnel: workload.application_tunnel.map(|tunnel| wire::ApplicationTunnel {
            protocol: match tunnel.protocol {
                ApplicationTunnelProtocol::None => wire::application_tunnel::Protocol::None,
                ApplicationTunnelProtocol::Proxy => wire::application_tunnel::Protocol::Proxy,
            }
            .into(),
            port: tunnel.port.unwrap_or_default().into(),
        }),
        locality: (workload.locality != Locality::default()).then(|| wire::Locality {
            region: workload.locality.region.to_string(),
            zone: workload.locality.zone.to_string(),
            subzone: workload.locality.subzone.to_string(),
        }),
        network_mode: match workload.network_mode {
            NetworkMode::Standard => wire::NetworkMode::Standard,
            NetworkMode::HostNetwork => wire::NetworkMode::HostNetwork,
        }
        .into(),
        extensions: Vec::new(),
        capacity: (workload.capacity != 1).then_some(workload.capacity),
    }
}

fn service_ports(service: &Service) -> Vec<wire::Port> {
    let mut wire = ports(&service.ports);
    for port in &mut wire {
        let spoken = match service.protocol(port.service_port as u16) {
            None => wire::port::AppProtocol::Unknown,
            Some(AppProtocol::Http1) => wire::port::AppProtocol::Http11,
            Some(AppProtocol::Http2) => wire::port::AppProtocol::Http2,
            Some(AppProtocol::Grpc) => wire::port::AppProtocol::Grpc,
            Some(AppProtocol::Tcp) => wire::port::AppProtocol::Tcp,
            Some(AppProtocol::Tls) => wire::port::AppProtocol::Tls,
        };
        port.set_app_protocol(spoken);
    }
    wire
}

fn ports(ports: &[(u16, u16)]) -> Vec<wire::Port> {
    let unknown = wire::port::AppProtocol::Unknown.into();
    ports
        .iter()
        .map(|(service, target)| wire::Port {
            service_port: (*service).into(),
            target_port: (*target).into(),
            app_protocol: unknown,
        })
        .collect()
}

fn gateway_address(gateway: &GatewayAddress) -> wire::GatewayAddress {
    let destination = match &gateway.destination {
        GatewayDestination::Hostname(name) => wire::gateway_address::Destination::Hostname(wire::NamespacedHostname {
            namespace: name.namespace.to_string(),
            hostname: name.hostname.to_string(),
        }),
        GatewayDestination::Address(address) => wire::gateway_address::Destination::Address(wire::NetworkAddress {
            network: address.network.to_string(),
            address: ip_bytes(address.address),
            length: None,
        }),
    };
    wire::GatewayAddress { destination: Some(destination), hbone_mtls_port: gateway.hbone_mtls_port.into() }
}

fn service(service: &Service) -> wire::Service {
    let exact = service.vips.iter().map(|vip| wire::NetworkAddress {
        network: vip.network.to_string(),
        address: ip_bytes(vip.address),
        length: None,
    });
    let ranges = service.cidr_vips.iter().map(|vip| wire::NetworkAddress {
        network: vip.network.to_string(),
        address: ip_bytes(vip.range.addr()),
        length: Some(vip.range.prefix_len().into()),
    });
    wire::Service {
        name: service.name.to_string(),
        namespace: service.namespace.to_string(),
        hostname: service.hostname.to_string(),
        addresses: exact.chain(ranges).collect(),
        ports: service_ports(service),
        subject_alt_names: service.subject_alt_names.iter().map(ToString::to_string).collect(),
        waypoint: service.waypoint.as_ref().map(gateway_address),
        load_balancing: service.load_balancing.as_ref().map(load_balancing),
        ip_families: match service.ip_families {
            None => wire::IpFamilies::Automatic,
            Some(IpFamilies::Ipv4) => wire::IpFamilies::Ipv4Only,
            Some(IpFamilies::Ipv6) => wire::IpFamilies::Ipv6Only,
            Some(IpFamilies::Dual) => wire::IpFamilies::Dual,
        }
        .into(),
        extensions: service.session_affinity.into_iter().filter_map(session_affinity).collect(),
        canonical: service.canonical,
        ingress_use_waypoint: service.ingress_use_waypoint,
        weighted_waypoints: service
            .weighted_waypoints
            .iter()
            .map(|choice| wire::WeightedWaypoint {
                destination: Some(gateway_address(&choice.destination)),
                weight: choice.weight,
            })
            .collect(),
        visibility: match service.visibility {
            Visibility::Public => wire::Visibility::Public,
            Visibility::Namespace => wire::Visibility::Namespace,
        }
        .into(),
    }
}

fn load_balancing(load_balancing: &LoadBalancing) -> wire::LoadBalancing {
    use wire::load_balancing::{HealthPolicy as WireHealth, Mode, Scope};
    let scope = |scope: &LoadBalancingScope| -> i32 {
        match scope {
            LoadBalancingScope::Region => Scope::Region,
            LoadBalancingScope::Zone => Scope::Zone,
            LoadBalancingScope::Subzone => Scope::Subzone,
            LoadBalancingScope::Node => Scope::Node,
            LoadBalancingScope::Cluster => Scope::Cluster,
            LoadBalancingScope::Network => Scope::Network,
        }
        .into()
    };
    wire::LoadBalancing {
        routing_preference: load_balancing.routing_preferences.iter().map(scope).collect(),
        mode: match load_balancing.mode {
            LoadBalancingMode::Standard => Mode::UnspecifiedMode,
            LoadBalancingMode::Strict => Mode::Strict,
            LoadBalancingMode::Failover => Mode::Failover,
            LoadBalancingMode::Passthrough => Mode::Passthrough,
        }
        .into(),
        health_policy: match load_balancing.health_policy {
            HealthPolicy::OnlyHealthy => WireHealth::OnlyHealthy,
            HealthPolicy::AllowAll => WireHealth::AllowAll,
        }
        .into(),
    }
}

/// The extension entry of a session affinity; a time that protobuf cannot express asks for nothing.
pub(super) fn session_affinity(affinity: SessionAffinity) -> Option<wire::Extension> {
    let timeout = prost_types::Duration::try_from(affinity.timeout).ok()?;
    Some(wire::Extension {
        name: SESSION_AFFINITY_EXTENSION.to_owned(),
        config: Some(prost_types::Any { type_url: DURATION_TYPE_URL.to_owned(), value: timeout.encode_to_vec() }),
    })
}
