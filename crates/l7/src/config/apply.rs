//! From one snapshot to the next.

use super::{BadResource, Config, Parent, ServiceRoutes, target};
use crate::{authz::Policy, destination::Destination, route};
use model::Str;
use proto::l7::{Resource, resource::Kind};
use std::{collections::HashSet, sync::Arc};

/// One change of one resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Set or replace it.
    Set(Str, Box<Resource>),
    /// Remove it.
    Remove(Str),
}

/// A resource that was not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub name: Str,
    /// Why.
    pub why: BadResource,
}

impl Config {
    /// The next snapshot, and what was refused on the way.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> (Self, Vec<Refused>) {
        let mut next = self.clone();
        let mut stale = HashSet::new();
        let mut refused = Vec::new();
        for change in changes {
            match change {
                Change::Set(name, resource) => {
                    if let Err(why) = next.set(name.clone(), &resource, &mut stale) {
                        refused.push(Refused { name, why });
                    }
                }
                Change::Remove(name) => {
                    next.detach(&name, &mut stale);
                    next.policies.remove(&name);
                    next.forget_destination(&name);
                }
            }
        }
        stale.into_iter().for_each(|parent| next.rebuild(parent));
        (next, refused)
    }

    fn set(&mut self, name: Str, resource: &Resource, stale: &mut HashSet<Parent>) -> Result<(), BadResource> {
        match resource.kind.as_ref().ok_or_else(|| BadResource::new("a resource of an unknown kind"))? {
            Kind::Route(wire) => {
                let route = Arc::new(route::Route::new(wire)?);
                self.detach(&name, stale);
                for parent in route.parents.iter().filter_map(target::parent) {
                    let names = self.attached.entry(parent.clone()).or_default();
                    if !names.contains(&name) {
                        names.push(name.clone());
                    }
                    stale.insert(parent);
                }
                self.routes.insert(name, route);
            }
            Kind::Policy(wire) => {
                self.policies.insert(name, Arc::new(Policy::new(wire)));
            }
            Kind::Authentication(_) => return Err(BadResource::new("authentications are not supported yet")),
            Kind::Destination(wire) => {
                let destination = Arc::new(Destination::new(wire)?);
                self.forget_destination(&name);
                self.by_service.insert(destination.service.clone(), destination.clone());
                self.destinations.insert(name, destination);
            }
        }
        Ok(())
    }

    fn detach(&mut self, name: &Str, stale: &mut HashSet<Parent>) {
        let Some(old) = self.routes.remove(name) else { return };
        for parent in old.parents.iter().filter_map(target::parent) {
            if let Some(names) = self.attached.get_mut(&parent) {
                names.retain(|other| other != name);
            }
            stale.insert(parent);
        }
    }

    /// Another rule for the same host takes over, if there is one.
    fn forget_destination(&mut self, name: &Str) {
        let Some(old) = self.destinations.remove(name) else { return };
        self.by_service.remove(&old.service);
        let mut others: Vec<_> = self.destinations.iter().filter(|(_, other)| other.service == old.service).collect();
        others.sort_by_key(|(name, _)| *name);
        if let Some((_, other)) = others.first() {
            self.by_service.insert(old.service.clone(), Arc::clone(other));
        }
    }

    fn rebuild(&mut self, parent: Parent) {
        let names = self.attached.get(&parent).filter(|names| !names.is_empty());
        let Some(names) = names else {
            self.attached.remove(&parent);
            match parent {
                Parent::Service(service) => drop(self.services.remove(&service)),
                Parent::Gateway(gateway) => drop(self.gateways.remove(&gateway)),
            }
            return;
        };
        let routes: Vec<_> = names.iter().filter_map(|name| self.routes.get(name)).cloned().collect();
        // A route may name one parent several times, with another port each.
        let attached = |keep: &dyn Fn(&route::Route) -> bool| -> Vec<(&route::Route, Option<u16>)> {
            let kept = routes.iter().filter(|route| keep(route));
            kept.flat_map(|route| {
                let here = route.parents.iter().filter(|wire| target::parent(wire).as_ref() == Some(&parent));
                here.map(|wire| (&**route, u16::try_from(wire.port).ok().filter(|port| *port != 0)))
            })
            .collect()
        };
        match &parent {
            Parent::Service(service) => {
                let home = &service.namespace;
                let foreign: HashSet<Str> = routes.iter().map(|route| route.origin.namespace.clone()).collect();
                let consumers = foreign.into_iter().filter(|namespace| namespace != home).map(|namespace| {
                    let table = route::table(attached(&|route| route.origin.namespace == namespace), None);
                    (namespace, table)
                });
                let consumers = consumers.collect();
                let producer = route::table(attached(&|route| route.origin.namespace == *home), None);
                self.services.insert(service.clone(), Arc::new(ServiceRoutes { producer, consumers }));
            }
            Parent::Gateway(gateway) => {
                let table = route::table(attached(&|_| true), Some("*"));
                self.gateways.insert(gateway.clone(), Arc::new(table));
            }
        }
    }
}
