//! Which objects this control plane sees at all: those of the namespaces that `discoverySelectors` pick, and of its revision.
//!
//! What is not seen is withheld from the resolution, not forgotten: a namespace may be picked later.

use crate::{
    objects::{Objects, Table},
    resolve::{Kind, Resolver},
};
use api::{
    AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, LabelSelector, Namespace, ObjectMeta, ParseError,
    PeerAuthentication, Pod, Resource, Service, ServiceEntry, WorkloadEntry,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Label of an object, or of a tag's service, that names a revision.
const REVISION: &str = "istio.io/rev";
/// Label of a service that names a tag, which stands for the revision of the same service.
const TAG: &str = "istio.io/tag";

/// The resolver behind its filter.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "what is to be done with an object cannot be shown")]
pub struct Discovery {
    resolver: Resolver,
    withheld: Objects,
    /// Namespaces of which nothing is seen.
    hidden: BTreeSet<String>,
    selectors: Vec<LabelSelector>,
    revision: String,
    tags: BTreeSet<String>,
    /// Objects of hidden namespaces that cannot be read.
    unreadable: BTreeMap<Key, Reject>,
}

/// Kind, namespace and name.
type Key = (&'static str, String, String);
/// Tells the resolver of an object that cannot be read.
type Reject = Box<dyn FnOnce(&mut Resolver) + Send>;

/// Does something with the table of each kind that lives in namespaces.
macro_rules! each_table {
    ($($field:ident: $kind:ty),* $(,)?) => {
        /// Every object of a namespace, seen or not, is looked at again.
        fn review(&mut self, namespace: &str) {
            $({
                let seen = self.resolver.view().objects.$field.in_namespace(namespace);
                let withheld = self.withheld.$field.in_namespace(namespace);
                let objects: Vec<Arc<$kind>> = seen.chain(withheld).cloned().collect();
                objects.into_iter().for_each(|object| self.place(object));
            })*
        }

        /// Every namespace of which there is an object.
        fn namespaces(&self) -> BTreeSet<String> {
            fn of<T: Resource>(table: &Table<T>) -> impl Iterator<Item = String> {
                table.iter().map(|object| object.namespace().to_owned())
            }
            let seen = self.resolver.view().objects;
            let mut names = BTreeSet::new();
            $(names.extend(of(&seen.$field).chain(of(&self.withheld.$field)));)*
            names.extend(self.unreadable.keys().map(|(_, namespace, _)| namespace.clone()));
            names
        }
    };
}

impl Discovery {
    /// Sees everything of its revision.
    pub fn new(resolver: Resolver, revision: &str) -> Self {
        Self { resolver, revision: revision.to_owned(), ..Self::default() }
    }

    /// What is seen.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// What is seen, to be resolved.
    pub fn resolver_mut(&mut self) -> &mut Resolver {
        &mut self.resolver
    }

    /// Takes a new or changed object.
    pub fn set<T: Kind>(&mut self, object: Arc<T>) {
        let name = object.name().to_owned();
        self.unreadable.remove(&(T::KIND, object.namespace().to_owned(), name.clone()));
        let tags = T::KIND == Service::KIND && self.is_root(object.namespace());
        self.place(object);
        if T::KIND == Namespace::KIND {
            self.namespace_changed(&name);
        }
        if tags {
            self.read_tags();
        }
    }

    /// Takes an object that does not have its kind's shape.
    pub fn reject<T: Kind>(&mut self, namespace: &str, name: &str, error: ParseError, value: &Value) {
        if self.is_selected(namespace) {
            self.resolver.reject::<T>(namespace, name, error, value);
            return;
        }
        self.hidden.insert(namespace.to_owned());
        let key = (T::KIND, namespace.to_owned(), name.to_owned());
        let (value, object) = (value.clone(), (namespace.to_owned(), name.to_owned()));
        let later = move |resolver: &mut Resolver| resolver.reject::<T>(&object.0, &object.1, error, &value);
        self.unreadable.insert(key, Box::new(later));
    }

    /// Takes the removal of an object.
    pub fn remove<T: Kind>(&mut self, namespace: &str, name: &str) {
        self.unreadable.remove(&(T::KIND, namespace.to_owned(), name.to_owned()));
        T::table(&mut self.withheld).remove(namespace, name);
        self.resolver.remove::<T>(namespace, name);
        if T::KIND == Namespace::KIND {
            self.namespace_changed(name);
        }
        if T::KIND == Service::KIND && self.is_root(namespace) {
            self.read_tags();
        }
    }

    /// Sees only namespaces that one of these selectors picks, and the root namespace; without any selector, all.
    pub fn select(&mut self, selectors: Vec<LabelSelector>) {
        if self.selectors == selectors {
            return;
        }
        self.selectors = selectors;
        for namespace in self.namespaces() {
            self.namespace_changed(&namespace);
        }
    }

    fn is_root(&self, namespace: &str) -> bool {
        namespace == self.resolver.view().mesh.root_namespace
    }

    fn place<T: Kind>(&mut self, object: Arc<T>) {
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        let is_selected = self.is_selected(&namespace);
        if !is_selected {
            self.hidden.insert(namespace.clone());
        }
        if is_selected && self.is_of_revision::<T>(object.metadata()) {
            T::table(&mut self.withheld).remove(&namespace, &name);
            self.resolver.set(object);
        } else {
            self.resolver.remove::<T>(&namespace, &name);
            T::table(&mut self.withheld).insert(object);
        }
    }

    fn is_selected(&self, namespace: &str) -> bool {
        // The root namespace holds policies for the whole mesh: not to see them would be to let everybody in.
        if self.selectors.is_empty() || namespace.is_empty() || self.is_root(namespace) {
            return true;
        }
        let labels = self.resolver.view().objects.namespace_labels(namespace);
        self.selectors.iter().any(|selector| selector.matches(labels))
    }

    fn namespace_changed(&mut self, namespace: &str) {
        let is_hidden = !self.is_selected(namespace);
        if is_hidden != self.hidden.contains(namespace) {
            if is_hidden {
                self.hidden.insert(namespace.to_owned());
            } else {
                self.hidden.remove(namespace);
            }
            self.review(namespace);
        }
        if !is_hidden {
            let shown: Vec<Key> = self.unreadable.keys().filter(|key| key.1 == namespace).cloned().collect();
            for key in shown {
                if let Some(reject) = self.unreadable.remove(&key) {
                    reject(&mut self.resolver);
                }
            }
        }
    }

    /// Only the mesh's own kinds belong to revisions, and only those that say so.
    fn is_of_revision<T: Kind>(&self, metadata: &ObjectMeta) -> bool {
        let belongs = T::GROUP.ends_with("istio.io") || T::GROUP == Gateway::GROUP && T::KIND != GatewayClass::KIND;
        let said = metadata.label(REVISION).filter(|said| belongs && !said.is_empty());
        said.is_none_or(|said| said == self.revision || self.tags.contains(said))
    }

    /// Tags that stand for this revision: services in the root namespace that name both.
    fn read_tags(&mut self) {
        let view = self.resolver.view();
        let services = view.objects.services.in_namespace(&view.mesh.root_namespace);
        let own = services.filter(|service| service.metadata.label(REVISION) == Some(&self.revision));
        let tags: BTreeSet<String> = own.filter_map(|service| service.metadata.label(TAG)).map(str::to_owned).collect();
        if tags != self.tags {
            self.tags = tags;
            for namespace in self.namespaces() {
                self.review(&namespace);
            }
        }
    }

    each_table! {
        pods: Pod,
        services: Service,
        slices: EndpointSlice,
        service_entries: ServiceEntry,
        workload_entries: WorkloadEntry,
        policies: AuthorizationPolicy,
        peer_authentications: PeerAuthentication,
        gateways: Gateway,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Mesh;
    use serde_json::json;

    fn set<T: Kind>(discovery: &mut Discovery, namespace: &str, name: &str, labels: Value) {
        let value = json!({"metadata": {"namespace": namespace, "name": name, "labels": labels}});
        discovery.set(Arc::new(T::from_value(value).unwrap()));
    }

    fn policies(discovery: &Discovery) -> Vec<String> {
        let policies = discovery.resolver().view().objects.policies.iter();
        let mut names: Vec<_> = policies.map(|policy| format!("{}/{}", policy.namespace(), policy.name())).collect();
        names.sort();
        names
    }

    fn selectors(label: &str) -> Vec<LabelSelector> {
        vec![LabelSelector { match_labels: [(label.to_owned(), "yes".to_owned())].into(), ..LabelSelector::default() }]
    }

    #[test]
    fn only_selected_namespaces_are_seen_whatever_comes_first() {
        let mut discovery = Discovery::new(Resolver::new(Mesh::default()), "default");
        discovery.select(selectors("mesh"));
        for namespace in ["a", "b", "istio-system"] {
            set::<AuthorizationPolicy>(&mut discovery, namespace, "p", json!({}));
        }
        assert_eq!(policies(&discovery), ["istio-system/p"], "namespaces that are not known are not selected");
        set::<Namespace>(&mut discovery, "", "a", json!({"mesh": "yes"}));
        set::<Namespace>(&mut discovery, "", "b", json!({}));
        assert_eq!(policies(&discovery), ["a/p", "istio-system/p"]);
        set::<Namespace>(&mut discovery, "", "b", json!({"mesh": "yes"}));
        set::<Namespace>(&mut discovery, "", "a", json!({}));
        assert_eq!(policies(&discovery), ["b/p", "istio-system/p"]);
        discovery.select(Vec::new());
        assert_eq!(policies(&discovery), ["a/p", "b/p", "istio-system/p"]);
        discovery.select(selectors("other"));
        assert_eq!(policies(&discovery), ["istio-system/p"]);
        discovery.remove::<AuthorizationPolicy>("a", "p");
        discovery.select(Vec::new());
        assert_eq!(policies(&discovery), ["b/p", "istio-system/p"]);
    }

    #[test]
    fn a_policy_that_cannot_be_read_acts_as_soon_as_its_namespace_is_seen() {
        let mut discovery = Discovery::new(Resolver::new(Mesh::default()), "default");
        discovery.select(selectors("mesh"));
        let value = json!({"metadata": {"namespace": "a", "name": "p"}, "spec": {"action": "DENY", "rules": 3}});
        let error = AuthorizationPolicy::from_value(value.clone()).unwrap_err();
        discovery.reject::<AuthorizationPolicy>("a", "p", error, &value);
        assert_eq!(policies(&discovery), [""; 0]);
        set::<Namespace>(&mut discovery, "", "a", json!({"mesh": "yes"}));
        assert_eq!(policies(&discovery), ["a/p"], "what can be salvaged of it keeps out");
    }

    #[test]
    fn objects_of_other_revisions_are_not_seen_until_a_tag_says_so() {
        let mut discovery = Discovery::new(Resolver::new(Mesh::default()), "blue");
        set::<AuthorizationPolicy>(&mut discovery, "a", "all", json!({}));
        set::<AuthorizationPolicy>(&mut discovery, "a", "own", json!({"istio.io/rev": "blue"}));
        set::<AuthorizationPolicy>(&mut discovery, "a", "other", json!({"istio.io/rev": "green"}));
        set::<AuthorizationPolicy>(&mut discovery, "a", "tagged", json!({"istio.io/rev": "prod"}));
        // A pod's revision is not a reason not to see it.
        set::<Pod>(&mut discovery, "a", "pod", json!({"istio.io/rev": "green"}));
        assert_eq!(policies(&discovery), ["a/all", "a/own"]);
        assert_eq!(discovery.resolver().view().objects.pods.len(), 1);
        set::<Service>(&mut discovery, "istio-system", "tag", json!({"istio.io/tag": "prod", "istio.io/rev": "blue"}));
        assert_eq!(policies(&discovery), ["a/all", "a/own", "a/tagged"]);
        set::<Service>(&mut discovery, "istio-system", "tag", json!({"istio.io/tag": "prod", "istio.io/rev": "green"}));
        assert_eq!(policies(&discovery), ["a/all", "a/own"]);
        // An object that changes its revision is taken away.
        set::<AuthorizationPolicy>(&mut discovery, "a", "own", json!({"istio.io/rev": "green"}));
        assert_eq!(policies(&discovery), ["a/all"]);
    }
}
