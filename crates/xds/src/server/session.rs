//! What one connected proxy has asked for, was sent and acknowledged: a function of its requests and the snapshots.

use super::{ClientStatus, Collection, Resource, Snapshot, TypeStatus};
use model::Str;
use proto::{
    core::{ControlPlane, Node},
    discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The server's side of one delta stream.
#[derive(Debug)]
pub struct Session {
    node: Node,
    node_name: Str,
    control_plane: ControlPlane,
    subscriptions: HashMap<String, Subscription>,
    responses: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    /// Names and aliases asked for one by one.
    names: HashSet<Str>,
    /// Name → version of what the proxy holds as far as this end knows.
    sent: HashMap<Str, u64>,
    /// Revision of the collection that `sent` reflects.
    revision: u64,
    nonce: String,
    acknowledged: bool,
    refused: Option<String>,
}

/// What one response is going to say.
#[derive(Default)]
struct Delta {
    resources: Vec<Arc<Resource>>,
    removed: Vec<Str>,
}

impl Session {
    /// A stream on which the proxy has introduced itself as `node`; `identifier` is what this end calls itself.
    pub fn new(node: Node, identifier: &str) -> Self {
        let node_name = metadata_text(&node, "NODE_NAME").unwrap_or_default().into();
        let control_plane = ControlPlane { identifier: identifier.to_owned() };
        Self { node, node_name, control_plane, subscriptions: HashMap::new(), responses: 0 }
    }

    /// Who is at the other end.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether a request speaks of a response that was overtaken by another.
    pub fn is_stale(&self, request: &DeltaDiscoveryRequest) -> bool {
        let nonce = self.subscriptions.get(&request.type_url).map(|subscription| &subscription.nonce);
        !request.response_nonce.is_empty() && nonce.is_some_and(|nonce| *nonce != request.response_nonce)
    }

    /// Takes a request, and the answer to it if it deserves one.
    pub fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
        snapshot: &Snapshot,
    ) -> Option<DeltaDiscoveryResponse> {
        let type_url = request.type_url.clone();
        let nothing = Collection::default();
        // The first request of a type is always answered, even with nothing: the proxy waits for it.
        let collection = snapshot.get(&type_url).unwrap_or(&nothing);
        if !self.subscriptions.contains_key(&type_url) {
            let (subscription, asked) = Subscription::open(request);
            let on_demand = !subscription.wildcard;
            let mut delta = subscription.catch_up(collection, &self.node_name);
            if on_demand {
                subscription.answer(asked.iter(), collection, &mut delta);
            }
            self.subscriptions.insert(type_url.clone(), subscription);
            return Some(self.respond(&type_url, Some(collection.revision()), delta, snapshot));
        }
        let subscription = self.subscriptions.get_mut(&type_url)?;
        subscription.acknowledge(&request);
        if subscription.wildcard {
            return None;
        }
        for name in &request.resource_names_unsubscribe {
            subscription.names.remove(name.as_str());
            subscription.sent.remove(name.as_str());
        }
        let asked: Vec<Str> = request.resource_names_subscribe.iter().map(|name| name.as_str().into()).collect();
        if asked.is_empty() {
            return None;
        }
        subscription.names.extend(asked.iter().cloned());
        let mut delta = Delta::default();
        subscription.answer(asked.iter(), collection, &mut delta);
        // An answer to one name does not bring the rest up to date.
        Some(self.respond(&type_url, None, delta, snapshot))
    }

    /// What a newer snapshot means to this proxy, in push order.
    pub fn on_change(&mut self, snapshot: &Snapshot) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        for (type_url, collection) in snapshot.types() {
            let Some(subscription) = self.subscriptions.get_mut(type_url) else { continue };
            if subscription.revision == collection.revision() {
                continue;
            }
            let delta = if subscription.revision + 1 == collection.revision() {
                subscription.step(collection, &self.node_name)
            } else {
                subscription.catch_up(collection, &self.node_name)
            };
            if delta.resources.is_empty() && delta.removed.is_empty() {
                subscription.revision = collection.revision();
            } else {
                responses.push(self.respond(type_url, Some(collection.revision()), delta, snapshot));
            }
        }
        responses
    }

    fn respond(
        &mut self,
        type_url: &str,
        reached: Option<u64>,
        delta: Delta,
        snapshot: &Snapshot,
    ) -> DeltaDiscoveryResponse {
        self.responses += 1;
        let revision = snapshot.revision();
        let nonce = format!("{revision}-{}-{:08x}", self.responses, rand::random::<u32>());
        let mut with_aliases = false;
        if let Some(subscription) = self.subscriptions.get_mut(type_url) {
            subscription.record(&delta, reached, &nonce);
            with_aliases = !subscription.wildcard;
        }
        let resources = delta.resources.iter().map(|resource| encode(type_url, resource, with_aliases)).collect();
        DeltaDiscoveryResponse {
            system_version_info: revision.to_string(),
            resources,
            type_url: type_url.to_owned(),
            nonce,
            removed_resources: delta.removed.iter().map(ToString::to_string).collect(),
            control_plane: Some(self.control_plane.clone()),
        }
    }

    /// How far this proxy got, for people who ask.
    pub fn status(&self, peer: &str) -> ClientStatus {
        let types = self
            .subscriptions
            .iter()
            .map(|(type_url, subscription)| TypeStatus {
                type_url: type_url.clone(),
                nonce: subscription.nonce.clone(),
                acknowledged: subscription.acknowledged,
                refused: subscription.refused.clone(),
                resources: subscription.sent.len(),
            })
            .collect();
        ClientStatus { node: self.node.clone(), peer: peer.to_owned(), types }
    }
}

impl Subscription {
    /// The state after the first request of a type, and the names that it asks for one by one.
    fn open(request: DeltaDiscoveryRequest) -> (Self, Vec<Str>) {
        let subscribe = &request.resource_names_subscribe;
        let unsubscribed = |name: &str| request.resource_names_unsubscribe.iter().any(|other| other == name);
        let wildcard = subscribe.iter().any(|name| name == "*") || subscribe.is_empty();
        let wildcard = wildcard && !unsubscribed("*");
        let by_name = |name: &&String| !wildcard && *name != "*" && !unsubscribed(name);
        let versions = &request.initial_resource_versions;
        // What the proxy holds is compared; what it only asked for is answered.
        let unanswered = versions.iter().filter(|(_, version)| version.is_empty()).map(|(name, _)| name);
        let asked: Vec<Str> =
            subscribe.iter().chain(unanswered).filter(by_name).map(|name| name.as_str().into()).collect();
        let held = versions.keys().filter(by_name).map(|name| Str::from(name.as_str()));
        let sent = versions
            .iter()
            .filter(|(_, version)| wildcard || !version.is_empty())
            .map(|(name, version)| (name.as_str().into(), u64::from_str_radix(version, 16).unwrap_or(0)))
            .collect();
        let names = asked.iter().cloned().chain(held).collect();
        (Self { wildcard, names, sent, ..Self::default() }, asked)
    }

    /// A nonce that is not the last one sent is stale: what it says is about something that was overtaken.
    fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) {
        if request.response_nonce.is_empty() || request.response_nonce != self.nonce {
            return;
        }
        self.refused = request.error_detail.as_ref().map(|error| error.message.clone());
        self.acknowledged = self.refused.is_none();
    }

    /// Everything that differs between what the proxy holds and what there is.
    fn catch_up(&self, collection: &Collection, node: &str) -> Delta {
        let mut delta = Delta::default();
        if self.wildcard {
            for resource in collection.iter() {
                self.compare(&resource.name, Some(resource), &mut delta);
            }
        } else {
            let mut wanted = HashSet::new();
            wanted.extend(collection.on_node(node));
            wanted.extend(self.sent.keys());
            for name in &self.names {
                wanted.extend(self.led_to(name, collection));
            }
            for name in wanted {
                self.compare(name, collection.get(name), &mut delta);
            }
        }
        delta.removed.extend(self.sent.keys().filter(|name| collection.get(name).is_none()).cloned());
        delta
    }

    /// As [`Self::catch_up`] for a proxy that knows the previous revision: only what the step touched.
    fn step(&self, collection: &Collection, node: &str) -> Delta {
        let mut delta = Delta::default();
        for name in collection.changed() {
            match collection.get(name) {
                None if self.sent.contains_key(name) => delta.removed.push(name.clone()),
                Some(resource) if self.wants(resource, node, collection) => {
                    self.compare(name, Some(resource), &mut delta);
                }
                _ => {}
            }
        }
        delta
    }

    /// Answers names asked for one by one: each either comes or is said not to be.
    fn answer<'a>(&self, asked: impl Iterator<Item = &'a Str>, collection: &Collection, delta: &mut Delta) {
        let mut chosen: HashSet<Str> = delta.resources.iter().map(|resource| resource.name.clone()).collect();
        for name in asked {
            for found in self.led_to(name, collection) {
                if let Some(resource) = collection.get(found)
                    && chosen.insert(found.clone())
                {
                    delta.resources.push(Arc::clone(resource));
                }
            }
            // Upstream's proxies wait for exactly the name they asked for and do not read aliases, so an alias is
            // also said to be removed, which is true: there is no resource of that name.
            if collection.get(name).is_none() && !delta.removed.contains(name) {
                delta.removed.push(name.clone());
            }
        }
    }

    /// Names of everything that a name or alias leads to: the resource, and the endpoints if it is a service.
    fn led_to<'a>(&self, name: &'a Str, collection: &'a Collection) -> impl Iterator<Item = &'a Str> {
        let direct = collection.get(name).map(|resource| &resource.name);
        let found = direct.into_iter().chain(collection.by_alias(name));
        found.flat_map(|name| std::iter::once(name).chain(collection.endpoints(name)))
    }

    fn wants(&self, resource: &Resource, node: &str, collection: &Collection) -> bool {
        let asked = |name: &Str| self.names.contains(name);
        let service_asked =
            |name: &Str| asked(name) || collection.get(name).is_some_and(|service| service.aliases.iter().any(asked));
        self.wildcard
            || self.sent.contains_key(&resource.name)
            || asked(&resource.name)
            || resource.node.as_deref().is_some_and(|name| name == node && !node.is_empty())
            || resource.aliases.iter().any(asked)
            || resource.backs.iter().any(service_asked)
    }

    fn compare(&self, name: &Str, resource: Option<&Arc<Resource>>, delta: &mut Delta) {
        if let Some(resource) = resource
            && self.sent.get(name) != Some(&resource.version)
        {
            delta.resources.push(Arc::clone(resource));
        }
    }

    fn record(&mut self, delta: &Delta, reached: Option<u64>, nonce: &str) {
        for name in &delta.removed {
            self.sent.remove(name);
        }
        for resource in &delta.resources {
            self.sent.insert(resource.name.clone(), resource.version);
        }
        if let Some(revision) = reached {
            self.revision = revision;
        }
        nonce.clone_into(&mut self.nonce);
        self.acknowledged = false;
        self.refused = None;
    }
}

fn encode(type_url: &str, resource: &Resource, with_aliases: bool) -> discovery::Resource {
    discovery::Resource {
        version: format!("{:x}", resource.version),
        resource: Some(prost_types::Any { type_url: type_url.to_owned(), value: resource.body.clone() }),
        name: resource.name.to_string(),
        aliases: if with_aliases { resource.aliases.iter().map(ToString::to_string).collect() } else { Vec::new() },
        ttl: None,
    }
}

/// A text entry of a node's metadata.
pub fn metadata_text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        prost_types::value::Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
