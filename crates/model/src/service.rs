//! A service: a name with addresses and ports, backed by workloads (ztunnel.md §2.1, §6.1).

use crate::{Cidr, GatewayAddress, NamespacedHostname, NetworkAddress, Str};
use std::time::Duration;

/// One service, defaults filled in. Endpoints are not part of it: they are the workloads that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name, the first label of the hostname for Kubernetes services.
    pub name: Str,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Host name.
    pub hostname: Str,
    /// Exact virtual addresses.
    pub vips: Vec<NetworkAddress>,
    /// Virtual ranges.
    pub cidr_vips: Vec<Cidr>,
    /// Service port → target port; target 0 is named: look at the endpoint.
    pub ports: Vec<(u16, u16)>,
    /// Service port → what is spoken there, for the ports that say so.
    pub protocols: Vec<(u16, AppProtocol)>,
    /// Further identities that may answer for it.
    pub subject_alt_names: Vec<Str>,
    /// Waypoint for traffic addressed to it.
    pub waypoint: Option<GatewayAddress>,
    /// Waypoints to choose from by weight; goes before `waypoint`.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// How endpoints are chosen.
    pub load_balancing: Option<LoadBalancing>,
    /// Families it is served on.
    pub ip_families: Option<IpFamilies>,
    /// The real one when several share a hostname or address.
    pub canonical: bool,
    /// Ingress gateways send its traffic through the waypoint.
    pub ingress_use_waypoint: bool,
    /// Who may see it.
    pub visibility: Visibility,
    /// Kubernetes' `sessionAffinity: ClientIP`, if asked for.
    pub session_affinity: Option<SessionAffinity>,
}

impl Service {
    /// Its key and xDS resource name.
    pub fn key(&self) -> NamespacedHostname {
        NamespacedHostname { namespace: self.namespace.clone(), hostname: self.hostname.clone() }
    }

    /// The service's own target port for one of its ports; `Some(0)` means that the endpoint decides.
    pub fn target_port(&self, service_port: u16) -> Option<u16> {
        self.ports.iter().find(|(port, _)| *port == service_port).map(|(_, target)| *target)
    }
}

impl Service {
    /// What is spoken on one of its ports, if it says so.
    pub fn protocol(&self, service_port: u16) -> Option<AppProtocol> {
        self.protocols.iter().find(|(port, _)| *port == service_port).map(|(_, protocol)| *protocol)
    }
}

impl Default for Service {
    fn default() -> Self {
        let empty = Str::from("");
        Self {
            name: empty.clone(),
            namespace: empty.clone(),
            hostname: empty,
            vips: Vec::new(),
            cidr_vips: Vec::new(),
            ports: Vec::new(),
            protocols: Vec::new(),
            subject_alt_names: Vec::new(),
            waypoint: None,
            weighted_waypoints: Vec::new(),
            load_balancing: None,
            ip_families: None,
            canonical: false,
            ingress_use_waypoint: false,
            visibility: Visibility::Public,
            session_affinity: None,
        }
    }
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in plaintext.
    Http2,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
    /// TLS that only its ends can read.
    Tls,
}

/// One choice of a waypoint by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedWaypoint {
    /// Which waypoint.
    pub destination: GatewayAddress,
    /// Its share.
    pub weight: u32,
}

/// How endpoints are chosen (ztunnel.md §6.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadBalancing {
    /// What to prefer, most important first.
    pub routing_preferences: Vec<LoadBalancingScope>,
    /// What the preferences mean.
    pub mode: LoadBalancingMode,
    /// Whether unready endpoints count.
    pub health_policy: HealthPolicy,
}

/// What a locality preference compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadBalancingScope {
    /// Region.
    Region,
    /// Zone.
    Zone,
    /// Subzone.
    Subzone,
    /// Node.
    Node,
    /// Cluster.
    Cluster,
    /// Network.
    Network,
}

/// How preferences are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoadBalancingMode {
    /// All endpoints.
    #[default]
    Standard,
    /// Only endpoints that match every preference.
    Strict,
    /// Only endpoints of the best rank.
    Failover,
    /// The original destination, no choice at all.
    Passthrough,
}

/// Whether unready endpoints count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HealthPolicy {
    /// Only ready ones.
    #[default]
    OnlyHealthy,
    /// All.
    AllowAll,
}

/// Families a service is served on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Dual,
}

/// Who may see a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Every namespace.
    Public,
    /// Its own namespace.
    Namespace,
}

/// A client keeps its endpoint for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionAffinity {
    /// How long after its last connection a client keeps its endpoint.
    pub timeout: Duration,
}
