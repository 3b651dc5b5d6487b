//! Everything an L7 proxy was told, as one immutable snapshot: routes by parent, policies, destinations.
//!
//! [`Config::apply`] makes the next snapshot; only the tables of parents that a change concerns are made anew. A resource that
//! cannot be used is refused by name and the one before it stays; it never touches another.

mod apply;
mod target;

pub use apply::{Change, Refused};
pub(crate) use target::key;
pub use target::{Destination as Target, Here};

use crate::{
    authz::Policy,
    destination::Destination,
    route::{Route, Table},
};
use model::{NamespacedHostname, Str};
use std::{collections::HashMap, sync::Arc};

/// Why a resource cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadResource(pub String);

impl BadResource {
    /// A reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<crate::text::BadPattern> for BadResource {
    fn from(error: crate::text::BadPattern) -> Self {
        Self(error.to_string())
    }
}

/// A gateway: namespace and name.
pub type GatewayName = (Str, Str);

/// A snapshot. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Config {
    routes: HashMap<Str, Arc<Route>>,
    /// Names of the routes of each service and gateway.
    attached: HashMap<Parent, Vec<Str>>,
    services: HashMap<NamespacedHostname, Arc<ServiceRoutes>>,
    gateways: HashMap<GatewayName, Arc<Table>>,
    policies: HashMap<Str, Arc<Policy>>,
    destinations: HashMap<Str, Arc<Destination>>,
    by_service: HashMap<NamespacedHostname, Arc<Destination>>,
}

/// What something attaches to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Parent {
    Service(NamespacedHostname),
    Gateway(GatewayName),
}

/// The routes of a service: its own namespace's for everybody, others' for clients of theirs.
#[derive(Debug, Default)]
pub struct ServiceRoutes {
    producer: Table,
    consumers: HashMap<Str, Table>,
}

impl ServiceRoutes {
    /// The table that a client of a namespace sees, if one speaks of the port.
    pub fn table(&self, client: Option<&str>, port: u16) -> Option<&Table> {
        let consumer = client.and_then(|client| self.consumers.get(client));
        consumer.into_iter().chain([&self.producer]).find(|table| table.concerns(port))
    }
}

impl Config {
    /// The routes of a service.
    pub fn service_routes(&self, service: &NamespacedHostname) -> Option<&Arc<ServiceRoutes>> {
        self.services.get(service)
    }

    /// The routes of a gateway.
    pub fn gateway_routes(&self, gateway: &GatewayName) -> Option<&Arc<Table>> {
        self.gateways.get(gateway)
    }

    /// How traffic to a service is treated.
    pub fn destination(&self, service: &NamespacedHostname) -> Option<&Arc<Destination>> {
        self.by_service.get(service)
    }

    /// The policies that cover a place, by name.
    pub fn policies(&self, here: &Here<'_>) -> Vec<&Arc<Policy>> {
        let mut covering: Vec<_> = self.policies.values().filter(|policy| policy.covers(here)).collect();
        covering.sort_by(|one, two| one.key.cmp(&two.key));
        covering
    }

    /// Every route, policy and destination by name, for people who ask.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &Str)> {
        let of = |kind: &'static str| move |name| (kind, name);
        let routes = self.routes.keys().map(of("route"));
        let policies = self.policies.keys().map(of("policy"));
        routes.chain(policies).chain(self.destinations.keys().map(of("destination")))
    }
}
