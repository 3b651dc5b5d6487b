//! The mesh's proxy configuration, as far as a node proxy reads it: a file and a variable of the same YAML shape.

use super::environment::{ConfigError, Environment};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where the mesh configuration is mounted, relative to the working directory.
const MESH_CONFIG_PATH: &str = "./etc/istio/config/mesh";

/// What the two documents and `ISTIO_META_*` say together; later sources win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProxyConfig {
    pub discovery_address: Option<String>,
    pub admin_port: Option<u16>,
    pub stats_port: Option<u16>,
    pub concurrency: Option<u32>,
    /// Without the `ISTIO_META_` prefix.
    pub metadata: BTreeMap<String, String>,
}

impl ProxyConfig {
    /// Reads the mounted file (if there is one), then `PROXY_CONFIG`, then `ISTIO_META_*`.
    pub(super) fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        match std::fs::read_to_string(MESH_CONFIG_PATH) {
            Ok(text) => {
                let mesh = document(MESH_CONFIG_PATH, &text)?;
                config.merge(MESH_CONFIG_PATH, &mesh["defaultConfig"])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(ConfigError::Document { what: MESH_CONFIG_PATH.to_owned(), why: error.to_string() });
            }
        }
        if let Some(text) = environment.text("PROXY_CONFIG") {
            config.merge("PROXY_CONFIG", &document("PROXY_CONFIG", &text)?)?;
        }
        for (key, value) in environment.with_prefix("ISTIO_META_") {
            config.metadata.insert(key.to_owned(), value.to_owned());
        }
        Ok(config)
    }

    /// Lays one document over what is known so far.
    fn merge(&mut self, what: &str, document: &Value) -> Result<(), ConfigError> {
        if let Some(address) = document["discoveryAddress"].as_str() {
            self.discovery_address = Some(address.to_owned());
        }
        self.admin_port = number(what, document, "proxyAdminPort")?.or(self.admin_port);
        self.stats_port = number(what, document, "statsPort")?.or(self.stats_port);
        self.concurrency = number(what, document, "concurrency")?.or(self.concurrency);
        for (key, value) in document["proxyMetadata"].as_object().into_iter().flatten() {
            let key = key.strip_prefix("ISTIO_META_").unwrap_or(key);
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.metadata.insert(key.to_owned(), value);
        }
        Ok(())
    }
}

fn document(what: &str, text: &str) -> Result<Value, ConfigError> {
    api::yaml::read_value(text).map_err(|error| ConfigError::Document { what: what.to_owned(), why: error.to_string() })
}

fn number<T: TryFrom<u64>>(what: &str, document: &Value, key: &str) -> Result<Option<T>, ConfigError> {
    match &document[key] {
        Value::Null => Ok(None),
        value => {
            value.as_u64().and_then(|number| T::try_from(number).ok()).map(Some).ok_or_else(|| ConfigError::Document {
                what: what.to_owned(),
                why: format!("{key} is {value}, which is not a fitting number"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_win_and_metadata_loses_its_prefix() {
        let environment = Environment::from_iter([
            (
                "PROXY_CONFIG",
                "discoveryAddress: istiod-x:15012\nconcurrency: 3\nproxyMetadata:\n  ISTIO_META_A: one\n  B: two\n",
            ),
            ("ISTIO_META_B", "three"),
        ]);
        let config = ProxyConfig::read(&environment).unwrap();
        assert_eq!(config.discovery_address.as_deref(), Some("istiod-x:15012"));
        assert_eq!(config.concurrency, Some(3));
        let metadata: Vec<_> = config.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(metadata, [("A", "one"), ("B", "three")]);
    }

    #[test]
    fn a_port_that_is_none_stops_the_start() {
        let environment = Environment::from_iter([("PROXY_CONFIG", "statsPort: 99999")]);
        assert!(ProxyConfig::read(&environment).unwrap_err().to_string().contains("statsPort"));
    }
}
