//! The reference of variables: what each means, and whether it is honoured here or refused and why.

/// One variable of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name; a family of names ends in `*`.
    pub name: &'static str,
    /// Its meaning and default.
    pub meaning: &'static str,
    /// What this proxy does with it.
    pub support: Support,
}

/// What the proxy does with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It has its effect.
    Honoured,
    /// A value that asks for it stops the start, because running without it would be worse than not running.
    Refused,
}

const fn honoured(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, support: Support::Honoured }
}

const fn refused(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, support: Support::Refused }
}

/// Every variable that is looked at, in the order of the contract.
pub const VARIABLES: &[Variable] = &[
    honoured("ENABLE_PROXY", "connections are proxied (true)"),
    refused("PROXY_MODE", "shared (default); dedicated is not served"),
    refused("PROXY_WORKLOAD_INFO", "the workload of a dedicated proxy"),
    honoured("NETWORK", "own network id (empty)"),
    honoured("NODE_NAME", "own node: only its workloads are local"),
    honoured("CLUSTER_ID", "own cluster (Kubernetes); ISTIO_META_CLUSTER_ID wins"),
    honoured("CLUSTER_DOMAIN", "domain of cluster names in DNS (cluster.local)"),
    honoured("TRUST_DOMAIN", "trust domain of the proxy's own identity (cluster.local)"),
    honoured("POD_NAME", "own pod"),
    honoured("POD_NAMESPACE", "own namespace"),
    honoured("SERVICE_ACCOUNT", "own service account"),
    honoured("INSTANCE_IP", "address in the node id (1.1.1.1)"),
    honoured("KUBERNETES_SERVICE_HOST", "set inside a cluster; chooses the default control plane"),
    honoured("XDS_ADDRESS", "control plane (istiod.istio-system.svc:15012 or localhost:15012); empty: none"),
    honoured("CA_ADDRESS", "certificate authority; same default"),
    honoured("XDS_ROOT_CA", "root of the control plane: path, SYSTEM or PEM (./var/run/secrets/istio/root-cert.pem)"),
    honoured("CA_ROOT_CA", "root of the certificate authority; same default"),
    honoured("ALT_XDS_HOSTNAME", "second accepted name of the control plane"),
    honoured("ALT_CA_HOSTNAME", "second accepted name of the certificate authority"),
    honoured("AUTH_TOKEN", "bearer token or its path (./var/run/secrets/tokens/istio-token if present)"),
    honoured("XDS_HEADER_*", "further metadata of discovery requests"),
    honoured("CA_HEADER_*", "further metadata of certificate requests"),
    refused("XDS_ON_DEMAND", "workloads asked for one by one: until that is served, all are held"),
    honoured("LOCAL_XDS_PATH", "file of local workloads, services and policies"),
    honoured("LOCAL_XDS", "the same inline"),
    honoured("PREFERED_SERVICE_NAMESPACE", "namespace that wins a tie in DNS (spelled as upstream does)"),
    honoured("SECRET_TTL", "certificate life to ask for (24h)"),
    refused("FAKE_CA", "self-signed certificates of upstream's test builds"),
    honoured("CRL_PATH", "revocation list, read again when it changes"),
    honoured("COMPLIANCE_POLICY", "pqc: X25519MLKEM768 alone; it is preferred in any case"),
    honoured("TLS12_ENABLED", "TLS 1.2 too (false)"),
    honoured("POOL_MAX_STREAMS_PER_CONNECTION", "streams per tunnel connection (100)"),
    honoured("POOL_UNUSED_RELEASE_TIMEOUT", "life of an unused tunnel connection (5m)"),
    honoured("HTTP2_STREAM_WINDOW_SIZE", "bytes (4 MiB)"),
    honoured("HTTP2_CONNECTION_WINDOW_SIZE", "bytes (16 MiB)"),
    honoured("HTTP2_FRAME_SIZE", "bytes (1 MiB)"),
    honoured("CONNECTION_TERMINATION_DEADLINE", "drain time; wins over the next"),
    honoured("TERMINATION_GRACE_PERIOD_SECONDS", "above 10: drain 5 s less, else 1 s less (5 s when unset)"),
    honoured("ENABLE_ORIG_SRC", "keep the client's address towards the application (when possible)"),
    honoured("PACKET_MARK", "mark of the proxy's packets (1337)"),
    honoured("IPV6_ENABLED", "IPv6 listeners and AAAA answers (true)"),
    honoured("KEEPALIVE_ENABLED", "TCP keepalive (true)"),
    honoured("KEEPALIVE_TIME", "idle time before the first probe (180s)"),
    honoured("KEEPALIVE_INTERVAL", "time between probes (180s)"),
    honoured("KEEPALIVE_RETRIES", "probes before giving up (9)"),
    honoured("USER_TIMEOUT_ENABLED", "TCP user timeout (false)"),
    honoured("INPOD_UDS", "socket of the node agent (/var/run/ztunnel/ztunnel.sock)"),
    honoured("INPOD_PORT_REUSE", "listeners may overlap with another proxy's (true)"),
    honoured("LOCALHOST_APP_TUNNEL", "sandwiched applications are reached over loopback (true)"),
    honoured("ENABLE_RESPONSE_BAGGAGE", "baggage in 200 answers and from unknown peers (true)"),
    refused("UNSTABLE_ENABLE_SOCKS5", "SOCKS5 in the pods"),
    honoured("AUTHZ_POLICY_INFO_LOGGING", "policy decisions are logged at info (false)"),
    honoured("ZTUNNEL_WORKER_THREADS", "data-plane threads: count, N%, 0 = all cores"),
    honoured("ZTUNNEL_RESOURCE_CPU_LIMIT", "Kubernetes quantity that sizes the data plane"),
    honoured("ZTUNNEL_RESOURCE_CPU_REQUEST", "Kubernetes quantity that sizes the data plane"),
    honoured("ZTUNNEL_CPU_LIMIT", "cores, when no limit is given"),
    honoured("PROXY_CONFIG", "YAML: discoveryAddress, proxyAdminPort, statsPort, concurrency, proxyMetadata"),
    honoured("ISTIO_META_*", "metadata: DNS_CAPTURE, DNS_PROXY_ADDR, ISTIO_VERSION, CLUSTER_ID and whatever else"),
    honoured("ISTIO_METAJSON_*", "structured metadata"),
    honoured("RUST_LOG", "log directives (info)"),
    honoured("LOG_FORMAT", "plain (default) or json"),
];
