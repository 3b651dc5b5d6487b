//! The whole dump: the mesh, the settings, certificates, pods with their connections (ztunnel.md §12.3).

use super::{dump_config, dump_mesh};
use crate::{config::Mode, connections::Shown, proxy::Proxy};
use base64::{Engine, prelude::BASE64_STANDARD};
use identity::{CertificateInfo, CertificateState, Certificates};
use inpod::WorkloadInfo;
use jiff::Timestamp;
use model::Str;
use serde_json::{Map, Value, json};
use telemetry::access::Direction;

/// What `GET /config_dump` shows.
pub(super) fn dump(proxy: &Proxy, pending: &[(Str, WorkloadInfo)]) -> Value {
    let mesh = proxy.state.mesh();
    let mut dump = dump_mesh::mesh(&mesh);
    dump.insert("staticConfig".to_owned(), json!({"workloads": [], "policies": [], "services": []}));
    dump.insert("version".to_owned(), version(&proxy.config));
    dump.insert("config".to_owned(), dump_config::config(&proxy.config));
    dump.insert("certificates".to_owned(), certificates(&proxy.certificates));
    if proxy.config.mode == Mode::Shared {
        dump.insert("workloadState".to_owned(), pods(proxy, pending));
    }
    Value::Object(dump)
}

fn version(config: &crate::config::Config) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "gitRevision": option_env!("AMBIT_GIT_REVISION").unwrap_or("unknown"),
        "rustVersion": env!("CARGO_PKG_RUST_VERSION"),
        "buildProfile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "buildStatus": option_env!("AMBIT_BUILD_STATUS").unwrap_or("unknown"),
        "istioVersion": config.metadata.get("ISTIO_VERSION").map_or("unknown", String::as_str),
        "cryptoProvider": "tls-aws-lc",
    })
}

fn certificates(certificates: &Certificates) -> Value {
    let list = certificates.dump().into_iter().map(|(identity, state)| {
        let (chain, roots) = match &state {
            CertificateState::Available(certificate) => (chain(certificate.chain()), chain(certificate.roots())),
            CertificateState::Initializing(_) | CertificateState::Unavailable(_) => (json!([]), json!([])),
        };
        json!({
            "identity": identity.to_string(),
            "state": state.to_string(),
            "certChain": chain,
            "rootCerts": roots,
        })
    });
    Value::Array(list.collect())
}

fn chain(certificates: &[CertificateInfo]) -> Value {
    let list = certificates.iter().map(|certificate| {
        json!({
            "pem": BASE64_STANDARD.encode(&certificate.pem),
            "serialNumber": certificate.serial,
            "validFrom": seconds(certificate.validity.not_before),
            "expirationTime": seconds(certificate.validity.not_after),
        })
    });
    Value::Array(list.collect())
}

/// RFC 3339 in whole seconds.
fn seconds(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn pods(proxy: &Proxy, pending: &[(Str, WorkloadInfo)]) -> Value {
    let mut pods = Map::new();
    for (uid, info) in pending {
        pods.insert(uid.to_string(), json!({"state": "Pending", "info": self::info(info)}));
    }
    for (uid, (info, shards)) in &*proxy.pods.lock() {
        let shown: Vec<Shown> = shards.iter().flat_map(|connections| connections.shown()).collect();
        let of = |direction| {
            let list = shown.iter().filter(|shown| shown.direction == direction).map(connection);
            Value::Array(list.collect())
        };
        let connections = json!({"inbound": of(Direction::Inbound), "outbound": of(Direction::Outbound)});
        pods.insert(uid.to_string(), json!({"state": "Up", "connections": connections, "info": self::info(info)}));
    }
    Value::Object(pods)
}

fn info(info: &WorkloadInfo) -> Value {
    json!({"name": &*info.name, "namespace": &*info.namespace, "serviceAccount": &*info.service_account})
}

fn connection(shown: &Shown) -> Value {
    json!({
        "src": shown.source.to_string(),
        "originalDst": shown.original.as_deref(),
        "actualDst": shown.actual,
        "protocol": shown.protocol,
    })
}
