//! Settings of the waypoint, from the environment that the control plane's template writes (control-plane A14).

use model::{Identity, IdentityError, Str, well_known};
use runtime::settings::{Problems, Settings};
use std::{net::IpAddr, path::PathBuf, time::Duration};

/// Everything that is decided before the first socket is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Own identity.
    pub identity: Identity,
    /// Name of the gateway that this is.
    pub gateway: Str,
    /// Own pod.
    pub pod: String,
    /// Own address.
    pub address: IpAddr,
    /// Own network; empty on a mesh of one.
    pub network: Str,
    /// Own node.
    pub node: String,
    /// Own cluster.
    pub cluster: String,
    /// The control plane, for resources.
    pub xds: String,
    /// The control plane, for certificates.
    pub authority: String,
    /// File of the token.
    pub token: PathBuf,
    /// File of the control plane's root certificate.
    pub root: PathBuf,
    /// Data-plane threads.
    pub threads: usize,
    /// How long a drain may take.
    pub drain: Duration,
    /// Port of the tunnels.
    pub hbone_port: u16,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Some values mean nothing.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// Namespace and service account make no identity.
    #[error("POD_NAMESPACE and SERVICE_ACCOUNT must say who this waypoint is: {0}")]
    Identity(#[from] IdentityError),
}

impl Config {
    /// Reads them.
    pub fn read(mut from: Settings) -> Result<Self, ConfigError> {
        let namespace = from.text("POD_NAMESPACE", "");
        let account = from.optional("SERVICE_ACCOUNT").or_else(|| from.optional("ISTIO_META_SERVICE_ACCOUNT"));
        let trust_domain = from.text("TRUST_DOMAIN", well_known::DEFAULT_TRUST_DOMAIN);
        let identity = Identity::new(trust_domain, namespace, account.unwrap_or_default())?;
        let pod = from.text("POD_NAME", "");
        let gateway = from.optional("GATEWAY_NAME").or_else(|| from.optional("ISTIO_META_WORKLOAD_NAME"));
        let authority = from.optional("CA_ADDR").or_else(|| from.optional("CA_ADDRESS"));
        let authority = authority.unwrap_or_else(|| "istiod.istio-system.svc:15012".to_owned());
        let xds = from.optional("XDS_ADDRESS").or_else(|| discovery_address(&from.text("PROXY_CONFIG", "")));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limit = from.parsed("ISTIO_CPU_LIMIT", cores, "a number of cores");
        let config = Self {
            gateway: gateway.unwrap_or_else(|| identity.service_account.to_string()).into(),
            address: from.parsed("INSTANCE_IP", IpAddr::from([127, 0, 0, 1]), "an address"),
            network: from.text("ISTIO_META_NETWORK", "").into(),
            node: from.text("ISTIO_META_NODE_NAME", ""),
            cluster: from.text("ISTIO_META_CLUSTER_ID", well_known::DEFAULT_CLUSTER_ID),
            xds: xds.unwrap_or_else(|| authority.clone()),
            token: from.text("TOKEN_FILE", "/var/run/secrets/tokens/istio-token").into(),
            root: from.text("ROOT_FILE", "/var/run/secrets/istio/root-cert.pem").into(),
            threads: limit.clamp(1, cores),
            drain: from.duration("TERMINATION_DRAIN_DURATION", Duration::from_secs(5)),
            hbone_port: well_known::HBONE_PORT,
            authority,
            identity,
            pod,
        };
        from.finish()?;
        Ok(config)
    }
}

/// `discoveryAddress` of the mesh's proxy configuration, as JSON.
fn discovery_address(text: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    document.get("discoveryAddress")?.as_str().filter(|address| !address.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_environment_is_understood() {
        let pairs = [
            ("POD_NAMESPACE", "shop"),
            ("SERVICE_ACCOUNT", "waypoint"),
            ("ISTIO_META_WORKLOAD_NAME", "waypoint"),
            ("INSTANCE_IP", "10.244.1.9"),
            ("CA_ADDR", "istiod.istio-system.svc:15012"),
            ("PROXY_CONFIG", "{}"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::read(Settings::from_pairs(pairs)).unwrap();
        assert_eq!(config.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/waypoint");
        assert_eq!((&*config.gateway, config.xds.as_str()), ("waypoint", "istiod.istio-system.svc:15012"));
    }

    #[test]
    fn without_a_name_there_is_no_waypoint() {
        let error = Config::read(Settings::from_pairs([])).unwrap_err().to_string();
        assert!(error.starts_with("POD_NAMESPACE and SERVICE_ACCOUNT must say"), "{error}");
    }
}
