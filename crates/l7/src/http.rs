//! The way of HTTP through a proxy: what the client speaks, the request judged, planned and sent on, the response streamed back.
//!
//! [`serve()`] takes one byte stream of one client towards one destination. Everything it decides by is in [`Shared`] (swapped
//! whole) and in [`Connection`]; [`Connect`] makes the streams to endpoints.

mod body;
mod forward;
mod head;
mod outcome;
mod pool;
mod service;
mod sniff;
mod tell;
mod upgrade;

pub use body::{Body, full};
pub use pool::{Connect, Pool};
pub use service::serve;
pub use sniff::{Prefixed, Spoken, sniff};
pub use tell::text_line;

use crate::{
    balance::{Endpoint, Sets},
    config::{Config, Here},
};
use arc_swap::ArcSwap;
use model::{Identity, Mesh, NamespacedHostname, Service, Str};
use std::{net::SocketAddr, sync::Arc};
use telemetry::metrics::{requests::Requests, traffic::Party};

/// What every request of a proxy is decided by.
#[derive(Debug)]
pub struct Shared {
    /// Routes, policies, destinations.
    pub config: ArcSwap<Config>,
    /// The mesh, and the number of the snapshot.
    pub mesh: ArcSwap<(Mesh, usize)>,
    /// Endpoints, with what is known of them.
    pub sets: Sets,
    /// Kubernetes namespace of the proxy.
    pub namespace: Str,
    /// Name of the gateway that it is.
    pub gateway: Str,
    /// Metrics.
    pub requests: Requests,
    /// Further tries that all requests together may make at a time.
    pub retries: tokio::sync::Semaphore,
}

/// One client's stream to one destination.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Who it is, proven by certificate.
    pub identity: Option<Identity>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// What telemetry calls it.
    pub party: Party,
    /// The service that was asked for.
    pub service: Option<Arc<Service>>,
    /// The workload that was asked for, if no service was.
    pub workload: Option<Endpoint>,
    /// The address that was asked for, if one was.
    pub address: Option<SocketAddr>,
    /// The port that was asked for.
    pub port: u16,
}

impl Connection {
    /// The service's key.
    pub fn key(&self) -> Option<NamespacedHostname> {
        self.service.as_ref().map(|service| service.key())
    }
}

impl Shared {
    /// Where a request is for policies.
    pub fn here<'a>(&'a self, service: Option<&'a NamespacedHostname>) -> Here<'a> {
        Here { namespace: &self.namespace, gateway: &self.gateway, service }
    }
}
