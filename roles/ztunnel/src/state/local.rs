//! Workloads, services and policies from a file (ztunnel.md §1.9): YAML of the shape that the dump shows, read once.
//! An unknown field is an error, because a misspelt one would silently change what traffic does.

use model::{
    Action, ApplicationTunnel, ApplicationTunnelProtocol, Authorization, Change, Cidr, GatewayAddress,
    GatewayDestination, Health, IpFamilies, LoadBalancing, LoadBalancingMode, LoadBalancingScope, Locality,
    NamespacedHostname, NetworkAddress, NetworkMode, PolicyScope, PortMap, Rule, Service, Str, TunnelProtocol,
    Visibility, WeightedWaypoint, Workload, WorkloadType,
};
use serde::Deserialize;
use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc};

#[path = "local_policy.rs"]
mod policy;

/// Why local resources cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// The file cannot be read.
    #[error("reading the local xDS file {path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("local xDS: {0}; correct the document")]
    Content(String),
}

/// The whole document.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Document {
    workloads: Vec<LocalWorkload>,
    services: Vec<LocalService>,
    policies: Vec<policy::LocalPolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct LocalWorkload {
    uid: String,
    name: String,
    namespace: String,
    trust_domain: Option<String>,
    service_account: Option<String>,
    workload_ips: Vec<IpAddr>,
    hostname: String,
    network: String,
    protocol: Option<String>,
    network_mode: Option<String>,
    native_tunnel: bool,
    waypoint: Option<LocalGateway>,
    network_gateway: Option<LocalGateway>,
    node: String,
    workload_name: String,
    workload_type: Option<String>,
    canonical_name: String,
    canonical_revision: String,
    cluster_id: Option<String>,
    authorization_policies: Vec<String>,
    status: Option<String>,
    services: BTreeMap<String, BTreeMap<u16, u16>>,
    application_tunnel: Option<LocalTunnel>,
    locality: LocalLocality,
    capacity: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LocalGateway {
    destination: String,
    hbone_mtls_port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LocalTunnel {
    protocol: String,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LocalLocality {
    region: String,
    zone: String,
    subzone: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct LocalService {
    name: String,
    namespace: String,
    hostname: String,
    vips: Vec<String>,
    cidr_vips: Vec<LocalRange>,
    ports: BTreeMap<u16, u16>,
    subject_alt_names: Vec<String>,
    waypoint: Option<LocalGateway>,
    weighted_waypoints: Vec<LocalWeighted>,
    load_balancer: Option<LocalBalancer>,
    ip_families: Option<String>,
    canonical: bool,
    visibility: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalRange {
    #[serde(default)]
    network: String,
    cidr: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalWeighted {
    destination: LocalGateway,
    weight: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct LocalBalancer {
    routing_preferences: Vec<String>,
    mode: Option<String>,
    health_policy: Option<String>,
}

/// Reads a document from a file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Change>, LocalError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LocalError::File { path: path.display().to_string(), source })?;
    read(&text)
}

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Vec<Change>, LocalError> {
    let document: Document = api::yaml::read_value(text)
        .map_err(|error| LocalError::Content(error.to_string()))
        .and_then(|value| serde_json::from_value(value).map_err(|error| LocalError::Content(error.to_string())))?;
    let mut changes = Vec::new();
    for local in document.services {
        changes.push(Change::Service(Arc::new(service(local)?)));
    }
    for local in document.workloads {
        changes.push(Change::Workload(Arc::new(workload(local)?)));
    }
    for local in document.policies {
        changes.push(Change::Policy(Arc::new(local.into_model()?)));
    }
    Ok(changes)
}

fn wrong<T>(what: &str, value: &str) -> Result<T, LocalError> {
    Err(LocalError::Content(format!("{what} {value:?} is not known")))
}

fn workload(local: LocalWorkload) -> Result<Workload, LocalError> {
    let default = Workload::default();
    let mut services = BTreeMap::new();
    for (key, ports) in local.services {
        let Ok(name) = key.parse::<NamespacedHostname>() else { return wrong("service", &key) };
        services.insert(name, PortMap(ports.into_iter().collect()));
    }
    Ok(Workload {
        uid: local.uid.into(),
        name: local.name.into(),
        namespace: local.namespace.into(),
        trust_domain: local.trust_domain.map_or(default.trust_domain, Str::from),
        service_account: local.service_account.map_or(default.service_account, Str::from),
        addresses: local.workload_ips,
        hostname: local.hostname.into(),
        network: local.network.into(),
        tunnel_protocol: match local.protocol.as_deref() {
            None | Some("TCP") => TunnelProtocol::None,
            Some("HBONE") => TunnelProtocol::Hbone,
            Some(other) => return wrong("protocol", other),
        },
        network_mode: match local.network_mode.as_deref() {
            None | Some("Standard") => NetworkMode::Standard,
            Some("HostNetwork") => NetworkMode::HostNetwork,
            Some(other) => return wrong("networkMode", other),
        },
        native_tunnel: local.native_tunnel,
        waypoint: local.waypoint.map(gateway).transpose()?,
        network_gateway: local.network_gateway.map(gateway).transpose()?,
        node: local.node.into(),
        workload_name: local.workload_name.into(),
        workload_type: workload_type(local.workload_type.as_deref())?,
        canonical_name: local.canonical_name.into(),
        canonical_revision: local.canonical_revision.into(),
        cluster_id: local.cluster_id.map_or(default.cluster_id, Str::from),
        authorization_policies: local.authorization_policies.into_iter().map(Str::from).collect(),
        status: match local.status.as_deref() {
            None | Some("Healthy") => Health::Healthy,
            Some("Unhealthy") => Health::Unhealthy,
            Some(other) => return wrong("status", other),
        },
        services,
        application_tunnel: local.application_tunnel.map(tunnel).transpose()?,
        locality: Locality {
            region: local.locality.region.into(),
            zone: local.locality.zone.into(),
            subzone: local.locality.subzone.into(),
        },
        capacity: local.capacity.unwrap_or(1),
    })
}

fn workload_type(text: Option<&str>) -> Result<WorkloadType, LocalError> {
    match text {
        None => Ok(WorkloadType::Deployment),
        Some(text) => [WorkloadType::Deployment, WorkloadType::CronJob, WorkloadType::Pod, WorkloadType::Job]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .map_or_else(|| wrong("workloadType", text), Ok),
    }
}

fn tunnel(local: LocalTunnel) -> Result<ApplicationTunnel, LocalError> {
    let protocol = match local.protocol.as_str() {
        "NONE" => ApplicationTunnelProtocol::None,
        "PROXY" => ApplicationTunnelProtocol::Proxy,
        other => return wrong("applicationTunnel protocol", other),
    };
    Ok(ApplicationTunnel { protocol, port: local.port })
}

fn gateway(local: LocalGateway) -> Result<GatewayAddress, LocalError> {
    let destination = match (network_address(&local.destination), local.destination.parse()) {
        (Ok(address), _) => GatewayDestination::Address(address),
        (Err(_), Ok(hostname)) => GatewayDestination::Hostname(hostname),
        (Err(error), Err(())) => return Err(error),
    };
    Ok(GatewayAddress { destination, hbone_mtls_port: local.hbone_mtls_port })
}

/// `network/ip`.
fn network_address(text: &str) -> Result<NetworkAddress, LocalError> {
    let parsed = text.split_once('/').and_then(|(network, ip)| Some((network, ip.parse().ok()?)));
    parsed.map_or_else(
        || wrong("address", text),
        |(network, address)| Ok(NetworkAddress { network: network.into(), address }),
    )
}

fn service(local: LocalService) -> Result<Service, LocalError> {
    Ok(Service {
        name: local.name.into(),
        namespace: local.namespace.into(),
        hostname: local.hostname.into(),
        vips: local.vips.iter().map(|vip| network_address(vip)).collect::<Result<_, _>>()?,
        cidr_vips: local.cidr_vips.into_iter().map(range).collect::<Result<_, _>>()?,
        ports: local.ports.into_iter().collect(),
        subject_alt_names: local.subject_alt_names.into_iter().map(Str::from).collect(),
        waypoint: local.waypoint.map(gateway).transpose()?,
        weighted_waypoints: local.weighted_waypoints.into_iter().map(weighted).collect::<Result<_, _>>()?,
        load_balancing: local.load_balancer.map(balancing).transpose()?,
        ip_families: match local.ip_families.as_deref() {
            None => None,
            Some("IPv4") => Some(IpFamilies::Ipv4),
            Some("IPv6") => Some(IpFamilies::Ipv6),
            Some("Dual") => Some(IpFamilies::Dual),
            Some(other) => return wrong("ipFamilies", other),
        },
        canonical: local.canonical,
        visibility: match local.visibility.as_deref() {
            None | Some("Public") => Visibility::Public,
            Some("Namespace") => Visibility::Namespace,
            Some(other) => return wrong("visibility", other),
        },
        ..Service::default()
    })
}

fn range(local: LocalRange) -> Result<Cidr, LocalError> {
    match local.cidr.parse() {
        Ok(range) => Ok(Cidr { network: local.network.into(), range }),
        Err(_) => wrong("range", &local.cidr),
    }
}

fn weighted(local: LocalWeighted) -> Result<WeightedWaypoint, LocalError> {
    Ok(WeightedWaypoint { destination: gateway(local.destination)?, weight: local.weight })
}

fn balancing(local: LocalBalancer) -> Result<LoadBalancing, LocalError> {
    let scope = |text: &String| match text.as_str() {
        "Region" => Ok(LoadBalancingScope::Region),
        "Zone" => Ok(LoadBalancingScope::Zone),
        "Subzone" => Ok(LoadBalancingScope::Subzone),
        "Node" => Ok(LoadBalancingScope::Node),
        "Cluster" => Ok(LoadBalancingScope::Cluster),
        "Network" => Ok(LoadBalancingScope::Network),
        other => wrong("routing preference", other),
    };
    Ok(LoadBalancing {
        routing_preferences: local.routing_preferences.iter().map(scope).collect::<Result<_, _>>()?,
        mode: match local.mode.as_deref() {
            None | Some("Standard") => LoadBalancingMode::Standard,
            Some("Strict") => LoadBalancingMode::Strict,
            Some("Failover") => LoadBalancingMode::Failover,
            Some("Passthrough") => LoadBalancingMode::Passthrough,
            Some(other) => return wrong("load balancing mode", other),
        },
        health_policy: match local.health_policy.as_deref() {
            None | Some("OnlyHealthy") => model::HealthPolicy::OnlyHealthy,
            Some("AllowAll") => model::HealthPolicy::AllowAll,
            Some(other) => return wrong("health policy", other),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Mesh;
    use rstest::rstest;

    const DOCUMENT: &str = r#"
workloads:
- uid: cluster//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: default
  workloadIps: ["127.0.0.1"]
  protocol: HBONE
  node: local
  services:
    "default/example.com":
      80: 8080
services:
- name: local
  namespace: default
  hostname: example.com
  vips: ["/127.10.0.1"]
  cidrVips: [{network: "", cidr: 127.11.0.0/16}]
  weightedWaypoints: [{destination: {destination: default/way, hboneMtlsPort: 15008}, weight: 3}]
  ports: {80: 8080}
policies:
- name: deny
  namespace: default
  scope: Namespace
  action: Deny
  rules:
  - - - notDestinationPorts: [9999]
      - principals: [{Exact: cluster.local/ns/default/sa/default}, {Presence: []}]
"#;

    #[test]
    fn the_documented_shape_is_read() {
        let mesh = Mesh::new().apply(read(DOCUMENT).unwrap());
        let workload = mesh.workload_by_uid("cluster//v1/Pod/default/local").unwrap();
        assert_eq!(workload.tunnel_protocol, TunnelProtocol::Hbone);
        let key = "default/example.com".parse().unwrap();
        assert_eq!(mesh.endpoints(&key).next().unwrap().ports.target(80), Some(8080));
        let service = mesh.service_by_key(&key).unwrap();
        assert_eq!((service.cidr_vips.len(), service.weighted_waypoints[0].weight), (1, 3));
        let policy = mesh.policy_by_key("default/deny").unwrap();
        assert_eq!(policy.rules[0].clauses[0].len(), 2);
    }

    #[test]
    fn a_file_is_read_once_and_one_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.yaml");
        let error = read_file(&path).unwrap_err().to_string();
        assert!(error.contains("mesh.yaml"), "{error}");
        std::fs::write(&path, DOCUMENT).unwrap();
        assert_eq!(read_file(&path).unwrap().len(), 3);
    }

    #[rstest]
    #[case("workloads: [{uid: a, protcol: HBONE}]", "protcol")]
    #[case("workloads: [{uid: a, protocol: MTLS}]", "MTLS")]
    #[case("services: [{name: a, vips: [10.0.0.1]}]", "10.0.0.1")]
    #[case("policies: [{name: a, namespace: b, scope: Everywhere, action: Deny}]", "Everywhere")]
    #[case("workloads: {", "local xDS")]
    fn what_is_not_understood_is_refused_by_name(#[case] text: &str, #[case] part: &str) {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
