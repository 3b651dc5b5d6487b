//! A pod as a workload (control-plane A4).

use super::{
    View, implicit, policies, ports, service,
    verdict::READABLE,
    view::{ip_bytes, selects},
    waypoint::{self, Traffic},
    workload_name,
};
use api::{
    Condition, Container, EndpointSlice, Gateway, Pod, PodSpec, PodStatus, Resource, discovery::SERVICE_NAME_LABEL,
};
use model::well_known::REDIRECTION_ANNOTATION;
use proto::workload::{
    ApplicationTunnel, Locality, NetworkMode, PortList, TunnelProtocol, Workload, WorkloadStatus, WorkloadType,
    application_tunnel::Protocol,
};
use std::{collections::BTreeMap, net::IpAddr};

/// The workload of a pod; none for a pod that has ended or has no address yet. A pending pod with an address counts:
/// its init containers speak already.
pub(super) fn workload(pod: &Pod, view: View<'_>) -> Option<Workload> {
    let addresses: Vec<_> = addresses(pod).map(ip_bytes).collect();
    if pod.is_terminal() || addresses.is_empty() {
        return None;
    }
    let labels = &pod.metadata.labels;
    let workload_name = workload_name::of_pod(pod);
    let (canonical_name, canonical_revision) = workload_name::canonical(labels, &workload_name);
    let (tunnel_protocol, native_tunnel) = tunnel(pod);
    let services = services(pod, view);
    let mut authorization_policies = policies::of_workload(pod.namespace(), labels, view);
    authorization_policies.extend(implicit::of_workload(&pod.metadata, &services, view));
    let ready = pod.is_ready() && pod.metadata.deletion_timestamp.is_none();
    Some(Workload {
        uid: uid(pod, view),
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        addresses,
        network: view.network().to_owned(),
        tunnel_protocol: tunnel_protocol.into(),
        native_tunnel,
        trust_domain: view.trust_domain(),
        service_account: pod.service_account().to_owned(),
        waypoint: waypoint::bind(&pod.metadata, Traffic::Workload, view).address(),
        node: pod.spec.node_name.clone(),
        canonical_name,
        canonical_revision,
        workload_type: WorkloadType::Pod.into(),
        workload_name,
        authorization_policies,
        status: if ready { WorkloadStatus::Healthy } else { WorkloadStatus::Unhealthy }.into(),
        cluster_id: view.mesh.cluster_id.clone(),
        services,
        application_tunnel: application_tunnel(pod, view),
        locality: locality(&pod.spec.node_name, view),
        network_mode: if pod.spec.host_network { NetworkMode::HostNetwork } else { NetworkMode::Standard }.into(),
        ..Workload::default()
    })
}

/// Takes away what neither the resolution nor the authority reads: most of a pod.
pub(super) fn trim(pod: &mut Pod) {
    let metadata = &mut pod.metadata;
    (metadata.managed_fields, metadata.finalizers) = (Vec::new(), Vec::new());
    metadata.annotations.retain(|key, _| key == REDIRECTION_ANNOTATION || key.starts_with("istio.io/"));
    metadata.owner_references.retain(|owner| owner.controller);
    let spec = std::mem::take(&mut pod.spec);
    pod.spec = PodSpec {
        node_name: spec.node_name,
        service_account: spec.service_account,
        service_account_name: spec.service_account_name,
        host_network: spec.host_network,
        containers: with_named_ports(spec.containers),
        init_containers: with_named_ports(spec.init_containers),
        ..PodSpec::default()
    };
    let status = std::mem::take(&mut pod.status);
    let read = |condition: &Condition| matches!(condition.type_.as_str(), "Ready" | READABLE);
    pod.status = PodStatus {
        phase: status.phase,
        conditions: status.conditions.into_iter().filter(read).collect(),
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        ..PodStatus::default()
    };
}

/// Of containers only what a service's named target port may mean.
fn with_named_ports(containers: Vec<Container>) -> Vec<Container> {
    let kept = containers.into_iter().filter_map(|container| {
        let ports: Vec<_> = container.ports.into_iter().filter(|port| !port.name.is_empty()).collect();
        let restart_policy = container.restart_policy;
        (!ports.is_empty()).then(|| Container { ports, restart_policy, ..Container::default() })
    });
    kept.collect()
}

pub(super) fn uid(pod: &Pod, view: View<'_>) -> String {
    format!("{}//Pod/{}/{}", view.mesh.cluster_id, pod.namespace(), pod.name())
}

fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let status = &pod.status;
    let single = status.pod_ips.is_empty().then_some(status.pod_ip.as_str());
    status.pod_ips.iter().map(|address| address.ip.as_str()).chain(single).filter_map(|ip| ip.parse().ok())
}

/// Only what the node agent has written counts as capture: it alone knows.
fn tunnel(pod: &Pod) -> (TunnelProtocol, bool) {
    if pod.metadata.annotation(REDIRECTION_ANNOTATION) == Some("enabled") {
        (TunnelProtocol::Hbone, false)
    } else if speaks_hbone(&pod.metadata.labels) {
        (TunnelProtocol::Hbone, true)
    } else {
        (TunnelProtocol::None, false)
    }
}

/// Whether a label says that the workload ends HBONE itself.
pub(super) fn speaks_hbone(labels: &BTreeMap<String, String>) -> bool {
    labels.get("networking.istio.io/tunnel").is_some_and(|list| list.split(',').any(|item| item.trim() == "http"))
}

fn services(pod: &Pod, view: View<'_>) -> BTreeMap<String, PortList> {
    let (namespace, labels) = (pod.namespace(), &pod.metadata.labels);
    let mut services = BTreeMap::new();
    for service in view.objects.services.in_namespace(namespace) {
        let by_slice = || service.spec.selector.is_empty() && view.slices_of(service).any(|slice| targets(slice, pod));
        if !service::is_served(service) || !(selects(&service.spec.selector, labels) || by_slice()) {
            continue;
        }
        services.insert(format!("{namespace}/{}", view.hostname(service)), ports::of_pod(service, pod));
    }
    let entries = view.mesh.entries_select_pods.then(|| view.objects.service_entries.in_namespace(namespace));
    for entry in entries.into_iter().flatten() {
        let selector = entry.spec.workload_selector.as_ref();
        if selector.is_some_and(|selector| selects(&selector.labels, labels)) {
            for host in service::hosts(entry) {
                let list = ports::behind_service_entry(entry, &BTreeMap::new());
                services.entry(format!("{namespace}/{host}")).or_insert(list);
            }
        }
    }
    services
}

/// Whether an endpoint of a slice says that it is this very pod.
fn targets(slice: &EndpointSlice, pod: &Pod) -> bool {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()).any(|target| {
        target.kind == "Pod"
            && target.name == pod.name()
            && target.namespace == pod.namespace()
            && (target.uid.is_empty() || target.uid == pod.metadata.uid)
    })
}

impl<'a> View<'a> {
    /// The slices that say they are a service's.
    pub(super) fn slices_of(&self, service: &'a api::Service) -> impl Iterator<Item = &'a EndpointSlice> {
        let slices = self.objects.slices.in_namespace(service.namespace());
        slices.filter(|slice| slice.metadata.label(SERVICE_NAME_LABEL) == Some(service.name())).map(AsRef::as_ref)
    }
}

fn locality(node: &str, view: View<'_>) -> Option<Locality> {
    let labels = &view.objects.nodes.get("", node)?.metadata.labels;
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let locality = Locality {
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone"),
    };
    (locality != Locality::default()).then_some(locality)
}

/// A gateway's pod is handed its connections as the gateway, or its class, asks for.
fn application_tunnel(pod: &Pod, view: View<'_>) -> Option<ApplicationTunnel> {
    const BINDING: &str = "ambient.istio.io/waypoint-inbound-binding";
    let name = pod.metadata.label("gateway.networking.k8s.io/gateway-name")?;
    let gateway: &Gateway = view.objects.gateways.get(pod.namespace(), name)?;
    let class = view.objects.gateway_classes.get("", &gateway.spec.gateway_class_name);
    let binding = gateway.metadata.annotation(BINDING).or_else(|| class?.metadata.annotation(BINDING))?;
    let (protocol, port) = binding.split_once('/').unwrap_or((binding, "0"));
    let protocol = match protocol {
        "PROXY" => Protocol::Proxy,
        "NONE" => Protocol::None,
        _ => return None,
    };
    Some(ApplicationTunnel { protocol: protocol.into(), port: port.parse::<u16>().ok()?.into() })
}
