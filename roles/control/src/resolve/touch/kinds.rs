//! Each kind of object: what a change of one of them touches.

use super::{Dirty, HostOwnerOf, Kind, Source};
use crate::{
    objects::{Objects, Table},
    resolve::{
        View, network::network_of, pod, policies::selected, service, target::is_target, view::selects, waypoint::names,
    },
};
use api::{
    AuthorizationPolicy, Condition, EndpointSlice, Gateway, GatewayClass, Namespace, Node, PeerAuthentication, Pod,
    Resource, Service, ServiceEntry, WorkloadEntry,
    discovery::SERVICE_NAME_LABEL,
    salvage::{self, Salvaged},
};
use std::collections::BTreeMap;

impl Kind for Pod {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.pods
    }

    fn trim(&mut self) {
        pod::trim(self);
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, _: View<'_>, dirty: &mut Dirty) {
        for pod in [old, new].into_iter().flatten() {
            dirty.add(Source::Pod, &pod.metadata);
        }
    }
}

impl Kind for Namespace {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.namespaces
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        let said = |namespace: &Self| (namespace.metadata.labels.clone(), namespace.metadata.annotations.clone());
        let Some(namespace) = new.or(old) else { return };
        if old.map(said) == new.map(said) {
            return;
        }
        dirty.add_namespace(namespace.name(), view.objects);
        // Its labels may let it attach to waypoints elsewhere, and the root namespace's name the network of all.
        if namespace.name() == view.mesh.root_namespace {
            dirty.add_where(view.objects, |_| true);
            for gateway in view.objects.gateways.iter() {
                dirty.add(Source::NetworkGateway, &gateway.metadata);
            }
        }
    }
}

impl Kind for Node {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.nodes
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        let Some(node) = new.or(old) else { return };
        // Nodes report themselves every few seconds; only their place matters.
        if old.map(|node| &node.metadata.labels) == new.map(|node| &node.metadata.labels) {
            return;
        }
        for pod in view.objects.pods.iter().filter(|pod| pod.spec.node_name == node.name()) {
            dirty.add(Source::Pod, &pod.metadata);
        }
    }
}

impl Kind for Service {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.services
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        for service in [old, new].into_iter().flatten() {
            dirty.add(Source::Service, &service.metadata);
            dirty.add_host_owners(&[view.hostname(service)], view);
            touch_selected(service.namespace(), &service.spec.selector, view, dirty);
            for slice in view.slices_of(service) {
                touch_slice(slice, view, dirty);
            }
        }
    }

    fn claims(&self, view: View<'_>) -> Option<(Vec<String>, HostOwnerOf)> {
        service::is_served(self).then(|| (vec![view.hostname(self)], HostOwnerOf::Service))
    }
}

/// Everything in a namespace that a selector selects.
pub(super) fn touch_selected(namespace: &str, selector: &BTreeMap<String, String>, view: View<'_>, dirty: &mut Dirty) {
    for pod in view.objects.pods.in_namespace(namespace) {
        if selects(selector, &pod.metadata.labels) {
            dirty.add(Source::Pod, &pod.metadata);
        }
    }
    for entry in view.objects.workload_entries.in_namespace(namespace) {
        if selects(selector, &entry.spec.labels) {
            dirty.add(Source::WorkloadEntry, &entry.metadata);
        }
    }
}

pub(super) fn touch_slice(slice: &EndpointSlice, view: View<'_>, dirty: &mut Dirty) {
    dirty.add(Source::Slice, &slice.metadata);
    let service = slice.metadata.label(SERVICE_NAME_LABEL);
    let service = service.and_then(|name| view.objects.services.get(slice.namespace(), name));
    // With a selector the pods are found by it, and the slice says nothing new about them.
    if service.is_some_and(|service| !service.spec.selector.is_empty()) {
        return;
    }
    for target in slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()) {
        if target.kind == "Pod" {
            dirty.0.insert(Source::Pod(slice.namespace().to_owned(), target.name.clone()));
        }
    }
}

impl Kind for EndpointSlice {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.slices
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        for slice in [old, new].into_iter().flatten() {
            touch_slice(slice, view, dirty);
        }
    }
}

impl Kind for ServiceEntry {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.service_entries
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        for entry in [old, new].into_iter().flatten() {
            dirty.add(Source::ServiceEntry, &entry.metadata);
            dirty.add_host_owners(&entry.spec.hosts, view);
            if let Some(selector) = &entry.spec.workload_selector {
                touch_selected(entry.namespace(), &selector.labels, view, dirty);
            }
        }
    }

    fn claims(&self, _: View<'_>) -> Option<(Vec<String>, HostOwnerOf)> {
        Some((service::hosts(self).to_vec(), HostOwnerOf::ServiceEntry))
    }
}

impl Kind for WorkloadEntry {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.workload_entries
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, _: View<'_>, dirty: &mut Dirty) {
        for entry in [old, new].into_iter().flatten() {
            dirty.add(Source::WorkloadEntry, &entry.metadata);
        }
    }
}

impl Kind for AuthorizationPolicy {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.policies
    }

    fn salvage(value: &serde_json::Value) -> Option<Salvaged<Self>> {
        Some(salvage::authorization_policy(value))
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        for policy in [old, new].into_iter().flatten() {
            dirty.add(Source::Policy, &policy.metadata);
            if policy.spec.selector.is_some() {
                dirty.add_workloads(policy.namespace(), view, |labels| selected(policy, labels));
            }
        }
    }
}

impl Kind for PeerAuthentication {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.peer_authentications
    }

    fn salvage(value: &serde_json::Value) -> Option<Salvaged<Self>> {
        Some(salvage::peer_authentication(value))
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        dirty.0.insert(Source::StaticStrict);
        for policy in [old, new].into_iter().flatten() {
            // Siblings inherit from it, and it may change which of them is the oldest.
            let everywhere = policy.namespace() == view.mesh.root_namespace;
            dirty.add(Source::PeerAuthentication, &policy.metadata);
            for other in view.objects.peer_authentications.iter() {
                if everywhere || other.namespace() == policy.namespace() {
                    dirty.add(Source::PeerAuthentication, &other.metadata);
                }
            }
            dirty.add_workloads(policy.namespace(), view, |_| true);
            touch_implicit_endpoints(policy.namespace(), everywhere, view, dirty);
        }
    }
}

/// Service entries without endpoints may bring a workload by name, which mutual TLS concerns like any other.
fn touch_implicit_endpoints(namespace: &str, everywhere: bool, view: View<'_>, dirty: &mut Dirty) {
    for entry in view.objects.service_entries.iter() {
        if everywhere || entry.namespace() == namespace {
            dirty.add(Source::ServiceEntry, &entry.metadata);
        }
    }
}

impl Kind for Gateway {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.gateways
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        let Some(gateway) = new.or(old) else { return };
        let said = |gateway: &Self| {
            let metadata = &gateway.metadata;
            (
                metadata.labels.clone(),
                metadata.annotations.clone(),
                gateway.spec.clone(),
                gateway.status.addresses.clone(),
            )
        };
        if old.map(said) == new.map(said) {
            return;
        }
        dirty.add(Source::WaypointOnly, &gateway.metadata);
        add_policies_with_target(Self::KIND, gateway.namespace(), gateway.name(), view, dirty);
        if [old, new].into_iter().flatten().any(|gateway| network_of(gateway, view).is_some()) {
            dirty.add(Source::NetworkGateway, &gateway.metadata);
            add_other_networks(view, dirty);
        }
        dirty.add_where(view.objects, |metadata| {
            let is_its_pod = metadata.namespace == gateway.namespace()
                && metadata.label("gateway.networking.k8s.io/gateway-name") == Some(gateway.name());
            is_its_pod || names(metadata, gateway, view)
        });
    }
}

/// Policies that attach to an object.
pub(super) fn add_policies_with_target(kind: &str, namespace: &str, name: &str, view: View<'_>, dirty: &mut Dirty) {
    for policy in view.objects.policies.in_namespace(namespace) {
        if is_target(policy, kind, name) {
            dirty.add(Source::Policy, &policy.metadata);
        }
    }
}

/// The ways into other networks, and what may be there.
fn add_other_networks(view: View<'_>, dirty: &mut Dirty) {
    for gateway in view.objects.gateways.iter().filter(|gateway| network_of(gateway, view).is_some()) {
        dirty.add(Source::NetworkGateway, &gateway.metadata);
    }
    for entry in view.objects.workload_entries.iter().filter(|entry| !entry.spec.network.is_empty()) {
        dirty.add(Source::WorkloadEntry, &entry.metadata);
    }
    for entry in view.objects.service_entries.iter() {
        if entry.spec.endpoints.iter().any(|endpoint| !endpoint.network.is_empty()) {
            dirty.add(Source::ServiceEntry, &entry.metadata);
        }
    }
}

impl Kind for GatewayClass {
    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.gateway_classes
    }

    fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }

    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty) {
        let said = |class: &Self| (class.metadata.labels.clone(), class.metadata.annotations.clone());
        if old.map(said) != new.map(said) {
            dirty.add_where(view.objects, |_| true);
            let Some(class) = new.or(old) else { return };
            add_policies_with_target(Self::KIND, &view.mesh.root_namespace, class.name(), view, dirty);
        }
    }
}
