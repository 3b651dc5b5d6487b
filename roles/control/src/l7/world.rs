//! What routes and policies refer to: services, gateways, grants, namespaces; as they are at one moment.

use crate::settings::Mesh;
use api::{Gateway, Namespace, ReferenceGrant, Resource, Service, ServiceEntry};
use proto::l7 as wire;
use std::{collections::HashMap, sync::Arc};

/// The objects that others refer to.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The installation's choices.
    pub mesh: Mesh,
    /// Services by namespace and name.
    pub services: HashMap<(String, String), Arc<Service>>,
    /// Service entries by namespace and name.
    pub entries: HashMap<(String, String), Arc<ServiceEntry>>,
    /// Gateways by namespace and name.
    pub gateways: HashMap<(String, String), Arc<Gateway>>,
    /// Namespaces by name.
    pub namespaces: HashMap<String, Arc<Namespace>>,
    /// Grants.
    pub grants: Vec<Arc<ReferenceGrant>>,
}

/// Objects by namespace and name.
pub fn by_name<T: Resource>(list: Vec<Arc<T>>) -> HashMap<(String, String), Arc<T>> {
    list.into_iter().map(|one| ((one.namespace().to_owned(), one.name().to_owned()), one)).collect()
}

impl World {
    /// A service's key on the wire.
    pub fn key(&self, namespace: &str, name: &str) -> wire::ServiceKey {
        let hostname = format!("{name}.{namespace}.svc.{}", self.mesh.domain);
        wire::ServiceKey { namespace: namespace.to_owned(), hostname }
    }

    /// A service by name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The keys of a service entry's hosts.
    pub fn entry_keys(&self, namespace: &str, name: &str) -> Option<Vec<wire::ServiceKey>> {
        let entry = self.entries.get(&(namespace.to_owned(), name.to_owned()))?;
        let key = |host: &String| wire::ServiceKey { namespace: namespace.to_owned(), hostname: host.clone() };
        Some(entry.spec.hosts.iter().map(key).collect())
    }

    /// Whether objects of a kind in one namespace may refer to a service in another.
    pub fn permits(&self, kind: &str, from: &str, to: &str, name: &str) -> bool {
        from == to
            || self.grants.iter().filter(|grant| grant.namespace() == to).any(|grant| {
                let granted = grant.spec.from.iter();
                let mut granted = granted.filter(|one| one.group == api::gateway::GROUP && one.kind == kind);
                let target = |one: &api::gateway::ReferenceGrantTo| {
                    one.group.is_empty() && one.kind == "Service" && (one.name.is_empty() || one.name == name)
                };
                granted.any(|one| one.namespace == from) && grant.spec.to.iter().any(target)
            })
    }

    /// The labels of a namespace.
    pub fn labels(&self, namespace: &str) -> std::collections::BTreeMap<String, String> {
        self.namespaces.get(namespace).map(|one| one.metadata.labels.clone()).unwrap_or_default()
    }
}
