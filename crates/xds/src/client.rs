//! The delta xDS client of a proxy: asks for addresses and policies, hands every response to a [`Sink`], answers.
//!
//! [`State`] decides (no I/O, no clock), [`Client`] moves messages between it and a gRPC stream and reconnects for as
//! long as it lives. What the caller already has survives every disconnection: the sink is told of changes only.

mod backoff;
mod state;
mod stream;

pub use backoff::{Backoff, Ended};
pub use state::{Held, Reply, SharedHeld, State};
pub use stream::{Client, Demand, Handle, WaitError};

use crate::wds::Address;
use model::{Authorization, Str};
use proto::core::Node;

/// One change of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// Set or replace it.
    Upsert(T),
    /// Remove what has this resource name: a workload's uid, a service's or a policy's `<namespace>/<name>`. It may be
    /// a name that was asked for and never existed.
    Remove(Str),
}

/// Everything that one response says, in order: upserts, then removals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Workloads and services.
    Addresses(Vec<Change<Address>>),
    /// Policies.
    Authorizations(Vec<Change<Authorization>>),
}

/// An L7 resource under its resource name. What it means is the sink's business.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Its resource name.
    pub name: Str,
    /// The message.
    pub resource: proto::l7::Resource,
}

/// A resource that was not taken over, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its resource name.
    pub name: Str,
    /// The reason, which the server is told.
    pub reason: String,
}

/// What a client takes note of besides resources.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stream is open.
    Connected,
    /// A stream ended or could not be opened.
    Disconnected(&'a Ended),
    /// A response came.
    Received {
        /// Type of its resources.
        type_url: &'a str,
        /// Its size on the wire.
        bytes: usize,
    },
}

/// Who takes the resources over.
pub trait Sink: Send + 'static {
    /// Applies the whole of a response before returning; what is returned is refused and not remembered as held.
    fn apply(&mut self, batch: Batch) -> Vec<Rejection>;

    /// Applies L7 resources, by name; only for clients that ask for them ([`Config::l7`]).
    fn apply_l7(&mut self, changes: Vec<Change<Named>>) -> Vec<Rejection> {
        let _ = changes;
        Vec::new()
    }

    /// Takes note of an event, for metrics.
    fn observe(&mut self, event: Event<'_>) {
        let _ = event;
    }
}

/// What a client is.
#[derive(Debug, Clone)]
pub struct Config {
    /// How it introduces itself.
    pub node: Node,
    /// Addresses are asked for one by one as they are needed, not all at once.
    pub on_demand: bool,
    /// L7 resources are asked for, too.
    pub l7: bool,
    /// How long [`Demand::fetch`] waits for an answer.
    pub demand_timeout: std::time::Duration,
    /// What it holds already, from an earlier life.
    pub held: Held,
}

impl Config {
    /// A client that asks for everything.
    pub fn new(node: Node) -> Self {
        let demand_timeout = std::time::Duration::from_secs(5);
        Self { node, on_demand: false, l7: false, demand_timeout, held: Held::default() }
    }
}
