//! The settings in the dump. Kiali decodes them with fixed types, so a key is either of upstream's type or left out.

use crate::config::{Config, ControlConfig, Mode};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// The effective settings, without secrets.
pub(super) fn config(config: &Config) -> Value {
    let Config { control, certificates, dns, tunnels, sockets, .. } = config;
    let own = config.own.as_ref();
    let workload = match &config.mode {
        Mode::Dedicated(workload) => Some(workload),
        Mode::Shared => None,
    };
    let mut dump = json!({
        "adminAddr": {"Localhost": [sockets.ipv6, config.admin_port]},
        "altCaHostname": certificates.authority.alt_hostname,
        "altXdsHostname": control.alt_hostname,
        "caAddress": certificates.authority.address,
        "caHeaders": headers(&certificates.authority),
        "caRootCert": root(&certificates.authority.root),
        "clusterDomain": &*config.cluster_domain,
        "clusterId": config.cluster_id,
        "connectionWindowSize": tunnels.connection_window,
        "crlPath": certificates.revocation_list,
        "dnsProxy": dns.enabled,
        "dnsProxyAddr": {"Localhost": [sockets.ipv6, dns.port]},
        "enableEnhancedBaggage": config.response_baggage,
        "fakeCa": certificates.fake,
        "fakeSelfInbound": false,
        "frameSize": tunnels.frame_size,
        "illegalPorts": config.illegal_ports(),
        "inboundAddr": wildcard(config, model::well_known::HBONE_PORT),
        "inboundPlaintextAddr": wildcard(config, model::well_known::INBOUND_PLAINTEXT_PORT),
        "inpodPortReuse": sockets.port_reuse,
        "inpodUds": config.inpod_uds,
        "ipv6Enabled": sockets.ipv6,
        "localNode": config.node.as_deref(),
        "localhostAppTunnel": config.localhost_app_tunnel,
        "network": &*config.network,
        "numWorkerThreads": config.worker_threads,
        "outboundAddr": wildcard(config, model::well_known::OUTBOUND_PORT),
    });
    let rest = json!({
        "packetMark": sockets.mark,
        "poolMaxStreamsPerConn": tunnels.max_streams,
        "poolUnusedReleaseTimeout": duration(tunnels.unused_release),
        "preferedServiceNamespace": dns.preferred_namespace.as_deref(),
        "proxy": config.proxy,
        "proxyArgs": config.arguments,
        "proxyMetadata": config.metadata,
        "proxyMode": if workload.is_some() { "Dedicated" } else { "Shared" },
        "proxyWorkloadInformation": workload.map(|workload| json!({
            "name": &*workload.name,
            "namespace": &*workload.namespace,
            "serviceAccount": &*workload.service_account,
        })),
        "readinessAddr": {"SocketAddr": wildcard(config, config.readiness_port)},
        "requireOriginalSource": null,
        "secretTtl": duration(certificates.ttl),
        "selfTerminationDeadline": duration(config.termination_deadline),
        "socketConfig": {
            "keepaliveEnabled": sockets.keepalive,
            "keepaliveInterval": duration(sockets.keepalive_interval),
            "keepaliveRetries": sockets.keepalive_retries,
            "keepaliveTime": duration(sockets.keepalive_time),
            "userTimeoutEnabled": sockets.user_timeout,
        },
        "socks5Addr": config.socks5.then(|| format!("127.0.0.1:{}", model::well_known::SOCKS5_PORT)),
        "statsAddr": {"SocketAddr": wildcard(config, config.stats_port)},
        "windowSize": tunnels.stream_window,
        "xdsAddress": control.address,
        "xdsHeaders": headers(control),
        "xdsOnDemand": config.on_demand,
        "xdsRootCert": root(&control.root),
        "ztunnelIdentity": own.map(|own| {
            format!("spiffe://{}/ns/{}/sa/{}", config.trust_domain, own.namespace, own.service_account)
        }),
        "ztunnelWorkload": own.map(|own| json!({
            "name": &*own.name,
            "namespace": &*own.namespace,
            "serviceAccount": &*own.service_account,
        })),
    });
    if let (Some(dump), Value::Object(rest)) = (dump.as_object_mut(), rest) {
        dump.extend(rest);
    }
    dump
}

fn wildcard(config: &Config, port: u16) -> String {
    let host = if config.sockets.ipv6 { "[::]" } else { "0.0.0.0" };
    format!("{host}:{port}")
}

fn duration(duration: Duration) -> Value {
    json!({"secs": duration.as_secs(), "nanos": duration.subsec_nanos()})
}

/// Names only: a header's value may be a secret.
fn headers(control: &ControlConfig) -> Value {
    control.headers.iter().map(|(name, _)| json!([name, "redacted"])).collect()
}

/// A path is shown, a certificate given inline is named as such.
fn root(root: &str) -> Value {
    if root.contains("-----BEGIN") && !Path::new(root).exists() {
        json!({"Static": "redacted"})
    } else {
        json!({"File": root})
    }
}
