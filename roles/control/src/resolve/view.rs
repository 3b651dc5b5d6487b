//! What a resource is resolved from: the objects, the settings, and the index of hostnames.

use super::service::visibility;
use crate::{objects::Objects, settings::Mesh};
use api::{ObjectMeta, Resource, Service, ServiceEntry};
use model::Str;
use proto::workload::Visibility;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};
use xds::server::Resource as XdsResource;

/// Who claims a hostname. Kubernetes services go before service entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HostOwner {
    Service { namespace: String, name: String },
    ServiceEntry { namespace: String, name: String },
}

impl HostOwner {
    fn namespace(&self) -> &str {
        match self {
            Self::Service { namespace, .. } | Self::ServiceEntry { namespace, .. } => namespace,
        }
    }
}

/// Hostname → everybody who claims it.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts(HashMap<String, BTreeSet<HostOwner>>);

impl Hosts {
    pub(super) fn claim(&mut self, host: &str, owner: HostOwner) {
        self.0.entry(host.to_owned()).or_default().insert(owner);
    }

    pub(super) fn release(&mut self, host: &str, owner: &HostOwner) {
        if let Some(owners) = self.0.get_mut(host) {
            owners.remove(owner);
            if owners.is_empty() {
                self.0.remove(host);
            }
        }
    }

    pub(super) fn owners(&self, host: &str) -> impl Iterator<Item = &HostOwner> {
        self.0.get(host).into_iter().flatten()
    }
}

/// Everything that a resource may be resolved from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The installation's choices.
    pub mesh: &'a Mesh,
    /// The cluster's objects.
    pub objects: &'a Objects,
    pub(super) hosts: &'a Hosts,
}

impl<'a> View<'a> {
    /// The network of this cluster: a label of the root namespace.
    pub fn network(&self) -> &'a str {
        let labels = self.objects.namespace_labels(&self.mesh.root_namespace);
        labels.get("topology.istio.io/network").map_or("", String::as_str)
    }

    /// The trust domain as it is sent: the default is left out.
    pub(super) fn trust_domain(&self) -> String {
        if self.mesh.trust_domain == model::well_known::DEFAULT_TRUST_DOMAIN {
            String::new()
        } else {
            self.mesh.trust_domain.clone()
        }
    }

    /// The hostname of a Kubernetes service.
    pub fn hostname(&self, service: &Service) -> String {
        format!("{}.{}.svc.{}", service.name(), service.namespace(), self.mesh.domain)
    }

    /// Metadata of the objects that services, by `<namespace>/<hostname>`, come from.
    pub(super) fn owners_of(
        self,
        services: &BTreeMap<String, proto::workload::PortList>,
    ) -> impl Iterator<Item = &'a ObjectMeta> {
        services.keys().filter_map(move |key| {
            let (namespace, host) = key.split_once('/')?;
            let owners = self.hosts.owners(host).filter(|owner| owner.namespace() == namespace);
            match owners.min_by(|a, b| self.rank(a).cmp(&self.rank(b)))? {
                HostOwner::Service { namespace, name } => {
                    self.objects.services.get(namespace, name).map(|service| &service.metadata)
                }
                HostOwner::ServiceEntry { namespace, name } => {
                    self.objects.service_entries.get(namespace, name).map(|entry| &entry.metadata)
                }
            }
        })
    }

    /// Services go first, then what is oldest, then what comes first by name.
    fn rank<'o>(&self, owner: &'o HostOwner) -> impl Ord + use<'o> {
        let created = match owner {
            HostOwner::Service { .. } => None,
            HostOwner::ServiceEntry { namespace, name } => {
                self.objects.service_entries.get(namespace, name).and_then(|entry| entry.metadata.creation_timestamp)
            }
        };
        (Reverse(matches!(owner, HostOwner::Service { .. })), created, owner)
    }

    /// Whether this entry's claim to a host counts in its namespace.
    pub(super) fn wins_in_namespace(&self, entry: &ServiceEntry, host: &str) -> bool {
        let owners = self.hosts.owners(host).filter(|owner| owner.namespace() == entry.namespace());
        owners.min_by(|a, b| self.rank(a).cmp(&self.rank(b))).is_none_or(|owner| is(owner, entry))
    }

    /// Whether this entry's claim to a host counts in the whole mesh.
    pub(super) fn is_canonical(&self, entry: &ServiceEntry, host: &str) -> bool {
        let owners = self.hosts.owners(host).filter(|owner| self.is_public(owner));
        owners.min_by(|a, b| self.rank(a).cmp(&self.rank(b))).is_some_and(|owner| is(owner, entry))
    }

    fn is_public(&self, owner: &HostOwner) -> bool {
        match owner {
            HostOwner::Service { .. } => true,
            HostOwner::ServiceEntry { namespace, name } => {
                let entry = self.objects.service_entries.get(namespace, name);
                entry.is_some_and(|entry| visibility(entry) == Some(Visibility::Public))
            }
        }
    }
}

fn is(owner: &HostOwner, entry: &ServiceEntry) -> bool {
    matches!(owner, HostOwner::ServiceEntry { namespace, name } if namespace == entry.namespace() && name == entry.name())
}

/// The bytes of an address.
pub(super) fn ip_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Whether a selector that is not empty selects these labels.
pub(super) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A workload as a resource to be served.
pub(super) fn workload_resource(workload: proto::workload::Workload) -> XdsResource {
    let aliases = if workload.network_mode == i32::from(proto::workload::NetworkMode::HostNetwork) {
        Vec::new()
    } else {
        workload.addresses.iter().filter_map(|bytes| alias(&workload.network, bytes, None)).collect()
    };
    let backs = workload.services.keys().map(|key| Str::from(key.as_str())).collect();
    let node = Some(workload.node.as_str()).filter(|node| !node.is_empty()).map(Str::from);
    let name = workload.uid.clone();
    let address = proto::workload::Address { r#type: Some(proto::workload::address::Type::Workload(workload)) };
    XdsResource { aliases, backs, node, ..XdsResource::new(name, prost::Message::encode_to_vec(&address)) }
}

/// A service as a resource to be served.
pub(super) fn service_resource(service: proto::workload::Service) -> XdsResource {
    let aliases = service.addresses.iter().filter_map(|vip| alias(&vip.network, &vip.address, vip.length)).collect();
    let name = format!("{}/{}", service.namespace, service.hostname);
    let address = proto::workload::Address { r#type: Some(proto::workload::address::Type::Service(service)) };
    XdsResource { aliases, ..XdsResource::new(name, prost::Message::encode_to_vec(&address)) }
}

/// `<network>/<ip>`, with the prefix length of a range.
fn alias(network: &str, bytes: &[u8], length: Option<u32>) -> Option<Str> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(match length {
        Some(length) => format!("{network}/{address}/{length}").into(),
        None => format!("{network}/{address}").into(),
    })
}
