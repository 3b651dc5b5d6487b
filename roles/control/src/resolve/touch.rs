//! What a change can have touched: from one changed object to the resources that must be resolved again.
//!
//! Too much is slow, too little is wrong: whenever a resolution starts to read another object, it must be said here.

mod kinds;

use super::{View, view::HostOwner};
use crate::{
    objects::{Objects, Table},
    settings::Mesh,
};
use api::{Condition, ObjectMeta, Resource, Service, ServiceEntry, salvage::Salvaged};
use kinds::{add_policies_with_target, touch_selected, touch_slice};
use model::Str;
use std::collections::{BTreeMap, BTreeSet};

/// An object that resources come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "namespace and name of an object of that kind")]
pub enum Source {
    Pod(String, String),
    Service(String, String),
    Slice(String, String),
    ServiceEntry(String, String),
    WorkloadEntry(String, String),
    Policy(String, String),
    PeerAuthentication(String, String),
    /// The policy that denies all plaintext.
    StaticStrict,
    /// A gateway as the way into another network.
    NetworkGateway(String, String),
    /// A gateway as the only one who is let in to what it stands in front of.
    WaypointOnly(String, String),
    /// No resource: whether an object, after its kind, can be read.
    Shape(&'static str, String, String),
}

impl Source {
    /// The name of the only resource that can come from the source, and from no other source. Most sources are pods,
    /// and books about what each brought would be as large as the pods.
    pub(super) fn own_name(&self, mesh: &Mesh) -> Option<Str> {
        match self {
            Self::Pod(namespace, name) => Some(format!("{}//Pod/{namespace}/{name}", mesh.cluster_id).into()),
            _ => None,
        }
    }
}

/// Sources that must be resolved again.
#[derive(Debug, Clone, Default)]
pub struct Dirty(pub(super) BTreeSet<Source>);

type Constructor = fn(String, String) -> Source;

impl Dirty {
    fn add(&mut self, source: Constructor, metadata: &ObjectMeta) {
        self.0.insert(source(metadata.namespace.clone(), metadata.name.clone()));
    }

    fn add_host_owners(&mut self, hosts: &[String], view: View<'_>) {
        for owner in hosts.iter().flat_map(|host| view.hosts.owners(host)) {
            self.0.insert(match owner.clone() {
                HostOwner::Service { namespace, name } => Source::Service(namespace, name),
                HostOwner::ServiceEntry { namespace, name } => Source::ServiceEntry(namespace, name),
            });
        }
    }

    /// Everything whose metadata passes.
    fn add_where(&mut self, objects: &Objects, keep: impl Fn(&ObjectMeta) -> bool) {
        fn each<T: Resource>(
            table: &Table<T>,
            source: Constructor,
            keep: impl Fn(&ObjectMeta) -> bool,
            dirty: &mut Dirty,
        ) {
            for object in table.iter().filter(|object| keep(object.metadata())) {
                dirty.add(source, object.metadata());
            }
        }
        each(&objects.pods, Source::Pod, &keep, self);
        each(&objects.services, Source::Service, &keep, self);
        each(&objects.slices, Source::Slice, &keep, self);
        each(&objects.service_entries, Source::ServiceEntry, &keep, self);
        each(&objects.workload_entries, Source::WorkloadEntry, &keep, self);
    }

    fn add_namespace(&mut self, namespace: &str, objects: &Objects) {
        self.add_where(objects, |metadata| metadata.namespace == namespace);
    }

    /// Workloads of a namespace, or of all for the root namespace, whose labels pass.
    fn add_workloads(&mut self, namespace: &str, view: View<'_>, keep: impl Fn(&BTreeMap<String, String>) -> bool) {
        let everywhere = namespace == view.mesh.root_namespace;
        let near = |metadata: &ObjectMeta| everywhere || metadata.namespace == namespace;
        let objects = view.objects;
        for pod in objects.pods.iter().filter(|pod| near(&pod.metadata) && keep(&pod.metadata.labels)) {
            self.add(Source::Pod, &pod.metadata);
        }
        for entry in objects.workload_entries.iter().filter(|entry| near(&entry.metadata) && keep(&entry.spec.labels)) {
            self.add(Source::WorkloadEntry, &entry.metadata);
        }
        for entry in objects.service_entries.iter().filter(|entry| near(&entry.metadata)) {
            if entry.spec.endpoints.iter().any(|endpoint| keep(&endpoint.labels)) {
                self.add(Source::ServiceEntry, &entry.metadata);
            }
        }
    }
}

/// A kind of object that the mesh is made of.
pub trait Kind: Resource {
    /// Its table.
    fn table(objects: &mut Objects) -> &mut Table<Self>;

    /// What a change of one object touches; called with the object before and after it in the table.
    fn touch(old: Option<&Self>, new: Option<&Self>, view: View<'_>, dirty: &mut Dirty);

    /// What an object does while it cannot be read, if that is not what it did before.
    fn salvage(value: &serde_json::Value) -> Option<Salvaged<Self>> {
        let _ = value;
        None
    }

    /// Takes away what is not read here, from objects that are too many to be kept whole.
    fn trim(&mut self) {
        self.metadata_mut().managed_fields = Vec::new();
    }

    /// What the object's status says.
    fn conditions(&self) -> &[Condition] {
        &[]
    }

    /// Hosts that the object claims, and as what.
    fn claims(&self, view: View<'_>) -> Option<(Vec<String>, HostOwnerOf)> {
        let _ = view;
        None
    }
}

/// As what an object claims its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostOwnerOf {
    /// A Kubernetes service.
    Service,
    /// A service entry.
    ServiceEntry,
}

/// What follows from services that are out of date: what is said about policies that attach to them, and, where only
/// waypoints are let in, their workloads' policies.
pub(super) fn spread(dirty: &mut Dirty, view: View<'_>) {
    let services: Vec<Source> = dirty
        .0
        .iter()
        .filter(|source| matches!(source, Source::Service(..) | Source::ServiceEntry(..)))
        .cloned()
        .collect();
    for source in services {
        let hosts = match &source {
            Source::Service(namespace, name) => {
                add_policies_with_target(Service::KIND, namespace, name, view, dirty);
                view.objects.services.get(namespace, name).map(|service| vec![view.hostname(service)])
            }
            Source::ServiceEntry(namespace, name) => {
                add_policies_with_target(ServiceEntry::KIND, namespace, name, view, dirty);
                view.objects.service_entries.get(namespace, name).map(|entry| entry.spec.hosts.clone())
            }
            _ => None,
        };
        if view.mesh.auto_allow_waypoint {
            touch_behind(&hosts.unwrap_or_default(), view, dirty);
        }
    }
}

/// The workloads of everybody who claims some hosts: the waypoint of the one who counts stands in front of them all.
fn touch_behind(hosts: &[String], view: View<'_>, dirty: &mut Dirty) {
    dirty.add_host_owners(hosts, view);
    for owner in hosts.iter().flat_map(|host| view.hosts.owners(host)) {
        match owner {
            HostOwner::Service { namespace, name } => {
                let Some(service) = view.objects.services.get(namespace, name) else { continue };
                touch_selected(namespace, &service.spec.selector, view, dirty);
                view.slices_of(service).for_each(|slice| touch_slice(slice, view, dirty));
            }
            HostOwner::ServiceEntry { namespace, name } => {
                let entry = view.objects.service_entries.get(namespace, name);
                if let Some(selector) = entry.and_then(|entry| entry.spec.workload_selector.as_ref()) {
                    touch_selected(namespace, &selector.labels, view, dirty);
                }
            }
        }
    }
}
