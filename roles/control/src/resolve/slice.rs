//! Endpoints of Kubernetes services that are no pods of this cluster (control-plane A5).

use super::{View, service, view::ip_bytes};
use api::{Endpoint, EndpointSlice, Resource, Service, discovery::SERVICE_NAME_LABEL};
use proto::workload::{NetworkMode, Port, PortList, Workload, WorkloadStatus, port::AppProtocol};
use std::{collections::BTreeMap, net::IpAddr};

/// The workloads of a slice's endpoints that do not point to a pod. Nothing is known of who they are, so they carry
/// no account, no waypoint and no policy.
pub(super) fn workloads(slice: &EndpointSlice, view: View<'_>) -> Vec<Workload> {
    let name = slice.metadata.label(SERVICE_NAME_LABEL);
    let service = name.and_then(|name| view.objects.services.get(slice.namespace(), name));
    let Some(service) = service.filter(|service| slice.address_type != "FQDN" && service::is_served(service)) else {
        return Vec::new();
    };
    let key = format!("{}/{}", slice.namespace(), view.hostname(service));
    let services = BTreeMap::from([(key, ports(slice, service))]);
    let elsewhere = slice.endpoints.iter().filter(|endpoint| !is_pod(endpoint));
    let addresses = elsewhere.flat_map(|endpoint| endpoint.addresses.iter().map(move |address| (endpoint, address)));
    addresses
        .filter_map(|(endpoint, text)| {
            let address: IpAddr = text.parse().ok()?;
            let status = if endpoint.conditions.ready.unwrap_or(true) {
                WorkloadStatus::Healthy
            } else {
                WorkloadStatus::Unhealthy
            };
            let (cluster, namespace, name) = (&view.mesh.cluster_id, slice.namespace(), slice.name());
            Some(Workload {
                uid: format!("{cluster}/discovery.k8s.io/EndpointSlice/{namespace}/{name}/{text}"),
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                addresses: vec![ip_bytes(address)],
                network: view.network().to_owned(),
                trust_domain: view.trust_domain(),
                status: status.into(),
                cluster_id: cluster.clone(),
                services: services.clone(),
                network_mode: NetworkMode::HostNetwork.into(),
                ..Workload::default()
            })
        })
        .collect()
}

fn is_pod(endpoint: &Endpoint) -> bool {
    endpoint.target_ref.as_ref().is_some_and(|target| target.kind == "Pod")
}

/// Service ports whose name the slice has a TCP port of.
fn ports(slice: &EndpointSlice, service: &Service) -> PortList {
    let tcp = |protocol: &str| protocol.is_empty() || protocol == "TCP";
    let mapped = |port: &api::ServicePort| {
        let target = slice.ports.iter().find(|target| target.name == port.name && tcp(&target.protocol))?;
        Some(Port {
            service_port: u16::try_from(port.port).ok()?.into(),
            target_port: u16::try_from(target.port?).ok()?.into(),
            app_protocol: AppProtocol::Unknown.into(),
        })
    };
    PortList { ports: service.spec.ports.iter().filter(|port| tcp(&port.protocol)).filter_map(mapped).collect() }
}
