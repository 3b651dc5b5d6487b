//! Kubeconfig files for one user of one server.

use base64::{Engine, prelude::BASE64_STANDARD};

/// The file by which `kubectl` and everything like it reaches `server` with a client certificate; all three PEM.
pub fn kubeconfig(server: &str, authority: &str, certificate: &str, key: &str) -> String {
    let data = |pem: &str| BASE64_STANDARD.encode(pem);
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "ambit", "cluster": {"server": server, "certificate-authority-data": data(authority)}}],
        "users": [{"name": "ambit", "user": {
            "client-certificate-data": data(certificate),
            "client-key-data": data(key),
        }}],
        "contexts": [{"name": "ambit", "context": {"cluster": "ambit", "user": "ambit"}}],
        "current-context": "ambit",
    });
    format!("{config:#}\n")
}
