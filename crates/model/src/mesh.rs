//! The whole mesh as one immutable snapshot, and the lookups that traffic needs.
//!
//! A [`Mesh`] is never changed: [`Mesh::apply`] makes the next one, which shares everything that did not change (see
//! [`shards`]). Nothing in it depends on the order in which things arrived, so any two snapshots made from the same final set of
//! resources answer alike. Endpoints of a service are the workloads that name it, whether or not the service has arrived yet;
//! their health is judged at lookup, so a change of the service's health policy needs nothing re-sent.
//! How resources get here (xDS, a file) and what a proxy does with an answer is left to others.

mod apply;
mod rank;
mod shards;

use crate::{
    Authorization, Cidr, Health, HealthPolicy, Identity, NamespacedHostname, NetworkAddress, PortMap, Service, Str,
    TunnelProtocol, Visibility, Workload,
};
use shards::Sharded;
use std::{net::IpAddr, sync::Arc};

pub use apply::Change;

/// Items in a fixed order of their own, shared between snapshots.
type List<T> = Arc<Vec<Arc<T>>>;

/// A snapshot. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Mesh {
    workloads: Sharded<Str, Arc<Workload>>,
    /// Best first; workloads on the host's network share their address and are not in here.
    workloads_by_address: Sharded<NetworkAddress, List<Workload>>,
    workloads_by_hostname: Sharded<Str, List<Workload>>,
    workloads_by_node: Sharded<Str, List<Workload>>,
    /// Who names the service, healthy or not, known service or not.
    members: Sharded<NamespacedHostname, List<Workload>>,
    services: Sharded<NamespacedHostname, Arc<Service>>,
    services_by_vip: Sharded<NetworkAddress, List<Service>>,
    services_by_hostname: Sharded<Str, List<Service>>,
    cidrs: Arc<Vec<(Cidr, Arc<Service>)>>,
    policies: Sharded<Str, Arc<Authorization>>,
    policies_everywhere: List<Authorization>,
    policies_by_namespace: Sharded<Str, List<Authorization>>,
}

/// One workload as an endpoint of a service.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint<'a> {
    /// The workload.
    pub workload: &'a Arc<Workload>,
    /// Which of its ports each service port means.
    pub ports: &'a PortMap,
}

/// The policies that concern a workload.
#[derive(Debug, Clone, Default)]
pub struct Applicable {
    /// Those that are here.
    pub policies: Vec<Arc<Authorization>>,
    /// Keys that the workload names and that have not arrived.
    pub missing: Vec<Str>,
}

impl Mesh {
    /// A mesh with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The workload with this key.
    pub fn workload_by_uid(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The best workload at an address: pods before other things, HBONE before plain.
    pub fn workload_by_address(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        self.workloads_at(address).first()
    }

    /// Every workload at an address, best first.
    pub fn workloads_at(&self, address: &NetworkAddress) -> &[Arc<Workload>] {
        items(self.workloads_by_address.get(address))
    }

    /// Workloads with this DNS name.
    pub fn workloads_by_hostname(&self, hostname: &str) -> &[Arc<Workload>] {
        items(self.workloads_by_hostname.get(hostname))
    }

    /// Workloads on a node.
    pub fn workloads_on(&self, node: &str) -> &[Arc<Workload>] {
        items(self.workloads_by_node.get(node))
    }

    /// The workload that a node agent describes, on the given node or, without one, anywhere.
    pub fn local_workload(
        &self,
        node: Option<&str>,
        namespace: &str,
        name: &str,
        service_account: &str,
    ) -> Option<&Arc<Workload>> {
        let described = |workload: &&Arc<Workload>| {
            &*workload.name == name
                && &*workload.namespace == namespace
                && &*workload.service_account == service_account
        };
        match node {
            Some(node) => self.workloads_on(node).iter().find(described),
            None => self.workloads().find(described),
        }
    }

    /// Whether some workload on the node proves this identity to others.
    pub fn identity_in_use(&self, node: &str, identity: &Identity) -> bool {
        self.workloads_on(node).iter().any(|workload| needs_certificate(workload) && workload.has_identity(identity))
    }

    /// Every workload, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter().map(|(_, workload)| workload)
    }

    /// How many workloads.
    pub fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    /// The service with this key.
    pub fn service_by_key(&self, key: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The service at an address as a client sees it: an exact address before a range; among those its own namespace's, then
    /// the canonical one, then the first by name. Without a client every service is visible.
    pub fn service_by_vip(&self, address: &NetworkAddress, client_namespace: Option<&str>) -> Option<&Arc<Service>> {
        let exact = items(self.services_by_vip.get(address));
        self.best_service(exact, client_namespace)
            .or_else(|| rank::best_range(&self.cidrs, &address.network, address.address, client_namespace))
    }

    /// Every service with this hostname, by namespace.
    pub fn services_by_hostname(&self, hostname: &str) -> &[Arc<Service>] {
        items(self.services_by_hostname.get(hostname))
    }

    /// The one of several services that a client means.
    pub fn best_service<'a>(
        &self,
        candidates: &'a [Arc<Service>],
        client_namespace: Option<&str>,
    ) -> Option<&'a Arc<Service>> {
        rank::best(candidates, client_namespace)
    }

    /// Every service, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().map(|(_, service)| service)
    }

    /// How many services.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The endpoints of a service that its health policy lets through, by uid; none while the service is not known.
    pub fn endpoints<'a>(&'a self, key: &'a NamespacedHostname) -> impl Iterator<Item = Endpoint<'a>> {
        let service = self.services.get(key);
        let all = service.is_some_and(|service| health_policy(service) == HealthPolicy::AllowAll);
        let members = if service.is_some() { self.members(key) } else { &[] };
        members
            .iter()
            .filter(move |workload| all || workload.status == Health::Healthy)
            .filter_map(move |workload| Some(Endpoint { workload, ports: workload.services.get(key)? }))
    }

    /// The workloads that name a service, healthy or not, whether or not the service is known.
    pub fn members(&self, key: &NamespacedHostname) -> &[Arc<Workload>] {
        items(self.members.get(key))
    }

    /// Services that workloads name and that have not arrived, with those workloads.
    pub fn staged(&self) -> impl Iterator<Item = (&NamespacedHostname, &[Arc<Workload>])> {
        let waiting = self.members.iter().filter(|(key, _)| self.services.get(key).is_none());
        waiting.map(|(key, members)| (key, members.as_slice()))
    }

    /// The policy with this key, `<namespace>/<name>`.
    pub fn policy_by_key(&self, key: &str) -> Option<&Arc<Authorization>> {
        self.policies.get(key)
    }

    /// Every policy, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Authorization>> {
        self.policies.iter().map(|(_, policy)| policy)
    }

    /// The policies that concern a workload: of the whole mesh, of its namespace, and those it names.
    pub fn policies_for(&self, workload: &Workload) -> Applicable {
        let namespace = items(self.policies_by_namespace.get(&*workload.namespace));
        let mut policies: Vec<_> = self.policies_everywhere.iter().chain(namespace).cloned().collect();
        let mut missing = Vec::new();
        for key in &workload.authorization_policies {
            match self.policies.get(&**key) {
                // Already among them by its scope, or named twice.
                Some(policy) if policies.iter().any(|other| Arc::ptr_eq(other, policy)) => {}
                Some(policy) => policies.push(policy.clone()),
                None => missing.push(key.clone()),
            }
        }
        Applicable { policies, missing }
    }
}

impl Workload {
    /// Whether it proves this identity.
    pub fn has_identity(&self, identity: &Identity) -> bool {
        self.trust_domain == identity.trust_domain
            && self.namespace == identity.namespace
            && self.service_account == identity.service_account
    }

    /// Its addresses as the mesh knows them.
    pub fn network_addresses(&self) -> impl Iterator<Item = NetworkAddress> {
        self.addresses.iter().map(|&address| NetworkAddress { network: self.network.clone(), address })
    }
}

impl Service {
    /// Whether a client in this namespace may see it; without a client it may be seen.
    pub fn is_visible_to(&self, client_namespace: Option<&str>) -> bool {
        self.visibility == Visibility::Public || client_namespace.is_none_or(|namespace| *namespace == *self.namespace)
    }
}

impl Cidr {
    /// Whether it holds an address of this network.
    pub fn holds(&self, network: &str, address: IpAddr) -> bool {
        *self.network == *network && self.range.contains(&address)
    }
}

/// Whether its node's proxy keeps a certificate for it.
pub(crate) fn needs_certificate(workload: &Workload) -> bool {
    workload.native_tunnel || workload.tunnel_protocol == TunnelProtocol::Hbone
}

fn health_policy(service: &Service) -> HealthPolicy {
    service.load_balancing.as_ref().map(|balancing| balancing.health_policy).unwrap_or_default()
}

fn items<T>(list: Option<&List<T>>) -> &[Arc<T>] {
    list.map_or(&[], |list| list.as_slice())
}

#[cfg(test)]
mod tests;
