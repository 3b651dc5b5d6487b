//! The reference of variables: what each means. `docs/reference/ztunnel-environment.md` is made from it.

use std::fmt::Write;

/// What is read by nobody here although charts or upstream's text name it, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("INPOD_ENABLED", "upstream's binary ignores it too: pods are always served from within"),
    ("RUST_BACKTRACE", "read by the language's runtime, not by the proxy"),
];

/// The page of the reference.
pub fn page() -> String {
    let mut page = String::from(
        "# Settings of the node proxy\n\n\
         Environment variables, read once at the start. A value that means nothing stops the start with an error that names the\n\
         variable. The mesh configuration file `./etc/istio/config/mesh` (`defaultConfig`) is read first, then `PROXY_CONFIG`, then\n\
         the variables; later ones win. Durations are written like `10s`, `5m`, `1h30m`.\n\n\
         | Variable | Default | Meaning |\n|---|---|---|\n",
    );
    for (name, default, meaning) in VARIABLES {
        let _: std::fmt::Result = writeln!(page, "| `{name}` | {default} | {meaning} |");
    }
    page.push_str("\nLeft out:\n\n");
    for (name, why) in LEFT_OUT {
        let _: std::fmt::Result = writeln!(page, "- `{name}`: {why}.");
    }
    page
}

/// Every variable that is looked at, in the order of the contract: name (a family of names ends in `*`), default (empty: not
/// set), meaning.
pub const VARIABLES: &[(&str, &str, &str)] = &[
    ("ENABLE_PROXY", "true", "connections are proxied; without it only DNS is served"),
    (
        "PROXY_MODE",
        "shared",
        "`shared`: every pod of the node, as the node agent says; `dedicated`: one workload, in whose place the proxy runs",
    ),
    ("PROXY_WORKLOAD_INFO", "", "`<namespace>/<name>/<service account>` of a dedicated proxy's workload"),
    ("NETWORK", "", "own network id; empty on a mesh of one network"),
    ("NODE_NAME", "", "own node: only its workloads are local; not set: all are"),
    ("CLUSTER_ID", "Kubernetes", "own cluster; ISTIO_META_CLUSTER_ID wins"),
    ("CLUSTER_DOMAIN", "cluster.local", "domain of cluster names in DNS"),
    ("TRUST_DOMAIN", "cluster.local", "trust domain of the proxy's own identity"),
    (
        "TRUST_DOMAIN_ALIASES",
        "",
        "further names of the mesh's trust domain, separated by commas: peers of either are believed (upstream knows none)",
    ),
    ("POD_NAME", "", "own pod; with the next two set the proxy serves itself on 15008, for scrapes through the mesh"),
    ("POD_NAMESPACE", "", "own namespace"),
    ("SERVICE_ACCOUNT", "", "own service account"),
    ("INSTANCE_IP", "1.1.1.1", "address in the node id"),
    ("KUBERNETES_SERVICE_HOST", "", "set inside a cluster; chooses the default control plane"),
    (
        "XDS_ADDRESS",
        "istiod.istio-system.svc:15012, or localhost:15012 outside a cluster",
        "control plane; empty: none",
    ),
    ("CA_ADDRESS", "as XDS_ADDRESS", "certificate authority"),
    ("XDS_ROOT_CA", "./var/run/secrets/istio/root-cert.pem", "root of the control plane: path, `SYSTEM` or PEM"),
    ("CA_ROOT_CA", "as XDS_ROOT_CA", "root of the certificate authority"),
    ("ALT_XDS_HOSTNAME", "", "second accepted name of the control plane"),
    ("ALT_CA_HOSTNAME", "", "second accepted name of the certificate authority"),
    ("AUTH_TOKEN", "./var/run/secrets/tokens/istio-token if present", "bearer token or its path"),
    ("XDS_HEADER_*", "", "further metadata of discovery requests"),
    ("CA_HEADER_*", "", "further metadata of certificate requests"),
    ("XDS_ON_DEMAND", "false", "addresses are asked for one by one, when they are needed; excludes DNS"),
    ("LOCAL_XDS_PATH", "", "YAML file of local workloads, services and policies, read once"),
    ("LOCAL_XDS", "", "the same inline; excludes the file"),
    ("PREFERED_SERVICE_NAMESPACE", "", "namespace that wins a tie in DNS (spelled as upstream does)"),
    ("SECRET_TTL", "24h", "certificate life to ask for"),
    (
        "FAKE_CA",
        "false",
        "for trials: certificates from an authority made at the start and known to nobody else, so that only workloads of this one proxy believe each other (upstream compiles in one key for everybody)",
    ),
    ("CRL_PATH", "", "revocation list, PEM or DER, read again when it changes"),
    ("COMPLIANCE_POLICY", "", "`pqc`: X25519MLKEM768 alone; it is preferred in any case"),
    ("TLS12_ENABLED", "false", "TLS 1.2 too"),
    ("POOL_MAX_STREAMS_PER_CONNECTION", "100", "streams per tunnel connection"),
    ("POOL_UNUSED_RELEASE_TIMEOUT", "5m", "life of an unused tunnel connection"),
    ("POD_MAX_CONNECTIONS", "32768", "captured connections of one pod at a time (upstream has no such limits)"),
    ("POD_MAX_HANDSHAKES", "256", "TLS handshakes with the peers of one pod at a time; one peer may have a quarter"),
    ("POD_MAX_STREAMS", "32768", "tunnels to one pod at a time; further ones are answered with 503"),
    (
        "POD_MAX_BUFFERED_BYTES",
        "1073741824",
        "bytes that peers may have in flight to one pod; near it, new tunnel connections get narrow windows",
    ),
    ("HTTP2_STREAM_WINDOW_SIZE", "4194304", "bytes"),
    ("HTTP2_CONNECTION_WINDOW_SIZE", "16777216", "bytes"),
    ("HTTP2_FRAME_SIZE", "1048576", "bytes"),
    (
        "HBONE_ENGINE",
        "own",
        "framing of tunnels: `own`, or `h2` for the `h2` crate's, which is slower (upstream knows only that)",
    ),
    (
        "SAME_NODE_TUNNEL",
        "never",
        "`always`: a tunnel between two pods of this node too; `never`: the proxy carries their bytes itself, by the same policies",
    ),
    ("CONNECTION_TERMINATION_DEADLINE", "", "time to drain; wins over the next"),
    ("TERMINATION_GRACE_PERIOD_SECONDS", "", "above 10: drain for 5 s less, else for 1 s less; neither set: 5 s"),
    (
        "ENABLE_ORIG_SRC",
        "",
        "keep the client's address towards the application; not set: when the kernel lets us; `true`: or refuse to start; `false`: never",
    ),
    ("PACKET_MARK", "1337; none when dedicated", "mark of the proxy's packets"),
    ("IPV6_ENABLED", "true", "IPv6 listeners and AAAA answers"),
    ("KEEPALIVE_ENABLED", "true", "TCP keepalive"),
    ("KEEPALIVE_TIME", "180s", "idle time before the first probe"),
    ("KEEPALIVE_INTERVAL", "180s", "time between probes"),
    ("KEEPALIVE_RETRIES", "9", "probes before giving up"),
    ("USER_TIMEOUT_ENABLED", "false", "TCP user timeout of the keepalive's whole time"),
    (
        "KEEPER_UDS",
        "",
        "the keeper's socket, for a proxy without rights; INPOD_UDS is the keeper's then; not set: one process with the rights",
    ),
    ("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "socket of the node agent"),
    ("INPOD_PORT_REUSE", "true", "listeners may overlap with another proxy's"),
    ("LOCALHOST_APP_TUNNEL", "true", "sandwiched applications are reached over loopback"),
    ("ENABLE_RESPONSE_BAGGAGE", "true", "baggage in 200 answers, and belief in that of unknown peers"),
    ("UNSTABLE_ENABLE_SOCKS5", "false", "SOCKS5 on localhost:15080 in the pods"),
    ("AUTHZ_POLICY_INFO_LOGGING", "false", "policy decisions are logged at info instead of debug"),
    (
        "ZTUNNEL_WORKER_THREADS",
        "a quarter of the cores, at least 2",
        "data-plane threads: a count, `N%`, 0 = all cores",
    ),
    ("ZTUNNEL_RESOURCE_CPU_LIMIT", "", "Kubernetes quantity that sizes the data plane"),
    ("ZTUNNEL_RESOURCE_CPU_REQUEST", "", "Kubernetes quantity that sizes the data plane"),
    ("ZTUNNEL_CPU_LIMIT", "", "cores, when no limit is given"),
    ("PROXY_CONFIG", "", "YAML: discoveryAddress, proxyAdminPort, statsPort, concurrency, proxyMetadata"),
    ("ISTIO_META_*", "", "metadata: DNS_CAPTURE, DNS_PROXY_ADDR, ISTIO_VERSION, CLUSTER_ID and whatever else"),
    ("ISTIO_METAJSON_*", "", "structured metadata"),
    ("RUST_LOG", "info", "log directives"),
    ("LOG_FORMAT", "plain", "`plain` or `json`"),
];
