//! What the control plane is told: upstream's flags and environment, as far as they mean something here (control-plane A21).

use crate::{gateways, mesh_config::MeshConfig, settings::Mesh};
use clap::ArgAction;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Runs the control plane.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address of readiness and debug pages.
    #[arg(long = "httpAddr", default_value = ":8080", value_parser = address)]
    pub http: SocketAddr,
    /// Address of the webhooks.
    #[arg(long = "httpsAddr", default_value = ":15017", value_parser = address)]
    pub https: SocketAddr,
    /// Address of xDS without TLS or authentication; empty for none.
    #[arg(long = "grpcAddr", default_value = ":15010", value_parser = optional_address)]
    pub grpc: OptionalAddress,
    /// Address of xDS and the certificate authority.
    #[arg(long = "secureGRPCAddr", default_value = ":15012", value_parser = address)]
    pub secure_grpc: SocketAddr,
    /// Address of metrics and version.
    #[arg(long = "monitoringAddr", default_value = ":15014", value_parser = address)]
    pub monitoring: SocketAddr,
    /// The mesh's settings; while the file exists it goes before the ConfigMap.
    #[arg(long = "meshConfig", default_value = "./etc/istio/config/mesh")]
    pub mesh_config: PathBuf,
    /// A further ConfigMap of settings, under the mesh's own.
    #[arg(long, env = "SHARED_MESH_CONFIG")]
    pub shared_mesh_config: Option<String>,
    /// Resources are read from the YAML files of this folder, and no cluster is asked.
    #[arg(long = "configDir", alias = "config-dir")]
    pub config_dir: Option<PathBuf>,
    /// Suffix of service hostnames.
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// Cluster id.
    #[arg(long = "clusterID", env = "CLUSTER_ID", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Trust domain of every identity.
    #[arg(long, env = "TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
    /// Namespace of the control plane, and of policies for the whole mesh.
    #[arg(long, env = "POD_NAMESPACE", default_value = "istio-system")]
    pub namespace: String,
    /// Namespace of policies for the whole mesh, when it is another one.
    #[arg(skip)]
    pub root_namespace: Option<String>,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "istiod")]
    pub pod_name: String,
    /// Revision of this control plane.
    #[arg(long, env = "REVISION", default_value = "default")]
    pub revision: String,
    /// A kubeconfig file; without one the pod's own account, or the usual file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Audiences that callers' tokens may have.
    #[arg(long, env = "TOKEN_AUDIENCES", value_delimiter = ',', default_value = "istio-ca")]
    pub token_audiences: Vec<String>,
    /// Accounts, `<namespace>/<name>`, that may ask for certificates of the pods on their node.
    #[arg(long, env = "CA_TRUSTED_NODE_ACCOUNTS", value_delimiter = ',', default_value = "istio-system/ztunnel")]
    pub trusted_node_accounts: Vec<String>,
    /// Folder whose files, if there are any, are the certificate authority.
    #[arg(long = "ca-folder", env = "ROOT_CA_DIR", default_value = "/etc/cacerts")]
    pub ca_folder: PathBuf,
    /// `pqc` accepts the hybrid post-quantum key exchange alone; it is preferred in any case.
    #[arg(long, env = "COMPLIANCE_POLICY", default_value = "", value_parser = compliance)]
    pub compliance_policy: Compliance,
    /// Life of a certificate when none is asked for.
    #[arg(long, env = "DEFAULT_WORKLOAD_CERT_TTL", default_value = "24h", value_parser = duration)]
    pub default_certificate_life: Duration,
    /// Longest life of a certificate that may be asked for.
    #[arg(long, env = "MAX_WORKLOAD_CERT_TTL", default_value = "2160h", value_parser = duration)]
    pub max_certificate_life: Duration,
    /// A further hostname in the serving certificate.
    #[arg(long, env = "ISTIOD_CUSTOM_HOST")]
    pub custom_host: Option<String>,
    /// Several replicas agree on who writes.
    #[arg(long, env = "ENABLE_LEADER_ELECTION", default_value = "true", action = ArgAction::Set)]
    pub leader_election: bool,
    /// Conditions are written into the status of policies and services.
    #[arg(long, env = "AMBIENT_ENABLE_STATUS", default_value = "true", action = ArgAction::Set)]
    pub write_status: bool,
    /// Service entries without addresses are given some.
    #[arg(long, env = "PILOT_ENABLE_IP_AUTOALLOCATE", default_value = "true", action = ArgAction::Set)]
    pub allocate_addresses: bool,
    /// Gateways and waypoints are deployed for the classes of this control plane.
    #[arg(long, env = "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", default_value = "true", action = ArgAction::Set)]
    pub deploy_gateways: bool,
    /// Image of the gateways and waypoints that are deployed.
    #[arg(long, env = "PROXY_IMAGE", default_value = "ambit.local/ambit")]
    pub proxy_image: String,
    /// Replicas of a waypoint for which nobody says another number; without it whoever scales decides.
    #[arg(long, env = "PILOT_DEFAULT_WAYPOINT_REPLICAS")]
    pub waypoint_replicas: Option<u32>,
    /// Labels and annotations of a gateway are passed on to what is deployed for it.
    #[arg(long, env = "PILOT_ENABLE_GATEWAY_API_COPY_LABELS_ANNOTATIONS", default_value = "true", action = ArgAction::Set)]
    pub copy_gateway_metadata: bool,
    /// Nodes lose the taint `cni.istio.io/not-ready` when their agent is ready; needs the right to patch nodes.
    #[arg(long, env = "PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS", default_value = "false", action = ArgAction::Set)]
    pub untaint_nodes: bool,
    /// ValidatingWebhookConfiguration whose `caBundle` is kept right; empty for none, as no webhook is needed.
    #[arg(long, env = "VALIDATION_WEBHOOK_CONFIG_NAME", default_value = "")]
    pub webhook_configuration: String,
    /// Policies in dry run are sent to proxies.
    #[arg(long, env = "AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY", default_value = "false", action = ArgAction::Set)]
    pub dry_run_policies: bool,
    /// What a waypoint stands in front of lets in nobody but the waypoint.
    #[arg(long, env = "PILOT_AUTO_ALLOW_WAYPOINT_POLICY", default_value = "false", action = ArgAction::Set)]
    pub auto_allow_waypoint: bool,
    /// Service entries with a workloadSelector select pods.
    #[arg(long, env = "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS", default_value = "true", action = ArgAction::Set)]
    pub entries_select_pods: bool,
    /// Kubernetes services select workload entries.
    #[arg(long, env = "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES", default_value = "true", action = ArgAction::Set)]
    pub services_select_entries: bool,
    /// A caller's node metadata must agree with its credential.
    #[arg(long, env = "PILOT_ENABLE_XDS_IDENTITY_CHECK", default_value = "true", action = ArgAction::Set)]
    pub check_identity: bool,
    /// First requests of proxies that are answered at a time; 0 for twice the number of processors.
    #[arg(long, env = "PILOT_PUSH_THROTTLE", default_value = "0")]
    pub push_throttle: usize,
    /// How long it must be quiet before changes are acted on.
    #[arg(long, env = "PILOT_DEBOUNCE_AFTER", default_value = "10ms", value_parser = duration)]
    pub debounce_after: Duration,
    /// How long changes are gathered at most.
    #[arg(long, env = "PILOT_DEBOUNCE_MAX", default_value = "100ms", value_parser = duration)]
    pub debounce_max: Duration,
    /// About how long a proxy may stay on one connection; 0 for ever.
    #[arg(long = "keepaliveMaxServerConnectionAge", default_value = "30m", value_parser = duration)]
    pub max_connection_age: Duration,
    /// Time for connections to end at shutdown.
    #[arg(long = "shutdownDuration", default_value = "10s", value_parser = duration)]
    pub shutdown: Duration,
    /// Flags of upstream that mean nothing here.
    #[command(flatten)]
    pub ignored: Ignored,
}

/// Flags that installations pass and that mean nothing here: they are taken, so that the installation need not change.
#[derive(Debug, Clone, clap::Args)]
pub struct Ignored {
    /// Networks are told by labels
    #[arg(long = "networksConfig", hide = true)]
    networks: Option<String>,
    /// The only registry is Kubernetes
    #[arg(long, hide = true)]
    registries: Option<String>,
    /// Requests to the API are few
    #[arg(long = "kubernetesApiQPS", hide = true)]
    api_rate: Option<f64>,
    /// As above
    #[arg(long = "kubernetesApiBurst", hide = true)]
    api_burst: Option<u32>,
    /// TLS 1.3 is spoken, and nothing older
    #[arg(long = "tls-min-version", hide = true)]
    tls_version: Option<String>,
    /// The environment says what is logged
    #[arg(long = "log_output_level", hide = true)]
    log_level: Option<String>,
    /// As above
    #[arg(long = "log_as_json", hide = true, num_args = 0..=1)]
    log_as_json: Option<Option<bool>>,
    /// No taints are taken away
    #[arg(long = "cniNamespace", hide = true)]
    cni_namespace: Option<String>,
}

/// Which key exchanges the own listeners accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compliance {
    /// Classic ones, too.
    None,
    /// Only the hybrid post-quantum one.
    PostQuantum,
}

/// An address, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<SocketAddr>);

impl Args {
    /// These, with what the mesh's settings say about the same things.
    #[must_use]
    pub fn settled(mut self, settings: &MeshConfig) -> Self {
        if let Some(trust_domain) = settings.said("trustDomain") {
            trust_domain.clone_into(&mut self.trust_domain);
        }
        self.root_namespace = settings.said("rootNamespace").map(str::to_owned);
        self
    }

    /// What the resolution depends on.
    pub fn mesh(&self) -> Mesh {
        Mesh {
            cluster_id: self.cluster_id.clone(),
            trust_domain: self.trust_domain.clone(),
            root_namespace: self.root_namespace.clone().unwrap_or_else(|| self.namespace.clone()),
            domain: self.domain.clone(),
            dry_run_policies: self.dry_run_policies,
            allocate_addresses: self.allocate_addresses,
            auto_allow_waypoint: self.auto_allow_waypoint,
            entries_select_pods: self.entries_select_pods,
            services_select_entries: self.services_select_entries,
        }
    }

    /// What deployed gateways depend on.
    pub fn gateways(&self) -> gateways::Settings {
        gateways::Settings {
            namespace: self.namespace.clone(),
            waypoint_replicas: self.waypoint_replicas,
            copy_metadata: self.copy_gateway_metadata,
            ..gateways::Settings::of(self.mesh(), &self.revision, &self.proxy_image)
        }
    }

    /// Names of the serving certificate (control-plane A13).
    pub fn serving_names(&self) -> Vec<String> {
        let mut hosts = vec!["istiod".to_owned(), "istiod-remote".to_owned(), "istio-pilot".to_owned()];
        if self.revision != "default" && !self.revision.is_empty() {
            hosts.push(format!("istiod-{}", self.revision));
        }
        let service = |host: &String| {
            let name = format!("{host}.{}.svc", self.namespace);
            [format!("{name}.{}", self.domain), name]
        };
        hosts.iter().flat_map(service).chain(self.custom_host.clone()).collect()
    }
}

/// `:<port>` means every interface, as in upstream's flags.
fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| format!("{text:?} is not <address>:<port> or :<port>"))
}

fn optional_address(text: &str) -> Result<OptionalAddress, String> {
    if text.is_empty() {
        Ok(OptionalAddress(None))
    } else {
        address(text).map(|address| OptionalAddress(Some(address)))
    }
}

fn compliance(text: &str) -> Result<Compliance, String> {
    match text {
        "" => Ok(Compliance::None),
        "pqc" => Ok(Compliance::PostQuantum),
        other => Err(format!("{other:?} is not a policy that is known; the only one is pqc")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    runtime::settings::parse_duration(text).ok_or_else(|| format!("{text:?} is not a duration such as 24h or 90s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn upstreams_flags_are_understood() {
        let Command { args } = Command::parse_from(["control", "--grpcAddr=", "--monitoringAddr=:1", "--domain=mesh"]);
        assert_eq!(args.grpc, OptionalAddress(None));
        assert_eq!(args.monitoring, "0.0.0.0:1".parse().unwrap());
        assert_eq!(args.max_certificate_life, Duration::from_secs(90 * 86_400));
        assert!(args.serving_names().contains(&"istiod.istio-system.svc".to_owned()));
        assert!(args.serving_names().contains(&"istiod.istio-system.svc.mesh".to_owned()));
        // As the chart starts it.
        let Command { args } = Command::parse_from([
            "control",
            "--log_output_level=default:info",
            "--log_as_json",
            "--cniNamespace=kube-system",
        ]);
        let settings = MeshConfig::parse("trustDomain: td\nrootNamespace: config").unwrap();
        let mesh = args.settled(&settings).mesh();
        assert_eq!((mesh.trust_domain.as_str(), mesh.root_namespace.as_str()), ("td", "config"));
    }
}
