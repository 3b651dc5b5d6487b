//! The mesh in nouns: identity, address, workload, service, policy, reason; and the lookups over them.
//!
//! Values only: no clock, no socket, no async. What a thing looks like on a wire is `xds`'s and `proto`'s business;
//! what a person writes about it is `api`'s.

mod address;
mod identity;
mod mesh;
mod policy;
mod reason;
mod service;
mod workload;

pub use address::{Cidr, GatewayAddress, GatewayDestination, NamespacedHostname, NetworkAddress};
pub use identity::{Identity, IdentityError};
pub use mesh::{Applicable, Change, Endpoint, Mesh};
pub use policy::{Action, Authorization, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch};
pub use reason::{Reason, ResponseFlag};
pub use service::{
    AppProtocol, HealthPolicy, IpFamilies, LoadBalancing, LoadBalancingMode, LoadBalancingScope, Service,
    SessionAffinity, Visibility, WeightedWaypoint,
};
pub use workload::{
    ApplicationTunnel, ApplicationTunnelProtocol, Health, Locality, NetworkMode, PortMap, TunnelProtocol, Workload,
    WorkloadType,
};

/// Shared text: names and hostnames are repeated in many places and never change.
pub type Str = std::sync::Arc<str>;

/// Ports, marks and names that every part of the mesh agrees on (ztunnel.md §0, §5.6; control-plane B5, A11).
pub mod well_known {
    /// Outbound capture in a pod.
    pub const OUTBOUND_PORT: u16 = 15001;
    /// Inbound plaintext capture in a pod.
    pub const INBOUND_PLAINTEXT_PORT: u16 = 15006;
    /// HBONE.
    pub const HBONE_PORT: u16 = 15008;
    /// DNS capture in a pod.
    pub const DNS_PORT: u16 = 15053;
    /// SOCKS5 in a pod.
    pub const SOCKS5_PORT: u16 = 15080;
    /// Admin interface of a proxy, on localhost.
    pub const ADMIN_PORT: u16 = 15000;
    /// Metrics of a proxy.
    pub const STATS_PORT: u16 = 15020;
    /// Readiness of a proxy.
    pub const READINESS_PORT: u16 = 15021;
    /// Packet mark of every socket that a node proxy opens.
    pub const PROXY_MARK: u32 = 0x539;
    /// Connection mark of what a node proxy delivered with a spoofed source.
    pub const INPOD_MARK: u32 = 0x111;
    /// The bits of a mark that are the mesh's.
    pub const MARK_MASK: u32 = 0xfff;
    /// Route table that brings replies to spoofed sources back to the proxy.
    pub const INPOD_ROUTE_TABLE: u32 = 100;
    /// Priority of the rule that looks up [`INPOD_ROUTE_TABLE`].
    pub const INPOD_RULE_PRIORITY: u32 = 32764;
    /// Source address of kubelet probes.
    pub const PROBE_SOURCE_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 7, 127);
    /// Source address of kubelet probes, IPv6.
    pub const PROBE_SOURCE_V6: std::net::Ipv6Addr =
        std::net::Ipv6Addr::new(0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff);
    /// Pod annotation that says how far enrolment got.
    pub const REDIRECTION_ANNOTATION: &str = "ambient.istio.io/redirection";
    /// Namespace and pod label that asks for enrolment.
    pub const DATAPLANE_MODE_LABEL: &str = "istio.io/dataplane-mode";
    /// Default trust domain.
    pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
    /// Default cluster id.
    pub const DEFAULT_CLUSTER_ID: &str = "Kubernetes";
    /// Default root namespace.
    pub const SYSTEM_NAMESPACE: &str = "istio-system";
    /// ConfigMap that carries the mesh's root certificate.
    pub const ROOT_CONFIG_MAP: &str = "istio-ca-root-cert";
    /// Audience of tokens for the control plane.
    pub const TOKEN_AUDIENCE: &str = "istio-ca";
}
