//! Services of Kubernetes and of service entries as services of the mesh (control-plane A6).

use super::{
    View, ports,
    view::ip_bytes,
    waypoint::{self, Traffic},
};
use api::{ObjectMeta, Resource, Service as KubernetesService, ServiceEntry, istio::Resolution};
use prost::Message;
use proto::workload::{
    Extension, IpFamilies, LoadBalancing, NetworkAddress, Service, Visibility,
    load_balancing::{HealthPolicy, Mode, Scope},
};
use std::{collections::BTreeMap, net::IpAddr};
use xds::wds::{DURATION_TYPE_URL, SESSION_AFFINITY_EXTENSION};

const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Kubernetes' own default for `sessionAffinity: ClientIP`.
const AFFINITY_SECONDS: i32 = 10_800;

/// Whether a Kubernetes service is one of the mesh's: an ExternalName is only a name in DNS.
pub(super) fn is_served(service: &KubernetesService) -> bool {
    service.spec.type_ != "ExternalName"
}

/// The service of the mesh that a Kubernetes service is.
pub(super) fn kubernetes(service: &KubernetesService, view: View<'_>) -> Option<Service> {
    if !is_served(service) {
        return None;
    }
    let spec = &service.spec;
    let single = spec.cluster_ips.is_empty().then_some(&spec.cluster_ip);
    let addresses = spec.cluster_ips.iter().chain(single).filter_map(|ip| ip.parse::<IpAddr>().ok());
    let network = view.network();
    let binding = waypoint::bind(&service.metadata, Traffic::Service, view);
    Some(Service {
        name: service.name().to_owned(),
        namespace: service.namespace().to_owned(),
        hostname: view.hostname(service),
        addresses: addresses.map(|address| vip(network, address, None)).collect(),
        ports: ports::of_service(service),
        weighted_waypoints: binding.weighted(),
        waypoint: binding.address(),
        load_balancing: load_balancing(service, view),
        ip_families: ip_families(&spec.ip_families).into(),
        extensions: session_affinity(service).into_iter().collect(),
        canonical: true,
        ingress_use_waypoint: ingress_uses_waypoint(&service.metadata.labels, service.namespace(), view),
        ..Service::default()
    })
}

fn vip(network: &str, address: IpAddr, length: Option<u32>) -> NetworkAddress {
    NetworkAddress { network: network.to_owned(), address: ip_bytes(address), length }
}

fn ip_families(families: &[String]) -> IpFamilies {
    let has = |family: &str| families.iter().any(|name| name == family);
    match (has("IPv4"), has("IPv6")) {
        (true, true) => IpFamilies::Dual,
        (true, false) => IpFamilies::Ipv4Only,
        (false, true) => IpFamilies::Ipv6Only,
        (false, false) => IpFamilies::Automatic,
    }
}

pub(super) fn ingress_uses_waypoint(labels: &BTreeMap<String, String>, namespace: &str, view: View<'_>) -> bool {
    const LABEL: &str = "istio.io/ingress-use-waypoint";
    let label = labels.get(LABEL).or_else(|| view.objects.namespace_labels(namespace).get(LABEL));
    label.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn load_balancing(service: &KubernetesService, view: View<'_>) -> Option<LoadBalancing> {
    let spec = &service.spec;
    let (mode, scopes): (Mode, &[Scope]) = if spec.internal_traffic_policy == "Local" {
        (Mode::Strict, &[Scope::Node])
    } else {
        preference(&spec.traffic_distribution, &service.metadata, view)
    };
    let health = if spec.publish_not_ready_addresses { HealthPolicy::AllowAll } else { HealthPolicy::OnlyHealthy };
    if mode == Mode::UnspecifiedMode && health == HealthPolicy::OnlyHealthy {
        return None;
    }
    Some(LoadBalancing {
        routing_preference: scopes.iter().map(|scope| i32::from(*scope)).collect(),
        mode: mode.into(),
        health_policy: health.into(),
    })
}

/// The first of field, annotation and the namespace's annotation that is there decides; what nobody knows means "any".
fn preference(field: &str, metadata: &ObjectMeta, view: View<'_>) -> (Mode, &'static [Scope]) {
    let namespace = view.objects.namespaces.get("", &metadata.namespace);
    let value = Some(field)
        .filter(|value| !value.is_empty())
        .or_else(|| metadata.annotation(DISTRIBUTION))
        .or_else(|| namespace?.metadata.annotation(DISTRIBUTION));
    match value.map(str::to_ascii_lowercase).as_deref() {
        Some("preferclose" | "prefersamezone") => (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone]),
        Some("prefersamenode") => {
            (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node])
        }
        _ => (Mode::UnspecifiedMode, &[]),
    }
}

fn session_affinity(service: &KubernetesService) -> Option<Extension> {
    if service.spec.session_affinity != "ClientIP" {
        return None;
    }
    let config = service.spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
    let timeout = prost_types::Duration { seconds: seconds.into(), nanos: 0 };
    Some(Extension {
        name: SESSION_AFFINITY_EXTENSION.to_owned(),
        config: Some(prost_types::Any { type_url: DURATION_TYPE_URL.to_owned(), value: timeout.encode_to_vec() }),
    })
}

/// Who may see a service entry: what `exportTo` says, as far as node proxies can tell namespaces apart; none: nobody.
///
/// Upstream sends every entry to everybody (issues 55163, 59652 ask for this).
pub(super) fn visibility(entry: &ServiceEntry) -> Option<Visibility> {
    let export = &entry.spec.export_to;
    let own = |name: &String| name == "." || name == entry.namespace();
    if export.is_empty() {
        Some(Visibility::Public)
    } else if export.iter().all(|name| name == "~") {
        None
    } else if export.iter().filter(|name| *name != "~").all(own) {
        Some(Visibility::Namespace)
    } else {
        Some(Visibility::Public)
    }
}

/// The hosts that a service entry brings to the mesh.
pub(super) fn hosts(entry: &ServiceEntry) -> &[String] {
    visibility(entry).map_or(&[], |_| entry.spec.hosts.as_slice())
}

/// The services of the mesh that a service entry stands for: one per host that it is the winner of in its namespace.
pub(super) fn of_entry(entry: &ServiceEntry, view: View<'_>) -> Vec<Service> {
    let hosts = hosts(entry).iter().filter(|host| view.wins_in_namespace(entry, host));
    hosts.map(|host| of_host(entry, host, view)).collect()
}

fn of_host(entry: &ServiceEntry, host: &str, view: View<'_>) -> Service {
    let binding = waypoint::bind(&entry.metadata, Traffic::Service, view);
    Service {
        name: entry.name().to_owned(),
        namespace: entry.namespace().to_owned(),
        hostname: host.to_owned(),
        addresses: entry_addresses(entry, host, view),
        ports: ports::of_service_entry(entry),
        subject_alt_names: entry.spec.subject_alt_names.clone(),
        weighted_waypoints: binding.weighted(),
        waypoint: binding.address(),
        load_balancing: entry_load_balancing(entry, view),
        visibility: visibility(entry).unwrap_or_default().into(),
        canonical: view.is_canonical(entry, host),
        ingress_use_waypoint: ingress_uses_waypoint(&entry.metadata.labels, entry.namespace(), view),
        ..Service::default()
    }
}

/// Without resolution the dialled address is used as it is; else closeness counts where somebody asks for it.
fn entry_load_balancing(entry: &ServiceEntry, view: View<'_>) -> Option<LoadBalancing> {
    if entry.spec.resolution == Resolution::None {
        return Some(LoadBalancing {
            routing_preference: Vec::new(),
            mode: Mode::Passthrough.into(),
            health_policy: HealthPolicy::AllowAll.into(),
        });
    }
    let (mode, scopes) = preference("", &entry.metadata, view);
    (mode != Mode::UnspecifiedMode).then(|| LoadBalancing {
        routing_preference: scopes.iter().map(|scope| i32::from(*scope)).collect(),
        mode: mode.into(),
        health_policy: HealthPolicy::OnlyHealthy.into(),
    })
}

/// Written addresses, ranges among them; else the allocated ones.
fn entry_addresses(entry: &ServiceEntry, host: &str, view: View<'_>) -> Vec<NetworkAddress> {
    let network = view.network();
    if entry.spec.addresses.is_empty() && crate::allocate::wants(entry, host, view.mesh) {
        let allocated = entry.status.addresses.iter().filter(|address| address.host == host || address.host.is_empty());
        return allocated.filter_map(|address| Some(vip(network, address.value.parse().ok()?, None))).collect();
    }
    let written = |text: &String| match text.parse::<ipnet::IpNet>() {
        Ok(range) if range.prefix_len() != range.max_prefix_len() => {
            Some(vip(network, range.network(), Some(range.prefix_len().into())))
        }
        Ok(range) => Some(vip(network, range.addr(), None)),
        Err(_) => Some(vip(network, text.parse().ok()?, None)),
    };
    entry.spec.addresses.iter().filter_map(written).collect()
}
