//! Settings of the node proxy: every variable of the contract, read once at the start into one immutable value.
//!
//! `environment` parses single values, `mesh_config` reads the two YAML documents, `sections` reads groups of values that
//! belong together, `threads` sizes the data plane and `reference` lists what each variable
//! means. Nothing here opens a socket.

mod environment;
mod mesh_config;
mod reference;
mod sections;
mod threads;

pub use environment::{ConfigError, Environment};
pub use reference::{VARIABLES, page};
pub use sections::QuotaConfig;

use inpod::{Capture, SocketConfig};
use mesh_config::ProxyConfig;
use model::{Str, well_known};
use sections::{log_format, mode, quotas, sockets, termination_deadline, tunnels, worker_threads};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

/// Everything that was decided before the first socket was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Words of the command line, for the dump.
    pub arguments: String,
    /// Whose proxy it is.
    pub mode: Mode,
    /// Whether connections are proxied at all.
    pub proxy: bool,
    /// Whether pods are offered SOCKS5.
    pub socks5: bool,
    /// Addresses are asked for one by one, when they are needed.
    pub on_demand: bool,
    /// Own network id; empty on a mesh of one network.
    pub network: Str,
    /// Own node; `None`: every workload is local.
    pub node: Option<Str>,
    /// Own cluster.
    pub cluster_id: String,
    /// DNS domain of the cluster.
    pub cluster_domain: Str,
    /// Trust domain of the proxy's own identity.
    pub trust_domain: Str,
    /// The proxy's own pod, if all of it is known.
    pub own: Option<OwnWorkload>,
    /// Pod name as given, possibly empty.
    pub pod_name: String,
    /// Pod namespace as given, possibly empty.
    pub pod_namespace: String,
    /// Address told to the control plane.
    pub instance_ip: String,
    /// How the control plane is reached.
    pub control: ControlConfig,
    /// How certificates are asked for.
    pub certificates: CertificateConfig,
    /// Workloads, services and policies from a file or a variable.
    pub local_xds: Option<LocalXds>,
    /// DNS in the pods.
    pub dns: DnsConfig,
    /// Tunnels.
    pub tunnels: TunnelConfig,
    /// What one pod may hold.
    pub quotas: QuotaConfig,
    /// Sockets.
    pub sockets: SocketConfig,
    /// Path of the node agent's socket.
    pub inpod_uds: PathBuf,
    /// Path of the keeper's socket; `None`: this process has the rights to serve pods by itself.
    pub keeper: Option<PathBuf>,
    /// Port of the admin interface on localhost.
    pub admin_port: u16,
    /// Port of the metrics.
    pub stats_port: u16,
    /// Port of the readiness check.
    pub readiness_port: u16,
    /// Data-plane threads.
    pub worker_threads: usize,
    /// How long a drain may take.
    pub termination_deadline: Duration,
    /// Matching policies are logged at info instead of debug.
    pub policy_info_logging: bool,
    /// `baggage` is sent with a 200 and believed when a peer is unknown.
    pub response_baggage: bool,
    /// Sandwiched applications are reached over loopback.
    pub localhost_app_tunnel: bool,
    /// Metadata told to the control plane, without prefixes.
    pub metadata: BTreeMap<String, String>,
    /// Structured metadata told to the control plane: names and JSON texts.
    pub json_metadata: BTreeMap<String, serde_json::Value>,
    /// Log directives.
    pub log_filter: String,
    /// One JSON object per log line.
    pub log_json: bool,
}

/// Whose proxy it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Every pod's of a node, as the node agent says.
    Shared,
    /// One workload's, in whose place it runs.
    Dedicated(OwnWorkload),
}

/// The pod that the proxy itself is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnWorkload {
    /// Pod name.
    pub name: Str,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Service account.
    pub service_account: Str,
}

/// One gRPC service of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlConfig {
    /// `https://…`; `None`: switched off.
    pub address: Option<String>,
    /// Where its root certificate comes from: a path, `SYSTEM`, or PEM.
    pub root: String,
    /// A second name that its certificate may carry.
    pub alt_hostname: Option<String>,
    /// Path of the token or the token itself; `None`: no token.
    pub token: Option<String>,
    /// Further request metadata.
    pub headers: Vec<(String, String)>,
}

/// The certificate authority and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateConfig {
    /// How the authority is reached.
    pub authority: ControlConfig,
    /// Certificates come from a throw-away authority inside the process instead.
    pub fake: bool,
    /// Further names of the mesh's trust domain.
    pub trust_domain_aliases: Vec<Str>,
    /// Life to ask for.
    pub ttl: Duration,
    /// TLS 1.2 is spoken too.
    pub tls12: bool,
    /// Only the hybrid post-quantum key exchange is agreed to.
    pub post_quantum_only: bool,
    /// File of revoked certificates.
    pub revocation_list: Option<PathBuf>,
}

/// Where local resources come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalXds {
    /// A YAML file, read once.
    Path(PathBuf),
    /// The YAML itself.
    Inline(String),
}

/// DNS in the pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Whether queries are captured.
    pub enabled: bool,
    /// Port of the DNS listeners.
    pub port: u16,
    /// Namespace whose services win a tie.
    pub preferred_namespace: Option<Str>,
    /// AAAA records are answered.
    pub ipv6: bool,
}

/// Tunnels: windows, pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelConfig {
    /// What does the framing.
    pub engine: hbone::Engine,
    /// Connections within the node take a tunnel, too.
    pub same_node: bool,
    /// Bytes a stream may have in flight.
    pub stream_window: u32,
    /// Bytes a connection may have in flight; more than a stream's.
    pub connection_window: u32,
    /// Largest frame.
    pub frame_size: u32,
    /// Streams on one pooled connection.
    pub max_streams: u32,
    /// How long an unused connection is kept.
    pub unused_release: Duration,
}

impl Config {
    /// Ports in a pod that must never be a destination of the proxy itself.
    pub fn illegal_ports(&self) -> &'static [u16] {
        const PORTS: [u16; 4] = [
            well_known::INBOUND_PLAINTEXT_PORT,
            well_known::HBONE_PORT,
            well_known::OUTBOUND_PORT,
            well_known::SOCKS5_PORT,
        ];
        if self.socks5 { &PORTS } else { &PORTS[..3] }
    }

    /// What of a pod is captured.
    pub fn capture(&self) -> Capture {
        let connections = self.proxy.then_some(self.worker_threads);
        Capture { connections, dns: self.dns.enabled.then_some(self.dns.port), socks: self.socks5 }
    }

    /// Reads everything; the first value that means nothing stops the start.
    pub fn read(environment: &Environment, arguments: &[String]) -> Result<Self, ConfigError> {
        let proxy_config = ProxyConfig::read(environment)?;
        let dns = dns(environment, &proxy_config)?;
        let proxy = environment.parse("ENABLE_PROXY", true)?;
        if !proxy && !dns.enabled {
            return conflict("ENABLE_PROXY=false and DNS capture off leave nothing to do; enable one of them");
        }
        let mode = mode(environment)?;
        let on_demand = environment.parse("XDS_ON_DEMAND", false)?;
        if on_demand && dns.enabled {
            return conflict(
                "XDS_ON_DEMAND=true leaves DNS without the names it answers; set ISTIO_META_DNS_CAPTURE=false",
            );
        }
        let cluster_id = proxy_config.metadata.get("CLUSTER_ID").cloned();
        let pod_name = environment.text("POD_NAME").unwrap_or_default();
        let pod_namespace = environment.text("POD_NAMESPACE").unwrap_or_default();
        let service_account = environment.text("SERVICE_ACCOUNT");
        let control = control(environment, &proxy_config, "XDS")?;
        Ok(Self {
            arguments: arguments.join(" "),
            proxy,
            socks5: proxy && environment.parse("UNSTABLE_ENABLE_SOCKS5", false)?,
            on_demand,
            network: environment.text("NETWORK").unwrap_or_default().into(),
            node: environment.text("NODE_NAME").map(Str::from),
            cluster_id: cluster_id
                .or_else(|| environment.text("CLUSTER_ID"))
                .unwrap_or_else(|| well_known::DEFAULT_CLUSTER_ID.to_owned()),
            cluster_domain: text_or(environment, "CLUSTER_DOMAIN", "cluster.local").into(),
            trust_domain: text_or(environment, "TRUST_DOMAIN", well_known::DEFAULT_TRUST_DOMAIN).into(),
            own: own(&pod_name, &pod_namespace, service_account),
            pod_name,
            pod_namespace,
            instance_ip: instance_ip(environment)?,
            control,
            certificates: CertificateConfig {
                authority: self::control(environment, &proxy_config, "CA")?,
                fake: environment.parse("FAKE_CA", false)?,
                trust_domain_aliases: aliases(environment),
                ttl: environment.duration("SECRET_TTL")?.unwrap_or(Duration::from_secs(86_400)),
                tls12: environment.parse("TLS12_ENABLED", false)?,
                post_quantum_only: environment.with("COMPLIANCE_POLICY", compliance)?.unwrap_or(false),
                revocation_list: environment.text("CRL_PATH").map(PathBuf::from),
            },
            local_xds: local_xds(environment)?,
            dns,
            tunnels: tunnels(environment)?,
            quotas: quotas(environment)?,
            sockets: sockets(environment, &mode)?,
            mode,
            inpod_uds: text_or(environment, "INPOD_UDS", "/var/run/ztunnel/ztunnel.sock").into(),
            keeper: environment.text("KEEPER_UDS").map(PathBuf::from),
            admin_port: proxy_config.admin_port.unwrap_or(well_known::ADMIN_PORT),
            stats_port: proxy_config.stats_port.unwrap_or(well_known::STATS_PORT),
            readiness_port: well_known::READINESS_PORT,
            worker_threads: worker_threads(environment, &proxy_config)?,
            termination_deadline: termination_deadline(environment)?,
            policy_info_logging: environment.parse("AUTHZ_POLICY_INFO_LOGGING", false)?,
            response_baggage: environment.parse("ENABLE_RESPONSE_BAGGAGE", true)?,
            localhost_app_tunnel: environment.parse("LOCALHOST_APP_TUNNEL", true)?,
            metadata: proxy_config.metadata,
            json_metadata: json_metadata(environment),
            log_filter: text_or(environment, "RUST_LOG", "info"),
            log_json: environment.with("LOG_FORMAT", log_format)?.unwrap_or(false),
        })
    }
}

fn conflict<T>(why: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Conflict(why.to_owned()))
}

fn text_or(environment: &Environment, name: &str, default: &str) -> String {
    environment.text(name).unwrap_or_else(|| default.to_owned())
}

/// `TRUST_DOMAIN_ALIASES`, separated by commas.
fn aliases(environment: &Environment) -> Vec<Str> {
    let text = environment.text("TRUST_DOMAIN_ALIASES").unwrap_or_default();
    text.split(',').map(str::trim).filter(|alias| !alias.is_empty()).map(Str::from).collect()
}

fn own(pod_name: &str, pod_namespace: &str, service_account: Option<String>) -> Option<OwnWorkload> {
    let service_account = service_account?;
    (!pod_name.is_empty() && !pod_namespace.is_empty()).then(|| OwnWorkload {
        name: pod_name.into(),
        namespace: pod_namespace.into(),
        service_account: service_account.into(),
    })
}

fn instance_ip(environment: &Environment) -> Result<String, ConfigError> {
    let read = |text: &str| text.parse::<IpAddr>().map_err(|error| error.to_string());
    Ok(environment.with("INSTANCE_IP", read)?.map_or_else(|| "1.1.1.1".to_owned(), |ip| ip.to_string()))
}

/// One service of the control plane; `prefix` is `XDS` or `CA`.
fn control(environment: &Environment, proxy_config: &ProxyConfig, prefix: &str) -> Result<ControlConfig, ConfigError> {
    let in_kubernetes = environment.text("KUBERNETES_SERVICE_HOST").is_some();
    let address = match environment.get(&format!("{prefix}_ADDRESS")).map(str::to_owned) {
        Some(given) => Some(given).filter(|address| !address.is_empty()),
        None => Some(proxy_config.discovery_address.clone().unwrap_or_else(|| {
            let host = if in_kubernetes { "istiod.istio-system.svc" } else { "localhost" };
            format!("{host}:15012")
        })),
    };
    let address = match address {
        Some(address) if address.contains("://") && !address.starts_with("https://") => {
            return Err(ConfigError::Conflict(format!("{prefix}_ADDRESS={address}: only https is spoken")));
        }
        Some(address) if !address.starts_with("https://") => Some(format!("https://{address}")),
        address => address,
    };
    let default_token = "./var/run/secrets/tokens/istio-token";
    let token = environment
        .text("AUTH_TOKEN")
        .or_else(|| std::path::Path::new(default_token).exists().then(|| default_token.to_owned()));
    Ok(ControlConfig {
        address,
        root: text_or(environment, &format!("{prefix}_ROOT_CA"), "./var/run/secrets/istio/root-cert.pem"),
        alt_hostname: environment.text(&format!("ALT_{prefix}_HOSTNAME")),
        token,
        headers: environment
            .with_prefix(&format!("{prefix}_HEADER_"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    })
}

fn local_xds(environment: &Environment) -> Result<Option<LocalXds>, ConfigError> {
    match (environment.text("LOCAL_XDS_PATH"), environment.text("LOCAL_XDS")) {
        (Some(_), Some(_)) => conflict("LOCAL_XDS_PATH and LOCAL_XDS exclude each other; unset one"),
        (Some(path), None) => Ok(Some(LocalXds::Path(path.into()))),
        (None, inline) => Ok(inline.map(LocalXds::Inline)),
    }
}

fn dns(environment: &Environment, proxy_config: &ProxyConfig) -> Result<DnsConfig, ConfigError> {
    let address = proxy_config.metadata.get("DNS_PROXY_ADDR");
    let port = address.map(|address| {
        let wrong = || ConfigError::Variable {
            name: "ISTIO_META_DNS_PROXY_ADDR".to_owned(),
            value: address.clone(),
            why: "it is localhost:<port>, the only place where pods can be served".to_owned(),
        };
        address.strip_prefix("localhost:").and_then(|port| port.parse().ok()).ok_or_else(wrong)
    });
    Ok(DnsConfig {
        enabled: proxy_config.metadata.get("DNS_CAPTURE").is_none_or(|value| value == "true"),
        port: port.transpose()?.unwrap_or(well_known::DNS_PORT),
        preferred_namespace: environment.text("PREFERED_SERVICE_NAMESPACE").map(Str::from),
        ipv6: environment.parse("IPV6_ENABLED", true)?,
    })
}

/// Entries that are no JSON are named in the log and left out, as upstream does.
fn json_metadata(environment: &Environment) -> BTreeMap<String, serde_json::Value> {
    let mut metadata = BTreeMap::new();
    for (name, text) in environment.with_prefix("ISTIO_METAJSON_") {
        match serde_json::from_str(text) {
            Ok(value) => {
                metadata.insert(name.to_owned(), value);
            }
            Err(error) => tracing::warn!(name, %error, "ISTIO_METAJSON_ entry is not JSON and is left out"),
        }
    }
    metadata
}

fn compliance(text: &str) -> Result<bool, String> {
    match text {
        "pqc" => Ok(true),
        _ => Err("the only policy is pqc".to_owned()),
    }
}

#[cfg(test)]
mod tests;
