//! What a client has, has asked for, and answers: a function of the messages it received.

use super::{Batch, Change, Config, Named, Rejection, Sink};
use crate::wds::{decode_address, decode_authorization};
use model::Str;
use parking_lot::Mutex;
use prost::Message;
use proto::{
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    rpc, type_url,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The types a proxy asks for, in the order in which it asks; the last one only if it is an L7 proxy.
const TYPES: [&str; 3] = [type_url::ADDRESS, type_url::AUTHORIZATION, type_url::L7];

/// What the client answers to a response.
#[derive(Debug)]
pub struct Reply {
    /// ACK or NACK, to be sent.
    pub request: DeltaDiscoveryRequest,
    /// Every name and alias that the response settled: there is nothing more to wait for.
    pub settled: HashSet<Str>,
    /// Nothing was refused.
    pub accepted: bool,
}

/// Name → version of everything held, per type: addresses, policies, L7 resources. A name that was asked for and has not come yet has no
/// version.
pub type Held = [HashMap<Str, String>; TYPES.len()];

/// The same, for those who write it down. Never locked for long.
pub type SharedHeld = Arc<Mutex<Held>>;

/// The client's side of the protocol, over any number of streams.
#[derive(Debug)]
pub struct State {
    config: Config,
    held: SharedHeld,
    /// Types of which a response was accepted.
    synced: [bool; TYPES.len()],
}

impl State {
    /// A client that holds what its settings say, at first nothing.
    pub fn new(mut config: Config) -> Self {
        let synced = [config.on_demand, false, !config.l7];
        let held = Arc::new(Mutex::new(std::mem::take(&mut config.held)));
        Self { config, held, synced }
    }

    /// What is held, now and later.
    pub fn held(&self) -> SharedHeld {
        self.held.clone()
    }

    /// The requests that open a stream.
    pub fn open(&self) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::with_capacity(TYPES.len());
        for (index, type_url) in self.types().iter().copied().enumerate() {
            let versions =
                self.held.lock()[index].iter().map(|(name, version)| (name.to_string(), version.clone())).collect();
            // Subscribing and unsubscribing everything says "nothing by itself"; an empty list would mean everything.
            let by_itself =
                if self.config.on_demand && type_url == type_url::ADDRESS { vec!["*".to_owned()] } else { Vec::new() };
            requests.push(DeltaDiscoveryRequest {
                node: Some(self.config.node.clone()),
                type_url: type_url.to_owned(),
                resource_names_subscribe: by_itself.clone(),
                resource_names_unsubscribe: by_itself,
                initial_resource_versions: versions,
                ..DeltaDiscoveryRequest::default()
            });
        }
        requests
    }

    fn types(&self) -> &'static [&'static str] {
        if self.config.l7 { &TYPES } else { &TYPES[..2] }
    }

    /// Whether one response of every type has been accepted; addresses on demand are not waited for.
    pub fn is_synced(&self) -> bool {
        self.synced.iter().all(|synced| *synced)
    }

    /// The request for one more address, unless it is held or asked for already.
    pub fn demand(&mut self, key: &str) -> Option<DeltaDiscoveryRequest> {
        if self.held.lock()[0].contains_key(key) {
            return None;
        }
        self.held.lock()[0].insert(key.into(), String::new());
        Some(DeltaDiscoveryRequest {
            type_url: type_url::ADDRESS.to_owned(),
            resource_names_subscribe: vec![key.to_owned()],
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// Hands a response to the sink and remembers what was taken over.
    pub fn receive(&mut self, response: DeltaDiscoveryResponse, sink: &mut dyn Sink) -> Reply {
        let index = self.types().iter().position(|known| *known == response.type_url);
        let (rejections, settled) = match index {
            Some(index) => self.take_over(index, &response, sink),
            None => {
                tracing::error!(type_url = response.type_url, "the server sent a type that was not asked for");
                (Vec::new(), HashSet::new())
            }
        };
        let accepted = rejections.is_empty();
        if let Some(index) = index {
            self.synced[index] |= accepted;
        }
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: (!accepted).then(|| rpc::Status {
                code: 0,
                message: explain(&rejections),
                details: Vec::new(),
            }),
            ..DeltaDiscoveryRequest::default()
        };
        Reply { request, settled, accepted }
    }

    fn take_over(
        &self,
        index: usize,
        response: &DeltaDiscoveryResponse,
        sink: &mut dyn Sink,
    ) -> (Vec<Rejection>, HashSet<Str>) {
        let mut rejections = Vec::new();
        // The sink goes first: whoever waits for a name must find its effect.
        let refused = match index {
            0 => sink.apply(Batch::Addresses(changes(response, &mut rejections, |_, bytes| {
                decode_address(bytes).map_err(|e| e.to_string())
            }))),
            1 => sink.apply(Batch::Authorizations(changes(response, &mut rejections, |_, bytes| {
                decode_authorization(bytes).map_err(|e| e.to_string())
            }))),
            _ => sink.apply_l7(changes(response, &mut rejections, |name, bytes| {
                let resource = Message::decode(bytes).map_err(|e| format!("decode: {e}"))?;
                Ok(Named { name: name.into(), resource })
            })),
        };
        rejections.extend(refused);
        let refused: HashSet<Str> = rejections.iter().map(|rejection| rejection.name.clone()).collect();
        let mut all = self.held.lock();
        let held = &mut all[index];
        let mut settled = HashSet::new();
        for resource in &response.resources {
            for alias in &resource.aliases {
                held.remove(alias.as_str());
                settled.insert(Str::from(alias.as_str()));
            }
            let name = Str::from(resource.name.as_str());
            // A refused name keeps the version of what is still in use, so that a new stream brings it again.
            if !refused.contains(&name) {
                held.insert(name.clone(), resource.version.clone());
            } else if held.get(&name).is_some_and(String::is_empty) {
                held.remove(&name);
            }
            settled.insert(name);
        }
        for name in &response.removed_resources {
            held.remove(name.as_str());
            settled.insert(Str::from(name.as_str()));
        }
        (rejections, settled)
    }
}

fn changes<T>(
    response: &DeltaDiscoveryResponse,
    rejections: &mut Vec<Rejection>,
    decode: impl Fn(&str, &[u8]) -> Result<T, String>,
) -> Vec<Change<T>> {
    let mut changes = Vec::with_capacity(response.resources.len() + response.removed_resources.len());
    for resource in &response.resources {
        match body(resource, &response.type_url).and_then(|body| decode(&resource.name, body)) {
            Ok(value) => changes.push(Change::Upsert(value)),
            Err(reason) => rejections.push(Rejection { name: resource.name.as_str().into(), reason }),
        }
    }
    changes.extend(response.removed_resources.iter().map(|name| Change::Remove(name.as_str().into())));
    changes
}

fn body<'a>(resource: &'a Resource, type_url: &str) -> Result<&'a [u8], String> {
    let any = resource.resource.as_ref().ok_or_else(|| "the resource has no body".to_owned())?;
    if any.type_url == type_url {
        Ok(&any.value)
    } else {
        Err(format!("the resource is of type {:?}, not {type_url:?}", any.type_url))
    }
}

/// The text of a NACK, cut where nobody would read on: a response may hold a hundred thousand bad resources.
fn explain(rejections: &[Rejection]) -> String {
    const LISTED: usize = 100;
    let mut text = String::new();
    for rejection in rejections.iter().take(LISTED) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&format!("{}: {}", rejection.name, rejection.reason));
    }
    if rejections.len() > LISTED {
        text.push_str(&format!("; and {} more", rejections.len() - LISTED));
    }
    text
}

#[cfg(test)]
mod tests;
