//! The cluster's objects that the mesh is made of, as the watches last saw them.
//!
//! Tables of shared immutable objects by namespace and name; what they mean is `resolve`'s business.

use crate::resolve::{Unreadable, UnreadableObjects};
use api::{
    AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, Namespace, Node, PeerAuthentication, Pod, Resource,
    Service, ServiceEntry, WorkloadEntry,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Objects of one kind.
#[derive(Debug, Clone)]
pub struct Table<T> {
    by_namespace: HashMap<String, BTreeMap<String, Arc<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_namespace: HashMap::new() }
    }
}

impl<T: Resource> Table<T> {
    /// Sets an object; the one that it replaces.
    pub fn insert(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        let metadata = object.metadata();
        self.by_namespace.entry(metadata.namespace.clone()).or_default().insert(metadata.name.clone(), object)
    }

    /// Removes an object.
    pub fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let objects = self.by_namespace.get_mut(namespace)?;
        let removed = objects.remove(name);
        if objects.is_empty() {
            self.by_namespace.remove(namespace);
        }
        removed
    }

    /// An object by its name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.by_namespace.get(namespace)?.get(name)
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> + use<'_, T> {
        self.by_namespace.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_namespace.values().flat_map(BTreeMap::values)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_namespace.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_namespace.is_empty()
    }
}

/// Every object that the mesh is made of.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "one table per kind, named after it")]
pub struct Objects {
    pub namespaces: Table<Namespace>,
    pub nodes: Table<Node>,
    pub pods: Table<Pod>,
    pub services: Table<Service>,
    pub slices: Table<EndpointSlice>,
    pub service_entries: Table<ServiceEntry>,
    pub workload_entries: Table<WorkloadEntry>,
    pub policies: Table<AuthorizationPolicy>,
    pub peer_authentications: Table<PeerAuthentication>,
    pub gateways: Table<Gateway>,
    pub gateway_classes: Table<GatewayClass>,
    pub unreadable: UnreadableObjects,
}

impl Objects {
    /// What is wrong with an object, if it cannot be read.
    pub fn unreadable<T: Resource>(&self, namespace: &str, name: &str) -> Option<&Unreadable> {
        self.unreadable.get(T::KIND, namespace, name)
    }

    /// A namespace's labels; none for a namespace that is not known.
    pub fn namespace_labels(&self, namespace: &str) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.namespaces.get("", namespace).map_or(&NONE, |namespace| &namespace.metadata.labels)
    }
}
