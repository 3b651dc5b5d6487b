//! Who is connected and how far each got: for `proxy-status`, debug pages and metrics.

use parking_lot::Mutex;
use proto::{
    core::Node,
    csds::{ClientConfig, ConfigStatus, client_config::GenericXdsConfig},
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
    /// The last response was accepted.
    pub acknowledged: bool,
    /// Why the last response was refused.
    pub refused: Option<String>,
    /// How many resources the proxy holds.
    pub resources: usize,
}

impl TypeStatus {
    /// In the words of `proxy-status`.
    pub fn config_status(&self) -> ConfigStatus {
        match self {
            Self { refused: Some(_), .. } => ConfigStatus::Error,
            Self { acknowledged: true, .. } => ConfigStatus::Synced,
            Self { nonce, .. } if nonce.is_empty() => ConfigStatus::NotSent,
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
    updated: SystemTime,
}

/// The proxies that are connected to this server.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    connected: Arc<Mutex<BTreeMap<u64, Connected>>>,
    next: Arc<AtomicU64>,
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
        let now = SystemTime::now();
        self.connected.lock().insert(id, Connected { status, since: now, updated: now });
        Registration { clients: self.clone(), id }
    }

    /// Every connected proxy, longest first, with the time since which it is connected.
    pub fn list(&self) -> Vec<(SystemTime, ClientStatus)> {
        self.connected.lock().values().map(|connected| (connected.since, connected.status.clone())).collect()
    }

    /// The same in the form that `proxy-status` reads (control-plane A12). The id is `<pod>.<namespace>`, and of the
    /// metadata only what that reader uses is passed on.
    pub fn configs(&self) -> Vec<ClientConfig> {
        let connected: Vec<Connected> = self.connected.lock().values().cloned().collect();
        connected.into_iter().map(config).collect()
    }
}

fn config(connected: Connected) -> ClientConfig {
    let Connected { status, updated, .. } = connected;
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
            last_updated: Some(updated.into()),
            ..GenericXdsConfig::default()
        })
        .collect();
    ClientConfig { node: Some(Node { id, metadata, ..Node::default() }), generic_xds_configs }
}

impl Registration {
    pub(super) fn update(&self, status: ClientStatus) {
        if let Some(connected) = self.clients.connected.lock().get_mut(&self.id) {
            connected.status = status;
            connected.updated = SystemTime::now();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.connected.lock().remove(&self.id);
    }
}
