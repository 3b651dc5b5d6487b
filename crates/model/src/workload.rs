//! A workload: one pod, virtual machine or external endpoint (ztunnel.md §2.1).

use crate::{GatewayAddress, Identity, NamespacedHostname, Str};
use std::{collections::BTreeMap, net::IpAddr};

/// One workload, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Primary key and xDS resource name, `<cluster>//Pod/<namespace>/<name>` for a pod.
    pub uid: Str,
    /// Pod or entry name.
    pub name: Str,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Trust domain, `cluster.local` unless told otherwise.
    pub trust_domain: Str,
    /// Service account, `default` unless told otherwise.
    pub service_account: Str,
    /// Addresses, possibly none (hostname or gateway only).
    pub addresses: Vec<IpAddr>,
    /// DNS name to resolve when there is no address; empty otherwise.
    pub hostname: Str,
    /// Network id, usually empty.
    pub network: Str,
    /// How to speak to it.
    pub tunnel_protocol: TunnelProtocol,
    /// Whether its address is its own.
    pub network_mode: NetworkMode,
    /// It ends HBONE itself: nobody redirects for it.
    pub native_tunnel: bool,
    /// Waypoint for traffic addressed to the workload itself.
    pub waypoint: Option<GatewayAddress>,
    /// Gateway of its network.
    pub network_gateway: Option<GatewayAddress>,
    /// Node it runs on.
    pub node: Str,
    /// Name of the controller that owns it.
    pub workload_name: Str,
    /// Kind of the controller that owns it.
    pub workload_type: WorkloadType,
    /// Canonical service name, for telemetry.
    pub canonical_name: Str,
    /// Canonical revision, for telemetry.
    pub canonical_revision: Str,
    /// Cluster id.
    pub cluster_id: Str,
    /// Keys `<namespace>/<name>` of the policies that select it.
    pub authorization_policies: Vec<Str>,
    /// Whether it is ready.
    pub status: Health,
    /// Services it belongs to, and which port each of theirs means here.
    pub services: BTreeMap<NamespacedHostname, PortMap>,
    /// How an application behind the proxy wants its connections.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Where it runs.
    pub locality: Locality,
    /// Load-balancing weight; 0 is never chosen.
    pub capacity: u32,
}

impl Workload {
    /// The identity it proves by certificate.
    pub fn identity(&self) -> Identity {
        Identity {
            trust_domain: self.trust_domain.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }
}

impl Default for Workload {
    /// The defaults of ztunnel.md §1.6.
    fn default() -> Self {
        let empty = Str::from("");
        Self {
            uid: empty.clone(),
            name: empty.clone(),
            namespace: empty.clone(),
            trust_domain: crate::well_known::DEFAULT_TRUST_DOMAIN.into(),
            service_account: "default".into(),
            addresses: Vec::new(),
            hostname: empty.clone(),
            network: empty.clone(),
            tunnel_protocol: TunnelProtocol::None,
            network_mode: NetworkMode::Standard,
            native_tunnel: false,
            waypoint: None,
            network_gateway: None,
            node: empty.clone(),
            workload_name: empty.clone(),
            workload_type: WorkloadType::Deployment,
            canonical_name: empty.clone(),
            canonical_revision: empty,
            cluster_id: crate::well_known::DEFAULT_CLUSTER_ID.into(),
            authorization_policies: Vec::new(),
            status: Health::Healthy,
            services: BTreeMap::new(),
            application_tunnel: None,
            locality: Locality::default(),
            capacity: 1,
        }
    }
}

/// Service port → target port; 0 stands for "no such port here".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortMap(pub Vec<(u16, u16)>);

impl PortMap {
    /// The target port of a service port, if mapped.
    pub fn target(&self, service_port: u16) -> Option<u16> {
        self.0.iter().find(|(service, _)| *service == service_port).map(|(_, target)| *target).filter(|p| *p != 0)
    }
}

/// How a workload is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelProtocol {
    /// Plain TCP.
    None,
    /// HTTP CONNECT over mutual TLS on port 15008.
    Hbone,
}

/// Whether an address belongs to one workload alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// Its address is its own.
    Standard,
    /// It shares its node's address.
    HostNetwork,
}

/// Kind of owning controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadType {
    /// Deployment.
    Deployment,
    /// CronJob.
    CronJob,
    /// Bare pod.
    Pod,
    /// Job.
    Job,
}

impl WorkloadType {
    /// Lower-case name, as in labels, baggage keys and dumps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }
}

/// Readiness as the control plane reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Ready.
    Healthy,
    /// Not ready, or terminating.
    Unhealthy,
}

/// Where a workload runs; empty parts are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: Str,
    /// Zone.
    pub zone: Str,
    /// Subzone.
    pub subzone: Str,
}

/// How a proxy hands a connection to the application behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// What is written first.
    pub protocol: ApplicationTunnelProtocol,
    /// Port to use instead of the addressed one; `None` keeps that.
    pub port: Option<u16>,
}

/// What a proxy writes ahead of the connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApplicationTunnelProtocol {
    /// Nothing.
    None,
    /// A PROXY protocol version 2 header.
    Proxy,
}
