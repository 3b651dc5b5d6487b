//! Who is connected and how far each got: for `proxy-status`, debug pages and metrics.

use parking_lot::Mutex;
use proto::{
    core::Node,
    csds::{ClientConfig, ConfigStatus, UpdateFailureState, client_config::GenericXdsConfig},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// How far one proxy got with one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeStatus {
    /// The type.
    pub type_url: String,
    /// Nonce of the last response; empty if none was sent.
    pub nonce: String,
    /// Nonce of the last response that was accepted; empty if none was.
    pub accepted: String,
    /// Why the last response was refused.
    pub refused: Option<String>,
    /// How many resources the proxy holds.
    pub resources: usize,
    /// When the last response was sent or answered.
    pub updated: Option<SystemTime>,
}

impl TypeStatus {
    /// In the words of `proxy-status`.
    pub fn config_status(&self) -> ConfigStatus {
        match self {
            Self { refused: Some(_), .. } => ConfigStatus::Error,
            Self { nonce, .. } if nonce.is_empty() => ConfigStatus::NotSent,
            Self { nonce, accepted, .. } if nonce == accepted => ConfigStatus::Synced,
            _ => ConfigStatus::Stale,
        }
    }
}

/// How far one proxy got.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientStatus {
    /// How it introduced itself.
    pub node: Node,
    /// Who it proved to be.
    pub peer: String,
    /// Its types.
    pub types: Vec<TypeStatus>,
}

#[derive(Debug, Clone)]
struct Connected {
    status: ClientStatus,
    since: SystemTime,
}

/// The proxies that are connected to this server.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    connected: Arc<Mutex<BTreeMap<u64, Connected>>>,
    next: Arc<AtomicU64>,
    largest_request: Arc<AtomicU64>,
}

/// One proxy's place in [`Clients`], given up when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    clients: Clients,
    id: u64,
}

impl Clients {
    pub(super) fn register(&self, status: ClientStatus) -> Registration {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.connected.lock().insert(id, Connected { status, since: SystemTime::now() });
        Registration { clients: self.clone(), id }
    }

    /// Every connected proxy, longest first, with the time since which it is connected.
    pub fn list(&self) -> Vec<(SystemTime, ClientStatus)> {
        self.connected.lock().values().map(|connected| (connected.since, connected.status.clone())).collect()
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.connected.lock().len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the largest request that any proxy has sent.
    pub fn largest_request(&self) -> u64 {
        self.largest_request.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self, bytes: usize) {
        self.largest_request.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// The same in the form that `proxy-status` reads (control-plane A12). The id is `<pod>.<namespace>`, and of the
    /// metadata only what that reader uses is passed on.
    pub fn configs(&self) -> Vec<ClientConfig> {
        let connected: Vec<Connected> = self.connected.lock().values().cloned().collect();
        connected.into_iter().map(config).collect()
    }
}

fn config(connected: Connected) -> ClientConfig {
    let status = connected.status;
    let metadata = status.node.metadata.map(|mut metadata| {
        metadata.fields.retain(|key, _| matches!(key.as_str(), "CLUSTER_ID" | "NAMESPACE" | "ISTIO_VERSION"));
        metadata
    });
    // The third part of `<type>~<ip>~<pod>.<namespace>~<domain>`.
    let id = status.node.id.split('~').nth(2).unwrap_or(&status.node.id).to_owned();
    let generic_xds_configs = status
        .types
        .iter()
        .map(|entry| GenericXdsConfig {
            type_url: entry.type_url.clone(),
            config_status: entry.config_status().into(),
            last_updated: entry.updated.map(Into::into),
            error_state: entry.refused.as_ref().map(|details| refused_state(details, entry.updated)),
            ..GenericXdsConfig::default()
        })
        .collect();
    ClientConfig { node: Some(Node { id, metadata, ..Node::default() }), generic_xds_configs }
}

fn refused_state(details: &str, at: Option<SystemTime>) -> UpdateFailureState {
    UpdateFailureState { details: details.to_owned(), last_update_attempt: at.map(Into::into) }
}

impl Registration {
    pub(super) fn update(&self, types: Vec<TypeStatus>) {
        if let Some(connected) = self.clients.connected.lock().get_mut(&self.id) {
            connected.status.types = types;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.connected.lock().remove(&self.id);
    }
}
