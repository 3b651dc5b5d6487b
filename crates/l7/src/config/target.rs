//! What policies cover: a service, everything through a gateway, or every waypoint of a namespace.

use super::Parent;
use model::{NamespacedHostname, Str};
use proto::l7 as wire;

/// Where a request is: which gateway or waypoint it passes, and which service it is for.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// The waypoint's or gateway's namespace.
    pub namespace: &'a str,
    /// The waypoint's or gateway's name.
    pub gateway: &'a str,
    /// The service that was addressed; `None` for workloads.
    pub service: Option<&'a NamespacedHostname>,
}

/// One thing that is covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A service.
    Service(NamespacedHostname),
    /// Everything that passes a gateway or waypoint.
    Gateway(Str, Str),
    /// Everything that passes any of a namespace; `*` for all.
    Namespace(Str),
}

impl Destination {
    /// Everything that the lists of a message name.
    pub(crate) fn all(parents: &[wire::Parent], namespaces: &[String]) -> Vec<Self> {
        let parents = parents.iter().filter_map(parent).map(|parent| match parent {
            Parent::Service(service) => Self::Service(service),
            Parent::Gateway((namespace, name)) => Self::Gateway(namespace, name),
        });
        parents.chain(namespaces.iter().map(|namespace| Self::Namespace(namespace.as_str().into()))).collect()
    }

    /// Whether it covers a place.
    pub(crate) fn covers(&self, here: &Here<'_>) -> bool {
        match self {
            Self::Service(service) => here.service == Some(service),
            Self::Gateway(namespace, name) => &**namespace == here.namespace && &**name == here.gateway,
            Self::Namespace(namespace) => &**namespace == "*" || &**namespace == here.namespace,
        }
    }
}

pub(super) fn parent(wire: &wire::Parent) -> Option<Parent> {
    Some(match wire.parent.as_ref()? {
        wire::parent::Parent::Service(service) => Parent::Service(key(service)),
        wire::parent::Parent::Gateway(gateway) => {
            Parent::Gateway((gateway.namespace.as_str().into(), gateway.name.as_str().into()))
        }
    })
}

pub(crate) fn key(service: &wire::ServiceKey) -> NamespacedHostname {
    NamespacedHostname { namespace: service.namespace.as_str().into(), hostname: service.hostname.as_str().into() }
}
