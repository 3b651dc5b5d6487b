//! Workloads that are no pods: workload entries and the endpoints of service entries (control-plane A5).

use super::{
    View, implicit, network, pod, policies, ports, service,
    view::{ip_bytes, selects},
    waypoint::{self, Traffic},
    workload_name,
};
use api::{
    ObjectMeta, Resource, ServiceEntry, WorkloadEntry,
    istio::{Resolution, WorkloadEntrySpec},
};
use proto::workload::{Locality, PortList, TunnelProtocol, Workload, WorkloadType};
use std::{collections::BTreeMap, net::IpAddr};

/// The workload of a workload entry; always healthy, since nobody asks it.
pub(super) fn of_workload_entry(entry: &WorkloadEntry, view: View<'_>) -> Option<Workload> {
    let (cluster, namespace, name) = (&view.mesh.cluster_id, entry.namespace(), entry.name());
    let mut workload = from_spec(&entry.spec, &entry.metadata, view)?;
    workload.uid = format!("{cluster}/networking.istio.io/WorkloadEntry/{namespace}/{name}");
    workload.services = services(entry, view);
    workload.authorization_policies.extend(implicit::of_workload(&entry.metadata, &workload.services, view));
    workload.waypoint = waypoint::bind(&entry.metadata, Traffic::Workload, view).address();
    Some(workload)
}

fn services(entry: &WorkloadEntry, view: View<'_>) -> BTreeMap<String, PortList> {
    let (namespace, labels) = (entry.namespace(), &entry.spec.labels);
    let mut services = BTreeMap::new();
    let kubernetes = view.mesh.services_select_entries.then(|| view.objects.services.in_namespace(namespace));
    for service in kubernetes.into_iter().flatten() {
        if service::is_served(service) && selects(&service.spec.selector, labels) {
            let ports = ports::of_workload_entry(service, &entry.spec);
            services.insert(format!("{namespace}/{}", view.hostname(service)), ports);
        }
    }
    for other in view.objects.service_entries.in_namespace(namespace) {
        let selector = other.spec.workload_selector.as_ref();
        if selector.is_some_and(|selector| selects(&selector.labels, labels)) {
            for host in service::hosts(other) {
                let ports = ports::behind_service_entry(other, &entry.spec.ports);
                services.entry(format!("{namespace}/{host}")).or_insert(ports);
            }
        }
    }
    services
}

/// The workloads that a service entry brings itself: its inline endpoints; for a name without any, the name.
pub(super) fn of_service_entry(entry: &ServiceEntry, view: View<'_>) -> Vec<Workload> {
    let spec = &entry.spec;
    if service::visibility(entry).is_none() {
        return Vec::new();
    }
    let by_dns = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns);
    if spec.endpoints.is_empty() && spec.workload_selector.is_none() && by_dns {
        let implicit = |host: &String| {
            let endpoint = WorkloadEntrySpec { address: host.clone(), ..WorkloadEntrySpec::default() };
            inline(entry, &endpoint, std::slice::from_ref(host), view)
        };
        return spec.hosts.iter().filter_map(implicit).collect();
    }
    spec.endpoints.iter().filter_map(|endpoint| inline(entry, endpoint, &spec.hosts, view)).collect()
}

fn inline(entry: &ServiceEntry, endpoint: &WorkloadEntrySpec, hosts: &[String], view: View<'_>) -> Option<Workload> {
    let (cluster, namespace, name) = (&view.mesh.cluster_id, entry.namespace(), entry.name());
    let mut workload = from_spec(endpoint, &entry.metadata, view)?;
    workload.uid = format!("{cluster}/networking.istio.io/ServiceEntry/{namespace}/{name}/{}", endpoint.address);
    let ports = || ports::behind_service_entry(entry, &endpoint.ports);
    workload.services = hosts.iter().map(|host| (format!("{namespace}/{host}"), ports())).collect();
    workload.authorization_policies.extend(implicit::of_workload(&entry.metadata, &workload.services, view));
    Some(workload)
}

/// What both kinds have in common; none for an address that the mesh cannot reach, such as a Unix socket.
fn from_spec(spec: &WorkloadEntrySpec, metadata: &ObjectMeta, view: View<'_>) -> Option<Workload> {
    let address = spec.address.parse::<IpAddr>().ok();
    if spec.address.starts_with("unix://") || (spec.address.is_empty() && spec.network.is_empty()) {
        return None;
    }
    let native_tunnel = pod::speaks_hbone(&spec.labels);
    let (canonical_name, canonical_revision) = workload_name::canonical(&spec.labels, &metadata.name);
    let network = if spec.network.is_empty() { view.network() } else { &spec.network };
    Some(Workload {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        addresses: address.map(ip_bytes).into_iter().collect(),
        hostname: if address.is_none() { spec.address.clone() } else { String::new() },
        network_gateway: network::gateway_to(network, view),
        network: network.to_owned(),
        tunnel_protocol: if native_tunnel { TunnelProtocol::Hbone } else { TunnelProtocol::None }.into(),
        native_tunnel,
        trust_domain: view.trust_domain(),
        service_account: spec.service_account.clone(),
        canonical_name,
        canonical_revision,
        workload_type: WorkloadType::Pod.into(),
        workload_name: metadata.name.clone(),
        authorization_policies: policies::of_workload(&metadata.namespace, &spec.labels, view),
        cluster_id: view.mesh.cluster_id.clone(),
        locality: locality(&spec.locality),
        capacity: (spec.weight != 0).then_some(spec.weight),
        ..Workload::default()
    })
}

/// `region/zone/subzone`.
fn locality(text: &str) -> Option<Locality> {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let locality = Locality { region: next(), zone: next(), subzone: next() };
    (locality != Locality::default()).then_some(locality)
}
