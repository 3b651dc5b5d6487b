//! What one proxy has asked for of one type, what it holds, and what is therefore to be sent.
//!
//! Of a proxy that takes everything only the revision is remembered up to which it was told; of one that asks by name, or
//! that sees only a part, every resource it holds.

use super::{Collection, Resource, SessionError, push::Form};
use model::Str;
use proto::discovery::DeltaDiscoveryRequest;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

/// Names that one proxy may ask for of one type.
const MAX_NAMES: usize = 1 << 17;
/// Longest name that is remembered; no resource has a longer one.
const MAX_NAME: usize = 1024;
/// Stands for every resource.
const EVERYTHING: &str = "*";

/// For whom resources are chosen.
#[derive(Debug, Clone, Default)]
pub(super) struct Viewer {
    /// Its node: what runs there is always sent.
    pub(super) node: Str,
    /// `<namespace>/<name>` of the gateway that it is.
    pub(super) gateway: Option<Str>,
}

/// What there is of one type, as one proxy sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) collection: &'a Collection,
    pub(super) form: Form,
    pub(super) viewer: &'a Viewer,
}

impl<'a> Seen<'a> {
    fn shows(&self, resource: &Resource) -> bool {
        (resource.gateway.is_none() || resource.gateway == self.viewer.gateway) && self.form.of(resource).is_some()
    }

    fn get(&self, name: &str) -> Option<&'a Arc<Resource>> {
        self.collection.get(name).filter(|resource| self.shows(resource))
    }

    fn iter(&self) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.collection.iter().filter(|resource| self.shows(resource))
    }

    /// Everything that a name or alias leads to: the resource, and the endpoints if it is a service.
    fn led_to(self, name: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
        let direct = self.collection.get(name).map(|resource| &resource.name);
        let found: Vec<&'a Str> = direct.into_iter().chain(self.collection.by_alias(name)).collect();
        let followed =
            found.into_iter().flat_map(move |name| std::iter::once(name).chain(self.collection.endpoints(name)));
        followed.filter_map(move |name| self.get(name))
    }
}

/// What one response is going to say.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) removed: Vec<Str>,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    wildcard: bool,
    /// Names and aliases asked for one by one.
    names: HashSet<Str>,
    /// Name → version of what the proxy holds as far as this end knows; of one that holds everything it is not kept.
    held: Option<HashMap<Str, u64>>,
    /// What the proxy brought from its last stream, until its first request is answered.
    brought: Option<HashMap<Str, u64>>,
    /// Revision of the collection that the proxy was told.
    revision: u64,
    /// How many resources it holds.
    pub(super) count: usize,
    pub(super) nonce: String,
    pub(super) accepted: String,
    pub(super) refused: Option<String>,
    pub(super) updated: Option<SystemTime>,
}

impl Subscription {
    /// The subscription of a first request.
    pub(super) fn open(request: DeltaDiscoveryRequest) -> Result<Self, SessionError> {
        let brought: HashMap<Str, u64> = request
            .initial_resource_versions
            .into_iter()
            .map(|(name, version)| (name.into(), u64::from_str_radix(&version, 16).unwrap_or_default()))
            .collect();
        let subscribe = &request.resource_names_subscribe;
        let left = request.resource_names_unsubscribe.iter().any(|name| name == EVERYTHING);
        // Who asks for nothing asks for everything, unless it says that it does not.
        let wildcard = !left && (subscribe.is_empty() || subscribe.iter().any(|name| name == EVERYTHING));
        let mut subscription = Self {
            wildcard,
            names: HashSet::new(),
            held: None,
            brought: Some(brought),
            revision: 0,
            count: 0,
            nonce: String::new(),
            accepted: String::new(),
            refused: None,
            updated: None,
        };
        subscription.remember(subscribe)?;
        if !wildcard {
            // What an on-demand proxy holds it has asked for on its last stream, some of it without an answer yet.
            let brought: Vec<Str> = subscription.brought.iter().flat_map(HashMap::keys).cloned().collect();
            subscription.remember(&brought)?;
        }
        Ok(subscription)
    }

    /// Whether the first request is not answered yet.
    pub(super) fn waits(&self) -> bool {
        self.brought.is_some()
    }

    /// Whether the proxy asks by name.
    pub(super) fn is_on_demand(&self) -> bool {
        !self.wildcard
    }

    /// Whether the proxy was told all of this.
    pub(super) fn is_current(&self, collection: &Collection) -> bool {
        !self.waits() && self.revision == collection.revision()
    }

    fn remember(&mut self, names: &[impl AsRef<str>]) -> Result<(), SessionError> {
        let names = names.iter().map(AsRef::as_ref).filter(|name| *name != EVERYTHING && name.len() <= MAX_NAME);
        self.names.extend(names.map(Str::from));
        if self.names.len() > MAX_NAMES { Err(SessionError::TooManyNames(MAX_NAMES)) } else { Ok(()) }
    }

    /// The answer to the first request: what differs from what the proxy brought, and a word on every name it asked for.
    pub(super) fn first(&mut self, seen: Seen<'_>) -> Delta {
        let brought = self.brought.take().unwrap_or_default();
        let differs = |resource: &Arc<Resource>| brought.get(&resource.name) != Some(&resource.version);
        let resources: Vec<_> = if self.wildcard {
            seen.iter().filter(|resource| differs(resource)).cloned().collect()
        } else {
            self.wanted(&brought, seen).into_values().filter(differs).collect()
        };
        let removed = brought.keys().filter(|name| seen.get(name).is_none()).cloned().collect();
        let mut delta = Delta { resources, removed };
        let asked: Vec<Str> = self.names.iter().filter(|name| !brought.contains_key(*name)).cloned().collect();
        say_missing(&asked, seen, &mut delta);
        self.held = Some(brought);
        self.told(&delta, seen);
        delta
    }

    /// Takes names asked for and given up later on, and answers them.
    pub(super) fn change(
        &mut self,
        request: &DeltaDiscoveryRequest,
        seen: Option<Seen<'_>>,
    ) -> Result<Option<Delta>, SessionError> {
        let (subscribe, unsubscribe) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let is_everything = |name: &String| name == EVERYTHING;
        for name in unsubscribe {
            self.names.remove(name.as_str());
            if let Some(held) = self.held.as_mut().filter(|_| !self.wildcard) {
                held.remove(name.as_str());
            }
        }
        self.remember(subscribe)?;
        let was = self.wildcard;
        self.wildcard = (was || subscribe.iter().any(is_everything)) && !unsubscribe.iter().any(is_everything);
        let Some(seen) = seen.filter(|_| !self.waits()) else { return Ok(None) };
        let mut delta = match (was, self.wildcard) {
            (true, false) => self.narrow(seen)?,
            (false, true) => {
                // What it did not ask for is as new to it as what changed.
                self.revision = 0;
                self.catch_up(seen)?
            }
            _ => Delta::default(),
        };
        let asked: Vec<Str> =
            subscribe.iter().filter(|name| !is_everything(name)).map(|name| name.as_str().into()).collect();
        if asked.is_empty() && delta.is_empty() {
            return Ok(None);
        }
        let chosen: HashSet<Str> = delta.resources.iter().map(|resource| resource.name.clone()).collect();
        let mut answer = Delta::default();
        let found: HashMap<Str, Arc<Resource>> = self.named(asked.iter(), seen).collect();
        answer.resources.extend(found.into_values().filter(|resource| !chosen.contains(&resource.name)));
        say_missing(&asked, seen, &mut answer);
        // An answer to some names does not bring the rest up to date.
        self.note(&answer);
        delta.resources.append(&mut answer.resources);
        delta.removed.append(&mut answer.removed);
        Ok(Some(delta))
    }

    /// From everything to names: it keeps what it asked for, brought up to date, and forgets the rest.
    fn narrow(&mut self, seen: Seen<'_>) -> Result<Delta, SessionError> {
        self.wildcard = true;
        let missed = self.missed(seen);
        self.wildcard = false;
        let kept = self.wanted(&HashMap::new(), seen);
        let mut delta = missed?;
        delta.removed.clear();
        delta.resources.retain(|resource| kept.contains_key(&resource.name));
        self.held = Some(kept.into_iter().map(|(name, resource)| (name, resource.version)).collect());
        self.told(&Delta::default(), seen);
        Ok(delta)
    }

    /// What the proxy has to be told so that it holds what there is.
    pub(super) fn catch_up(&mut self, seen: Seen<'_>) -> Result<Delta, SessionError> {
        let delta = self.missed(seen)?;
        self.told(&delta, seen);
        Ok(delta)
    }

    fn missed(&self, seen: Seen<'_>) -> Result<Delta, SessionError> {
        let mut delta = Delta::default();
        let touched = seen.collection.since(self.revision);
        let Some(held) = &self.held else {
            for name in touched.ok_or(SessionError::FellBehind)? {
                match seen.get(name) {
                    Some(resource) => delta.resources.push(Arc::clone(resource)),
                    None if seen.collection.get(name).is_none() => delta.removed.push(name.clone()),
                    None => {}
                }
            }
            return Ok(delta);
        };
        let mut compare = |name: &Str| match seen.get(name) {
            Some(resource) => {
                let before = held.get(name);
                if before != Some(&resource.version) && (before.is_some() || self.wants(resource, seen)) {
                    delta.resources.push(Arc::clone(resource));
                }
            }
            None if held.contains_key(name) => delta.removed.push(name.clone()),
            None => {}
        };
        match touched {
            Some(touched) => touched.into_iter().for_each(&mut compare),
            None => {
                let gone = held.keys().filter(|name| seen.collection.get(name).is_none());
                gone.for_each(&mut compare);
                seen.collection.iter().for_each(|resource| compare(&resource.name));
            }
        }
        Ok(delta)
    }

    fn wants(&self, resource: &Resource, seen: Seen<'_>) -> bool {
        let asked = |name: &Str| self.names.contains(name);
        let service_asked = |name: &Str| {
            asked(name) || seen.collection.get(name).is_some_and(|service| service.aliases.iter().any(asked))
        };
        self.wildcard
            || asked(&resource.name)
            || resource.node.as_ref().is_some_and(|node| *node == seen.viewer.node && !node.is_empty())
            || resource.aliases.iter().any(asked)
            || resource.backs.iter().any(service_asked)
    }

    /// What names and aliases lead to, by name.
    fn named<'a>(
        &self,
        names: impl Iterator<Item = &'a Str>,
        seen: Seen<'a>,
    ) -> impl Iterator<Item = (Str, Arc<Resource>)> {
        let found = names.flat_map(move |name| seen.led_to(name));
        found.map(|resource| (resource.name.clone(), Arc::clone(resource)))
    }

    /// What an on-demand proxy is to hold, by name.
    fn wanted(&self, held: &HashMap<Str, u64>, seen: Seen<'_>) -> HashMap<Str, Arc<Resource>> {
        let own = seen.collection.on_node(&seen.viewer.node).filter(|_| !seen.viewer.node.is_empty());
        let known = own.chain(held.keys()).filter_map(|name| seen.get(name));
        let known = known.map(|resource| (resource.name.clone(), Arc::clone(resource)));
        known.chain(self.named(self.names.iter(), seen)).collect()
    }

    /// After this the proxy holds what there is at the collection's revision.
    fn told(&mut self, delta: &Delta, seen: Seen<'_>) {
        self.note(delta);
        self.revision = seen.collection.revision();
        if self.wildcard {
            self.held = match self.held.take() {
                _ if !seen.collection.is_scoped() => None,
                None => Some(seen.iter().map(|resource| (resource.name.clone(), resource.version)).collect()),
                held => held,
            };
        }
        self.count = match (&self.held, seen.form) {
            (Some(held), _) => held.len(),
            (None, Form::Whole) => seen.collection.len(),
            (None, Form::Field(_)) => seen.iter().count(),
        };
    }

    /// Notes what is sent.
    fn note(&mut self, delta: &Delta) {
        let Some(held) = &mut self.held else { return };
        for name in &delta.removed {
            held.remove(name);
        }
        held.extend(delta.resources.iter().map(|resource| (resource.name.clone(), resource.version)));
        self.count = held.len();
    }
}

/// Says of names that are no resource's that they are not: who waits for one reads no aliases, and what is an alias is
/// no name, so that is true.
fn say_missing(asked: &[Str], seen: Seen<'_>, delta: &mut Delta) {
    let said: HashSet<&Str> = delta.removed.iter().collect();
    let missing = asked.iter().filter(|name| seen.get(name).is_none() && !said.contains(name));
    let missing: Vec<Str> = missing.cloned().collect();
    delta.removed.extend(missing);
}
