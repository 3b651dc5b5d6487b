//! All resources of one type at one moment, cheap to change a little and to keep copies of.
//!
//! Resources and indexes are cut into shards, so that an update copies a few shards and the pointers to the rest; a log
//! remembers which names recent updates touched, so that a proxy that is up to date is told those only.

use super::{
    Resource,
    log::Log,
    names::{Names, SHARDS, shard_of},
};
use model::Str;
use std::{collections::HashMap, sync::Arc};

/// Names that the log keeps at least, whatever the size of the collection.
const LOGGED: usize = 16_384;

/// All resources of one type.
#[derive(Debug, Clone)]
pub struct Collection {
    revision: u64,
    len: usize,
    log: Log,
    shards: Vec<Arc<HashMap<Str, Arc<Resource>>>>,
    aliases: Names,
    /// Service name or `node:<name>` → names of the resources that go with it.
    followers: Names,
    /// Some resource is, or was, for one gateway alone.
    scoped: bool,
}

impl Default for Collection {
    fn default() -> Self {
        Self {
            revision: 0,
            len: 0,
            log: Log::default(),
            shards: vec![Arc::default(); SHARDS],
            aliases: Names::default(),
            followers: Names::default(),
            scoped: false,
        }
    }
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
            let had = usize::from(old.is_some());
            let has = usize::from(resource.is_some());
            next.len = next.len + has - had;
            changed.push(match resource {
                Some(mut resource) => {
                    // One copy of each name in memory.
                    if let Some(old) = &old {
                        resource.name = old.name.clone();
                    }
                    next.index(&mut resource);
                    next.scoped |= resource.gateway.is_some();
                    let name = resource.name.clone();
                    Arc::make_mut(&mut next.shards[shard]).insert(name.clone(), Arc::new(resource));
                    name
                }
                None => {
                    Arc::make_mut(&mut next.shards[shard]).remove(&name);
                    name
                }
            });
        }
        if !changed.is_empty() {
            next.revision += 1;
            next.log.push(next.revision, changed, LOGGED.max(next.len * 2));
        }
        next
    }

    fn index(&mut self, resource: &mut Resource) {
        resource.aliases.shrink_to_fit();
        for alias in &mut resource.aliases {
            *alias = self.aliases.insert(alias, &resource.name);
        }
        resource.backs.shrink_to_fit();
        for service in &mut resource.backs {
            *service = self.followers.insert(service, &resource.name);
        }
        if let Some(node) = &mut resource.node {
            let held = self.followers.insert(&node_key(node), &resource.name);
            // Thousands run on a node: they share its name with the first of them.
            let first = self.followers.get(&held).first().and_then(|name| self.get(name));
            // The first may be this very resource as it was, on another node.
            if let Some(shared) = first.and_then(|first| first.node.clone()).filter(|shared| *shared == *node) {
                *node = shared;
            }
        }
    }

    fn unindex(&mut self, resource: &Resource) {
        for alias in &resource.aliases {
            self.aliases.remove(alias, &resource.name);
        }
        let node = resource.node.as_deref().map(node_key);
        for key in resource.backs.iter().cloned().chain(node) {
            self.followers.remove(&key, &resource.name);
        }
    }

    /// Counts the updates that changed something.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Names touched since a revision, each once; nothing if that is too long ago to be known.
    pub fn since(&self, revision: u64) -> Option<Vec<&Str>> {
        self.log.since(revision)
    }

    /// Whether proxies see different parts of it.
    pub(super) fn is_scoped(&self) -> bool {
        self.scoped
    }

    /// A resource by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.shards[shard_of(name)].get(name)
    }

    /// Names of the resources that an alias stands for.
    pub fn by_alias(&self, alias: &str) -> impl Iterator<Item = &Str> {
        self.aliases.get(alias).iter()
    }

    /// Names of the endpoints of a service.
    pub fn endpoints(&self, service: &str) -> impl Iterator<Item = &Str> {
        self.followers.get(service).iter()
    }

    /// Names of what runs on a node.
    pub fn on_node(&self, node: &str) -> impl Iterator<Item = &Str> {
        self.followers.get(&node_key(node)).iter()
    }

    /// Every resource, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_changes_nothing_keeps_the_revision() {
        let resource = Resource::new("a", vec![1]);
        let first = Collection::default().with([("a".into(), Some(resource.clone()))]);
        assert_eq!((first.revision(), first.len()), (1, 1));
        let second = first.with([("a".into(), Some(resource)), ("b".into(), None)]);
        assert_eq!((second.revision(), second.len()), (1, 1));
        let third = second.with([("a".into(), Some(Resource::new("a", vec![2])))]);
        assert_eq!((third.revision(), third.since(1).unwrap()), (2, vec![&Str::from("a")]));
        assert_eq!(third.with([("a".into(), None)]).len(), 0);
        assert_eq!(third.len(), 1);
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
        // Copies taken before a change do not see it.
        assert_eq!((with.endpoints("shop/web").count(), with.on_node("n1").count(), with.len()), (1, 1, 1));
    }
}
