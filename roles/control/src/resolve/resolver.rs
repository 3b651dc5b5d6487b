//! The bookkeeping around the pure resolutions: takes changed objects, gives changed resources.

use super::{
    authorization, converted, entry, implicit, network, pod, service, slice, static_strict,
    touch::{Dirty, HostOwnerOf, Kind, Source, spread},
    unreadable::{Effect, Unreadable},
    verdict::{Statement, statements},
    view::{HostOwner, Hosts, View, service_resource, workload_resource},
};
use crate::{objects::Objects, settings::Mesh};
use api::{ParseError, salvage::Salvaged};
use model::{Authorization, Str};
use prost::Message;
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};
use xds::{server::Resource as XdsResource, wds};

/// Changed resources by name; `None` for those that are gone.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Workloads and services.
    pub addresses: HashMap<Str, Option<XdsResource>>,
    /// Policies.
    pub authorizations: HashMap<Str, Option<XdsResource>>,
    /// How many sources were resolved for it.
    pub resolved: usize,
    /// What is to be said about objects that may have changed.
    pub statements: Vec<Statement>,
}

/// The objects, and which of their resources are out of date.
#[derive(Debug, Default)]
pub struct Resolver {
    mesh: Mesh,
    objects: Objects,
    hosts: Hosts,
    dirty: Dirty,
    /// Names of the resources that each source brought last time; not of sources that have a name of their own.
    brought: HashMap<Source, Vec<Str>>,
    /// Which source a name is from: two sources may want the same one for a moment, or for good.
    bringers: HashMap<Str, Vec<Source>>,
}

impl Resolver {
    /// A resolver that has seen nothing.
    pub fn new(mesh: Mesh) -> Self {
        Self { mesh, ..Self::default() }
    }

    /// What resources are resolved from.
    pub fn view(&self) -> View<'_> {
        View { mesh: &self.mesh, objects: &self.objects, hosts: &self.hosts }
    }

    /// Takes a new or changed object.
    pub fn set<T: Kind>(&mut self, object: Arc<T>) {
        if self.objects.unreadable.correct(&*object) {
            self.dirty.0.insert(Source::Shape(T::KIND, object.namespace().to_owned(), object.name().to_owned()));
        }
        self.put(object);
    }

    fn put<T: Kind>(&mut self, object: Arc<T>) {
        let old = T::table(&mut self.objects).insert(Arc::clone(&object));
        self.changed(old.as_deref(), Some(&*object));
    }

    /// Takes the removal of an object.
    pub fn remove<T: Kind>(&mut self, namespace: &str, name: &str) {
        if self.objects.unreadable.remove::<T>(namespace, name) {
            self.dirty.0.insert(Source::Shape(T::KIND, namespace.to_owned(), name.to_owned()));
        }
        if let Some(old) = T::table(&mut self.objects).remove(namespace, name) {
            self.changed(Some(&*old), None);
        }
    }

    /// Takes an object that does not have its kind's shape.
    pub fn reject<T: Kind>(&mut self, namespace: &str, name: &str, error: ParseError, value: &Value) {
        let salvaged = T::salvage(value);
        let effect = match &salvaged {
            None => Effect::AsBefore,
            Some(Salvaged { everybody: false, .. }) => Effect::Strict,
            Some(Salvaged { everybody: true, .. }) => Effect::StrictForAll,
        };
        self.objects.unreadable.insert::<T>(namespace, name, Unreadable::new(error, effect, value));
        self.dirty.0.insert(Source::Shape(T::KIND, namespace.to_owned(), name.to_owned()));
        if let Some(Salvaged { mut policy, .. }) = salvaged {
            let metadata = policy.metadata_mut();
            (metadata.namespace, metadata.name) = (namespace.to_owned(), name.to_owned());
            self.put(Arc::new(policy));
        }
    }

    fn changed<T: Kind>(&mut self, old: Option<&T>, new: Option<&T>) {
        let claims = |object: Option<&T>| object.and_then(|object| claims_of(object, self.view()));
        let (released, claimed) = (claims(old), claims(new));
        if let Some((hosts, owner)) = released {
            hosts.iter().for_each(|host| self.hosts.release(host, &owner));
        }
        if let Some((hosts, owner)) = claimed {
            hosts.iter().for_each(|host| self.hosts.claim(host, owner.clone()));
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        T::touch(old, new, self.view(), &mut dirty);
        self.dirty = dirty;
    }

    /// Whether anything is out of date.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.0.is_empty()
    }

    /// Resolves what is out of date.
    pub fn resolve(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut dirty = std::mem::take(&mut self.dirty);
        spread(&mut dirty, self.view());
        changes.resolved = dirty.0.len();
        for source in dirty.0 {
            let resources = self.resources_of(&source);
            changes.statements.extend(statements(&source, self.view()));
            let is_policy = matches!(
                source,
                Source::Policy(..) | Source::PeerAuthentication(..) | Source::StaticStrict | Source::WaypointOnly(..)
            );
            let side = if is_policy { &mut changes.authorizations } else { &mut changes.addresses };
            self.replace(source, resources, side);
        }
        changes
    }

    fn replace(
        &mut self,
        source: Source,
        resources: Vec<XdsResource>,
        changes: &mut HashMap<Str, Option<XdsResource>>,
    ) {
        if let Some(name) = source.own_name(&self.mesh) {
            // Nobody else brings a resource of this name. Removing one that is not there changes nothing.
            changes.insert(name, resources.into_iter().next());
            return;
        }
        let names: Vec<Str> = resources.iter().map(|resource| resource.name.clone()).collect();
        let before = self.brought.remove(&source).unwrap_or_default();
        for name in before.into_iter().filter(|name| !names.contains(name)) {
            let bringers = self.bringers.entry(name.clone()).or_default();
            bringers.retain(|other| *other != source);
            match bringers.first().cloned() {
                // Somebody else brings it as well, and was not asked again.
                Some(other) => {
                    let resource = self.resources_of(&other).into_iter().find(|resource| resource.name == name);
                    changes.insert(name, resource);
                }
                None => {
                    self.bringers.remove(&name);
                    changes.insert(name, None);
                }
            }
        }
        for resource in resources {
            let bringers = self.bringers.entry(resource.name.clone()).or_default();
            if !bringers.contains(&source) {
                bringers.push(source.clone());
            }
            changes.insert(resource.name.clone(), Some(resource));
        }
        if !names.is_empty() {
            self.brought.insert(source, names);
        }
    }

    fn resources_of(&self, source: &Source) -> Vec<XdsResource> {
        let (view, objects) = (self.view(), &self.objects);
        match source {
            Source::Pod(namespace, name) => {
                let workload = objects.pods.get(namespace, name).and_then(|pod| pod::workload(pod, view));
                workload.map(workload_resource).into_iter().collect()
            }
            Source::Service(namespace, name) => {
                let service = objects.services.get(namespace, name);
                service
                    .and_then(|service| service::kubernetes(service, view))
                    .map(service_resource)
                    .into_iter()
                    .collect()
            }
            Source::Slice(namespace, name) => {
                let slice = objects.slices.get(namespace, name);
                slice.map(|slice| slice::workloads(slice, view)).into_iter().flatten().map(workload_resource).collect()
            }
            Source::ServiceEntry(namespace, name) => {
                let Some(object) = objects.service_entries.get(namespace, name) else { return Vec::new() };
                let services = service::of_entry(object, view).into_iter().map(service_resource);
                services.chain(entry::of_service_entry(object, view).into_iter().map(workload_resource)).collect()
            }
            Source::WorkloadEntry(namespace, name) => {
                let object = objects.workload_entries.get(namespace, name);
                let workload = object.and_then(|object| entry::of_workload_entry(object, view));
                workload.map(workload_resource).into_iter().collect()
            }
            Source::Policy(namespace, name) => {
                let policy = objects.policies.get(namespace, name);
                let authorization = policy.and_then(|policy| authorization(policy, &self.mesh).0);
                authorization.map(policy_resource).into_iter().collect()
            }
            Source::PeerAuthentication(namespace, name) => {
                let policy = objects.peer_authentications.get(namespace, name);
                policy.and_then(|policy| converted(policy, view)).map(policy_resource).into_iter().collect()
            }
            Source::StaticStrict if objects.peer_authentications.is_empty() => Vec::new(),
            Source::StaticStrict => vec![policy_resource(static_strict(&self.mesh.root_namespace))],
            Source::NetworkGateway(namespace, name) => {
                let gateway = objects.gateways.get(namespace, name);
                let workload = gateway.and_then(|gateway| network::workload(gateway, view));
                workload.map(workload_resource).into_iter().collect()
            }
            Source::WaypointOnly(namespace, name) => {
                let gateway = objects.gateways.get(namespace, name);
                gateway.and_then(|gateway| implicit::policy(gateway, view)).map(policy_resource).into_iter().collect()
            }
            Source::Shape(..) => Vec::new(),
        }
    }
}

fn claims_of<T: Kind>(object: &T, view: View<'_>) -> Option<(Vec<String>, HostOwner)> {
    let (hosts, owner) = object.claims(view)?;
    let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
    let owner = match owner {
        HostOwnerOf::Service => HostOwner::Service { namespace, name },
        HostOwnerOf::ServiceEntry => HostOwner::ServiceEntry { namespace, name },
    };
    Some((hosts, owner))
}

fn policy_resource(policy: Authorization) -> XdsResource {
    XdsResource::new(policy.key(), wds::encode_authorization(&policy).encode_to_vec())
}
