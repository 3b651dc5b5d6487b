//! What the agent is told at its start, by flags or by the environment names of the Helm chart.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser, Subcommand};

/// The node role's command line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which of its two programs.
    #[command(subcommand)]
    pub command: Command,
}

/// The node role's programs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol the pods of this node
    Agent(Box<AgentArgs>),
    /// The CNI plugin, as the kubelet calls it
    Plugin,
}

/// Settings of the agent.
#[derive(Debug, Clone, Parser)]
pub struct AgentArgs {
    /// The node whose pods are enrolled
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// The namespace that the agent runs in
    #[arg(long, env = "POD_NAMESPACE", default_value = "istio-system")]
    pub pod_namespace: String,
    /// The agent's own pod
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod_name: String,
    /// Namespaces whose pods are never enrolled
    #[arg(long, env = "EXCLUDE_NAMESPACES", default_value = "kube-system", value_delimiter = ',')]
    pub exclude_namespaces: Vec<String>,
    /// Which pods are enrolled: a YAML list of podSelector and namespaceSelector
    #[arg(long, env = "AMBIENT_ENABLEMENT_SELECTOR", default_value = "")]
    pub enablement_selector: String,
    /// Capture DNS of pods that do not say otherwise
    #[arg(long, env = "AMBIENT_DNS_CAPTURE", default_value_t = true, action = ArgAction::Set)]
    pub dns_capture: bool,
    /// Capture IPv6 as well
    #[arg(long, env = "AMBIENT_IPV6", default_value_t = true, action = ArgAction::Set)]
    pub ipv6: bool,
    /// The configuration file to join; the first valid one when empty
    #[arg(long, env = "CNI_CONF_NAME", default_value = "")]
    pub conf_name: String,
    /// Let the group read a configuration file that the agent creates
    #[arg(long, env = "CNI_CONF_GROUP_READ", default_value_t = false, action = ArgAction::Set)]
    pub conf_group_read: bool,
    /// Folder of CNI configurations
    #[arg(long, env = "MOUNTED_CNI_NET_DIR", default_value = "/etc/cni/net.d")]
    pub net_dir: PathBuf,
    /// Folder of CNI plugins
    #[arg(long, env = "CNI_BIN_DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
    /// Where the kubelet already finds this program: the plugin is then a link to it and not a copy
    #[arg(long, env = "CNI_PLUGIN_LINK")]
    pub plugin_link: Option<PathBuf>,
    /// Folder of the agent's sockets
    #[arg(long, env = "CNI_AGENT_RUN_DIR", default_value = "/var/run/istio-cni")]
    pub run_dir: PathBuf,
    /// Where node proxies connect
    #[arg(long, env = "ZTUNNEL_UDS_ADDRESS", default_value = "/var/run/ztunnel/ztunnel.sock")]
    pub proxy_socket: PathBuf,
    /// Where the node's own probes come from, IPv4
    #[arg(long, env = "HOST_PROBE_SNAT_IP", default_value = "169.254.7.127")]
    pub probe_v4: std::net::Ipv4Addr,
    /// Where the node's own probes come from, IPv6
    #[arg(long, env = "HOST_PROBE_SNAT_IPV6", default_value = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff")]
    pub probe_v6: std::net::Ipv6Addr,
    /// Port of readiness
    #[arg(long, env = "CNI_READY_PORT", default_value_t = 8000)]
    pub ready_port: u16,
    /// Port of metrics
    #[arg(long, env = "MONITORING_PORT", default_value_t = 15014)]
    pub monitoring_port: u16,
}

/// A path of the host as this container sees it: below `/host` where the chart mounts it there.
pub(crate) fn on_host(path: &Path) -> PathBuf {
    let below = Path::new("/host").join(path.strip_prefix("/").unwrap_or(path));
    if below.exists() { below } else { path.to_owned() }
}
