//! Where things are: addresses within a network, hostnames within a namespace.

use crate::Str;
use std::{fmt, net::IpAddr, str::FromStr};

/// An IP address within a named network; the name is empty on a mesh of one network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// Network id, usually empty.
    pub network: Str,
    /// The address.
    pub address: IpAddr,
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.address)
    }
}

/// An IP range within a named network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Network id, usually empty.
    pub network: Str,
    /// The range.
    pub range: ipnet::IpNet,
}

/// A service's key: `<namespace>/<hostname>`, which is also its xDS resource name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedHostname {
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Host name, such as `web.shop.svc.cluster.local`.
    pub hostname: Str,
}

impl fmt::Display for NamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl FromStr for NamespacedHostname {
    type Err = ();

    /// Exactly one slash, nothing empty around it.
    fn from_str(key: &str) -> Result<Self, ()> {
        match key.split_once('/') {
            Some((namespace, hostname)) if !namespace.is_empty() && !hostname.is_empty() && !hostname.contains('/') => {
                Ok(Self { namespace: namespace.into(), hostname: hostname.into() })
            }
            _ => Err(()),
        }
    }
}

/// How to reach a waypoint or a network gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// Which service or address it is.
    pub destination: GatewayDestination,
    /// Its HBONE port, 15008 as a rule.
    pub hbone_mtls_port: u16,
}

/// The two ways to name a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// By address; the family of the original destination is lost.
    Address(NetworkAddress),
    /// By service or workload hostname.
    Hostname(NamespacedHostname),
}

impl fmt::Display for GatewayDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname(hostname) => hostname.fmt(f),
        }
    }
}
