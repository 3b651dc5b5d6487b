//! From one snapshot to the next: every index follows each change, nothing is rebuilt.

use super::{List, Mesh, rank, shards::Sharded};
use crate::{Authorization, Cidr, NamespacedHostname, NetworkMode, PolicyScope, Service, Str, Workload};
use std::{cmp::Ordering, hash::Hash, sync::Arc};

/// One change of a resource.
#[derive(Debug, Clone)]
pub enum Change {
    /// A workload, new or instead of the one with its uid.
    Workload(Arc<Workload>),
    /// A service, new or instead of the one with its key.
    Service(Arc<Service>),
    /// A workload or service is gone: the name is a workload's uid or else a service's key.
    RemoveAddress(Str),
    /// A policy, new or instead of the one with its key.
    Policy(Arc<Authorization>),
    /// The policy with this key is gone.
    RemovePolicy(Str),
}

impl Mesh {
    /// The snapshot after these changes, in their order.
    #[must_use]
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut next = self.clone();
        for change in changes {
            match change {
                Change::Workload(workload) => next.put_workload(workload),
                Change::Service(service) => next.put_service(service),
                Change::RemoveAddress(name) => next.remove_address(&name),
                Change::Policy(policy) => next.put_policy(policy),
                Change::RemovePolicy(key) => next.remove_policy(&key),
            }
        }
        next
    }

    fn remove_address(&mut self, name: &str) {
        if self.workloads.get(name).is_some() {
            self.remove_workload(name);
        } else if let Ok(key) = name.parse() {
            self.remove_service(&key);
        }
    }

    fn put_workload(&mut self, workload: Arc<Workload>) {
        if self.workloads.get(&*workload.uid).is_some_and(|held| *held == workload) {
            return;
        }
        self.remove_workload(&workload.uid);
        if workload.network_mode == NetworkMode::Standard {
            for address in workload.network_addresses() {
                put(&mut self.workloads_by_address, address, &workload, rank::workloads_at_one_address);
            }
        }
        if !workload.hostname.is_empty() {
            put(&mut self.workloads_by_hostname, workload.hostname.clone(), &workload, rank::workloads);
        }
        if !workload.node.is_empty() {
            put(&mut self.workloads_by_node, workload.node.clone(), &workload, rank::workloads);
        }
        for service in workload.services.keys() {
            put(&mut self.members, service.clone(), &workload, rank::workloads);
        }
        self.workloads.insert(workload.uid.clone(), workload);
    }

    fn remove_workload(&mut self, uid: &str) {
        let Some(workload) = self.workloads.remove(uid) else { return };
        for address in workload.network_addresses() {
            take(&mut self.workloads_by_address, &address, &workload);
        }
        take(&mut self.workloads_by_hostname, &workload.hostname, &workload);
        take(&mut self.workloads_by_node, &workload.node, &workload);
        for service in workload.services.keys() {
            take(&mut self.members, service, &workload);
        }
    }

    fn put_service(&mut self, service: Arc<Service>) {
        let key = service.key();
        if self.services.get(&key).is_some_and(|held| *held == service) {
            return;
        }
        self.remove_service(&key);
        for vip in &service.vips {
            put(&mut self.services_by_vip, vip.clone(), &service, rank::services);
        }
        put(&mut self.services_by_hostname, service.hostname.clone(), &service, rank::services);
        if !service.cidr_vips.is_empty() {
            let ranges = Arc::make_mut(&mut self.cidrs);
            ranges.extend(service.cidr_vips.iter().map(|range| (range.clone(), service.clone())));
            ranges.sort_by(|(_, a), (_, b)| rank::services(a, b));
        }
        self.services.insert(key, service);
    }

    fn remove_service(&mut self, key: &NamespacedHostname) {
        let Some(service) = self.services.remove(key) else { return };
        for vip in &service.vips {
            take(&mut self.services_by_vip, vip, &service);
        }
        take(&mut self.services_by_hostname, &service.hostname, &service);
        if !service.cidr_vips.is_empty() {
            Arc::make_mut(&mut self.cidrs).retain(|(_, holder): &(Cidr, _)| !Arc::ptr_eq(holder, &service));
        }
    }

    fn put_policy(&mut self, policy: Arc<Authorization>) {
        let key = policy.key();
        self.remove_policy(&key);
        match policy.scope {
            PolicyScope::Global => add(&mut self.policies_everywhere, &policy, by_key),
            PolicyScope::Namespace => {
                put(&mut self.policies_by_namespace, policy.namespace.clone(), &policy, by_key);
            }
            PolicyScope::WorkloadSelector => {}
        }
        self.policies.insert(key, policy);
    }

    fn remove_policy(&mut self, key: &str) {
        let Some(policy) = self.policies.remove(key) else { return };
        match policy.scope {
            PolicyScope::Global => drop_from(&mut self.policies_everywhere, &policy),
            PolicyScope::Namespace => take(&mut self.policies_by_namespace, &policy.namespace, &policy),
            PolicyScope::WorkloadSelector => {}
        }
    }
}

fn by_key(a: &Authorization, b: &Authorization) -> Ordering {
    (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name))
}

/// Adds an item to the list of a key.
fn put<K: Hash + Eq + Clone, T>(index: &mut Sharded<K, List<T>>, key: K, item: &Arc<T>, order: fn(&T, &T) -> Ordering) {
    add(index.slot(key, List::default), item, order);
}

/// Adds an item at its place, once.
fn add<T>(list: &mut List<T>, item: &Arc<T>, order: fn(&T, &T) -> Ordering) {
    if let Err(place) = list.binary_search_by(|held| order(held, item)) {
        Arc::make_mut(list).insert(place, item.clone());
    }
}

/// Takes an item out of the list of a key, and the list with it when it was the last.
fn take<K: Hash + Eq + Clone, T>(index: &mut Sharded<K, List<T>>, key: &K, item: &Arc<T>) {
    let Some(list) = index.get(key) else { return };
    match list.as_slice() {
        [only] if Arc::ptr_eq(only, item) => drop(index.remove(key)),
        held if held.iter().any(|other| Arc::ptr_eq(other, item)) => {
            drop_from(index.slot(key.clone(), List::default), item);
        }
        _ => {}
    }
}

fn drop_from<T>(list: &mut List<T>, item: &Arc<T>) {
    Arc::make_mut(list).retain(|held| !Arc::ptr_eq(held, item));
}
