//! Configuration that pods read, and the account that they act under.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::macros::{object, resource};
use crate::meta::ObjectMeta;

object! {
    /// Text and bytes under names.
    pub struct ConfigMap {
        metadata: ObjectMeta,
        immutable: bool,
        data: BTreeMap<String, String>,
        binary_data: BTreeMap<String, String>,
    }

    /// Confidential bytes under names, base64 in `data`.
    pub struct Secret {
        metadata: ObjectMeta,
        immutable: bool,
        #[serde(rename = "type")]
        type_: String,
        data: BTreeMap<String, String>,
        string_data: BTreeMap<String, String>,
    }

    /// The account that a pod acts under.
    pub struct ServiceAccount {
        metadata: ObjectMeta,
        secrets: Vec<ObjectReference>,
        image_pull_secrets: Vec<LocalObjectReference>,
        automount_service_account_token: Option<bool>,
    }

    /// Any object, by kind and name.
    pub struct ObjectReference {
        api_version: String,
        kind: String,
        namespace: String,
        name: String,
        uid: String,
        resource_version: String,
        field_path: String,
    }

    /// An object of a known kind in the same namespace.
    pub struct LocalObjectReference {
        name: String,
    }
}

resource!(ConfigMap, "" / "v1", "configmaps", namespaced);
resource!(Secret, "" / "v1", "secrets", namespaced);
resource!(ServiceAccount, "" / "v1", "serviceaccounts", namespaced);

impl ConfigMap {
    /// The bytes under a name, from either map; `None` when absent or not base64.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        match self.data.get(key) {
            Some(text) => Some(text.clone().into_bytes()),
            None => STANDARD.decode(self.binary_data.get(key)?).ok(),
        }
    }
}

impl Secret {
    /// The bytes under a name; `None` when absent or not base64.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        match self.string_data.get(key) {
            Some(text) => Some(text.clone().into_bytes()),
            None => STANDARD.decode(self.data.get(key)?).ok(),
        }
    }

    /// Keeps bytes under a name.
    pub fn set(&mut self, key: impl Into<String>, bytes: &[u8]) {
        self.data.insert(key.into(), STANDARD.encode(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_returns_the_bytes_it_was_given() {
        let mut secret = Secret::default();
        secret.set("key", b"\x00value");
        assert_eq!(secret.data["key"], "AHZhbHVl");
        assert_eq!(secret.bytes("key").unwrap(), b"\x00value");
        assert_eq!(secret.bytes("other"), None);
    }
}
