//! What one connected proxy has asked for, was sent and acknowledged: a function of its requests and the snapshots.

use super::{
    ClientStatus, Collection, Push, Snapshot, TypeStatus,
    push::Form,
    subscription::{Delta, Seen, Subscription, Viewer},
};
use model::Str;
use proto::{
    core::{ControlPlane, Node},
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    type_url::{ADDRESS, SERVICE, WORKLOAD},
};
use std::{collections::HashMap, time::SystemTime};

/// Types that one proxy may ask for; there are fewer.
const MAX_TYPES: usize = 16;

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// More changed than is remembered since this proxy was told.
    #[error("this proxy fell too far behind; connect again and name the versions that are held")]
    FellBehind,
    /// It asks for too much by name.
    #[error("more than {0} names of one type are asked for; ask for all of them with \"*\"")]
    TooManyNames(usize),
    /// It asks for too many types.
    #[error("more than {0} types are asked for on one stream")]
    TooManyTypes(usize),
}

/// The server's side of one delta stream.
#[derive(Debug)]
pub struct Session {
    node: Node,
    viewer: Viewer,
    control_plane: ControlPlane,
    subscriptions: HashMap<String, Subscription>,
    responses: u64,
}

/// Which collection a type is served from, and how much of each resource.
fn source_of(type_url: &str) -> (&str, Form) {
    match type_url {
        WORKLOAD => (ADDRESS, Form::Field(1)),
        SERVICE => (ADDRESS, Form::Field(2)),
        other => (other, Form::Whole),
    }
}

impl Session {
    /// A stream on which the proxy has introduced itself as `node`; `identifier` is what this end calls itself.
    pub fn new(node: Node, identifier: &str) -> Self {
        let viewer = Viewer { node: metadata_text(&node, "NODE_NAME").unwrap_or_default().into(), gateway: None };
        let control_plane = ControlPlane { identifier: identifier.to_owned() };
        Self { node, viewer, control_plane, subscriptions: HashMap::new(), responses: 0 }
    }

    /// The proxy has proved to be this gateway, `<namespace>/<name>`.
    #[must_use]
    pub fn for_gateway(mut self, gateway: Option<Str>) -> Self {
        self.viewer.gateway = gateway;
        self
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
    ) -> Result<Option<Push>, SessionError> {
        let type_url = request.type_url.clone();
        let (source, form) = source_of(&type_url);
        let nothing = Collection::default();
        // The first request of a type is always answered, even with nothing: the proxy waits for it. Only a type that is
        // not known yet is answered later, because "nothing" would be wrong.
        let collection =
            if snapshot.is_awaited(source) { None } else { Some(snapshot.get(source).unwrap_or(&nothing)) };
        let seen = collection.map(|collection| Seen { collection, form, viewer: &self.viewer });
        let is_too_many = self.subscriptions.len() == MAX_TYPES;
        let answer = match self.subscriptions.get_mut(&type_url) {
            Some(subscription) => {
                acknowledge(subscription, &request);
                subscription.change(&request, seen)?
            }
            None if is_too_many => return Err(SessionError::TooManyTypes(MAX_TYPES)),
            None => {
                let mut subscription = Subscription::open(request)?;
                let answer = seen.map(|seen| subscription.first(seen));
                self.subscriptions.insert(type_url.clone(), subscription);
                answer
            }
        };
        Ok(answer.map(|delta| self.respond(&type_url, form, delta, snapshot)))
    }

    /// The next response that a newer snapshot calls for, in push order; nothing once the proxy was told all of it.
    pub fn on_change(&mut self, snapshot: &Snapshot) -> Result<Option<Push>, SessionError> {
        for (served, collection) in snapshot.types() {
            for type_url in [served].into_iter().chain([WORKLOAD, SERVICE].into_iter().filter(|_| served == ADDRESS)) {
                let form = source_of(type_url).1;
                let Some(subscription) = self.subscriptions.get_mut(type_url) else { continue };
                if subscription.is_current(collection) {
                    continue;
                }
                let seen = Seen { collection, form, viewer: &self.viewer };
                let awaited = subscription.waits();
                let delta = if awaited { subscription.first(seen) } else { subscription.catch_up(seen)? };
                if awaited || !delta.is_empty() {
                    return Ok(Some(self.respond(type_url, form, delta, snapshot)));
                }
            }
        }
        Ok(None)
    }

    fn respond(&mut self, type_url: &str, form: Form, delta: Delta, snapshot: &Snapshot) -> Push {
        self.responses += 1;
        let revision = snapshot.revision();
        let nonce = format!("{revision}-{}-{:08x}", self.responses, rand::random::<u32>());
        let mut with_aliases = false;
        if let Some(subscription) = self.subscriptions.get_mut(type_url) {
            with_aliases = subscription.is_on_demand();
            subscription.nonce.clone_from(&nonce);
            subscription.refused = None;
            subscription.updated = Some(SystemTime::now());
        }
        let head = DeltaDiscoveryResponse {
            system_version_info: revision.to_string(),
            resources: Vec::new(),
            type_url: type_url.to_owned(),
            nonce,
            removed_resources: delta.removed.iter().map(ToString::to_string).collect(),
            control_plane: Some(self.control_plane.clone()),
        };
        Push { head, resources: delta.resources, form, with_aliases }
    }

    /// How far this proxy got, for people who ask.
    pub fn status(&self) -> Vec<TypeStatus> {
        let status = |(type_url, subscription): (&String, &Subscription)| TypeStatus {
            type_url: type_url.clone(),
            nonce: subscription.nonce.clone(),
            accepted: subscription.accepted.clone(),
            refused: subscription.refused.clone(),
            resources: subscription.count,
            updated: subscription.updated,
        };
        let mut types: Vec<_> = self.subscriptions.iter().map(status).collect();
        types.sort_by(|a, b| a.type_url.cmp(&b.type_url));
        types
    }

    /// The same with who it is.
    pub fn client(&self, peer: &str) -> ClientStatus {
        ClientStatus { node: self.node.clone(), peer: peer.to_owned(), types: self.status() }
    }
}

/// A nonce that is not the last one sent is stale: what it says is about something that was overtaken.
fn acknowledge(subscription: &mut Subscription, request: &DeltaDiscoveryRequest) {
    if request.response_nonce.is_empty() || request.response_nonce != subscription.nonce {
        return;
    }
    subscription.refused = request.error_detail.as_ref().map(|error| error.message.clone());
    if subscription.refused.is_none() {
        subscription.accepted.clone_from(&request.response_nonce);
    }
    subscription.updated = Some(SystemTime::now());
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
