//! Files that a pod sees.

use serde_json::Value;

use super::container::{ObjectFieldSelector, ResourceFieldSelector};
use crate::macros::object;

object! {
    /// A volume; exactly one source is set, kinds that only a real cluster has are in [`Volume::other`].
    pub struct Volume {
        name: String,
        empty_dir: Option<EmptyDirVolumeSource>,
        host_path: Option<HostPathVolumeSource>,
        config_map: Option<ConfigMapVolumeSource>,
        secret: Option<SecretVolumeSource>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiVolumeSource>,
        projected: Option<ProjectedVolumeSource>,
        #[serde(flatten)]
        other: serde_json::Map<String, Value>,
    }

    /// An empty directory that lives as long as the pod.
    pub struct EmptyDirVolumeSource {
        medium: String,
        size_limit: Option<Value>,
    }

    /// A path of the node.
    pub struct HostPathVolumeSource {
        path: String,
        #[serde(rename = "type")]
        type_: String,
    }

    /// Entries of a ConfigMap as files.
    pub struct ConfigMapVolumeSource {
        name: String,
        items: Vec<KeyToPath>,
        default_mode: Option<i32>,
        optional: bool,
    }

    /// Entries of a Secret as files.
    pub struct SecretVolumeSource {
        secret_name: String,
        items: Vec<KeyToPath>,
        default_mode: Option<i32>,
        optional: bool,
    }

    /// Fields of the pod as files.
    pub struct DownwardApiVolumeSource {
        items: Vec<DownwardApiVolumeFile>,
        default_mode: Option<i32>,
    }

    /// Several sources in one directory.
    pub struct ProjectedVolumeSource {
        sources: Vec<VolumeProjection>,
        default_mode: Option<i32>,
    }

    /// One source of a projected volume.
    pub struct VolumeProjection {
        config_map: Option<ConfigMapProjection>,
        secret: Option<SecretProjection>,
        #[serde(rename = "downwardAPI")]
        downward_api: Option<DownwardApiProjection>,
        service_account_token: Option<ServiceAccountTokenProjection>,
        cluster_trust_bundle: Option<Value>,
    }

    /// Entries of a ConfigMap.
    pub struct ConfigMapProjection {
        name: String,
        items: Vec<KeyToPath>,
        optional: bool,
    }

    /// Entries of a Secret.
    pub struct SecretProjection {
        name: String,
        items: Vec<KeyToPath>,
        optional: bool,
    }

    /// Fields of the pod.
    pub struct DownwardApiProjection {
        items: Vec<DownwardApiVolumeFile>,
    }

    /// A token of the pod's service account, renewed before it expires.
    pub struct ServiceAccountTokenProjection {
        audience: String,
        expiration_seconds: Option<i64>,
        path: String,
    }

    /// An entry and the file it becomes.
    pub struct KeyToPath {
        key: String,
        path: String,
        mode: Option<i32>,
    }

    /// A field and the file it becomes.
    pub struct DownwardApiVolumeFile {
        path: String,
        field_ref: Option<ObjectFieldSelector>,
        resource_field_ref: Option<ResourceFieldSelector>,
        mode: Option<i32>,
    }
}
