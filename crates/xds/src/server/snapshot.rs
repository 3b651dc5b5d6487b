//! Everything a control plane has to say at one moment, cheap to change a little.
//!
//! A [`Collection`] keeps the resources of one type in shards, so that an update copies a few shards' pointers, and
//! remembers which names the last update touched, so that a session that is up to date looks at those only.

use model::Str;
use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

const SHARDS: usize = 128;

/// One resource, encoded once for all proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Str,
    /// Hash of its bytes: equal versions are equal resources.
    pub version: u64,
    /// The encoded message, without its type URL.
    pub body: Vec<u8>,
    /// Other names it may be asked for by, such as `<network>/<ip>`.
    pub aliases: Vec<Str>,
    /// Names of services that it is an endpoint of: who asks for one of those is given this too.
    pub backs: Vec<Str>,
    /// Node it runs on: that node's proxy is always given it.
    pub node: Option<Str>,
}

impl Resource {
    /// A resource that nothing else leads to.
    pub fn new(name: impl Into<Str>, body: Vec<u8>) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        // Zero is what a session remembers of a version that it could not read.
        let version = hasher.finish().max(1);
        Self { name: name.into(), version, body, aliases: Vec::new(), backs: Vec::new(), node: None }
    }
}

/// All resources of one type.
#[derive(Debug, Clone)]
pub struct Collection {
    revision: u64,
    /// What the step from the previous revision touched.
    changed: Arc<[Str]>,
    shards: Vec<Arc<HashMap<Str, Arc<Resource>>>>,
    aliases: Arc<HashMap<Str, BTreeSet<Str>>>,
    /// Service name or `node:<name>` → names of the resources that go with it.
    followers: Arc<HashMap<Str, BTreeSet<Str>>>,
}

impl Default for Collection {
    fn default() -> Self {
        Self {
            revision: 0,
            changed: Arc::from([]),
            shards: vec![Arc::default(); SHARDS],
            aliases: Arc::default(),
            followers: Arc::default(),
        }
    }
}

fn shard_of(name: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}

fn node_key(node: &str) -> Str {
    format!("node:{node}").into()
}

impl Collection {
    /// The collection after some changes; `None` removes. Changes that change nothing leave the revision alone.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (Str, Option<Resource>)>) -> Self {
        let mut next = self.clone();
        let mut changed = Vec::new();
        for (name, resource) in changes {
            let shard = shard_of(&name);
            let old = next.shards[shard].get(&name).cloned();
            if old.as_deref() == resource.as_ref() {
                continue;
            }
            if let Some(old) = &old {
                next.unindex(old);
            }
            let entries = Arc::make_mut(&mut next.shards[shard]);
            match resource {
                Some(resource) => {
                    let resource = Arc::new(resource);
                    entries.insert(name.clone(), Arc::clone(&resource));
                    next.index(&resource);
                }
                None => {
                    entries.remove(&name);
                }
            }
            changed.push(name);
        }
        if !changed.is_empty() {
            next.revision += 1;
            next.changed = changed.into();
        }
        next
    }

    fn index(&mut self, resource: &Resource) {
        if !resource.aliases.is_empty() {
            let aliases = Arc::make_mut(&mut self.aliases);
            for alias in &resource.aliases {
                aliases.entry(alias.clone()).or_default().insert(resource.name.clone());
            }
        }
        let node = resource.node.as_deref().map(node_key);
        if node.is_some() || !resource.backs.is_empty() {
            let followers = Arc::make_mut(&mut self.followers);
            for key in resource.backs.iter().cloned().chain(node) {
                followers.entry(key).or_default().insert(resource.name.clone());
            }
        }
    }

    fn unindex(&mut self, resource: &Resource) {
        let node = resource.node.as_deref().map(node_key);
        for alias in &resource.aliases {
            forget(Arc::make_mut(&mut self.aliases), alias, &resource.name);
        }
        for key in resource.backs.iter().cloned().chain(node) {
            forget(Arc::make_mut(&mut self.followers), &key, &resource.name);
        }
    }

    /// Counts the updates that changed something.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What the step from the previous revision to this one touched.
    pub fn changed(&self) -> &[Str] {
        &self.changed
    }

    /// A resource by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.shards[shard_of(name)].get(name)
    }

    /// Names of the resources that an alias stands for.
    pub fn by_alias(&self, alias: &str) -> impl Iterator<Item = &Str> {
        self.aliases.get(alias).into_iter().flatten()
    }

    /// Names of the endpoints of a service.
    pub fn endpoints(&self, service: &str) -> impl Iterator<Item = &Str> {
        self.followers.get(service).into_iter().flatten()
    }

    /// Names of what runs on a node.
    pub fn on_node(&self, node: &str) -> impl Iterator<Item = &Str> {
        self.followers.get(&node_key(node)).into_iter().flatten()
    }

    /// Every resource, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn forget(index: &mut HashMap<Str, BTreeSet<Str>>, key: &str, name: &str) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

/// Everything there is to say, by type. Types are pushed in the order in which they stand here.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    types: Vec<(&'static str, Collection)>,
}

impl Snapshot {
    /// A snapshot of these types.
    pub fn new(types: impl IntoIterator<Item = (&'static str, Collection)>) -> Self {
        Self { types: types.into_iter().collect() }
    }

    /// The resources of a type, if it is served at all.
    pub fn get(&self, type_url: &str) -> Option<&Collection> {
        self.types.iter().find(|(known, _)| *known == type_url).map(|(_, collection)| collection)
    }

    /// The types in push order.
    pub fn types(&self) -> impl Iterator<Item = (&'static str, &Collection)> {
        self.types.iter().map(|(type_url, collection)| (*type_url, collection))
    }

    /// Grows with every change of any type.
    pub fn revision(&self) -> u64 {
        self.types.iter().map(|(_, collection)| collection.revision).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_changes_nothing_keeps_the_revision() {
        let resource = Resource::new("a", vec![1]);
        let first = Collection::default().with([("a".into(), Some(resource.clone()))]);
        assert_eq!(first.revision(), 1);
        let second = first.with([("a".into(), Some(resource)), ("b".into(), None)]);
        assert_eq!(second.revision(), 1);
        let third = second.with([("a".into(), Some(Resource::new("a", vec![2])))]);
        assert_eq!((third.revision(), third.changed()), (2, &[Str::from("a")][..]));
    }

    #[test]
    fn indexes_follow_the_resources() {
        let mut pod = Resource::new("pod", vec![1]);
        pod.aliases = vec!["/10.0.0.1".into()];
        pod.backs = vec!["shop/web".into()];
        pod.node = Some("n1".into());
        let with = Collection::default().with([("pod".into(), Some(pod.clone()))]);
        assert_eq!(with.by_alias("/10.0.0.1").count(), 1);
        assert_eq!(with.endpoints("shop/web").count(), 1);
        assert_eq!(with.on_node("n1").count(), 1);
        pod.backs.clear();
        let moved = with.with([("pod".into(), Some(Resource { node: Some("n2".into()), ..pod }))]);
        assert_eq!((moved.endpoints("shop/web").count(), moved.on_node("n1").count()), (0, 0));
        let without = moved.with([("pod".into(), None)]);
        assert!(without.is_empty());
        assert_eq!((without.by_alias("/10.0.0.1").count(), without.on_node("n2").count()), (0, 0));
    }
}
