//! A container: what it runs, with which environment, mounts, ports and rights.

use std::collections::BTreeMap;

use serde_json::Value;

use super::probe::{Lifecycle, Probe};
use crate::macros::object;

object! {
    /// A process of a pod.
    pub struct Container {
        name: String,
        image: String,
        image_pull_policy: String,
        command: Vec<String>,
        args: Vec<String>,
        working_dir: String,
        ports: Vec<ContainerPort>,
        env_from: Vec<EnvFromSource>,
        env: Vec<EnvVar>,
        resources: ResourceRequirements,
        restart_policy: String,
        volume_mounts: Vec<VolumeMount>,
        liveness_probe: Option<Probe>,
        readiness_probe: Option<Probe>,
        startup_probe: Option<Probe>,
        lifecycle: Option<Lifecycle>,
        termination_message_path: String,
        termination_message_policy: String,
        security_context: Option<SecurityContext>,
        stdin: bool,
        stdin_once: bool,
        tty: bool,
    }

    /// A port that a container listens on.
    pub struct ContainerPort {
        name: String,
        container_port: i32,
        host_port: i32,
        #[serde(rename = "hostIP")]
        host_ip: String,
        protocol: String,
    }

    /// Every entry of a ConfigMap or Secret as variables.
    pub struct EnvFromSource {
        prefix: String,
        config_map_ref: Option<ConfigMapEnvSource>,
        secret_ref: Option<ConfigMapEnvSource>,
    }

    /// The ConfigMap or Secret that variables come from.
    pub struct ConfigMapEnvSource {
        name: String,
        optional: bool,
    }

    /// An environment variable.
    pub struct EnvVar {
        name: String,
        value: String,
        value_from: Option<EnvVarSource>,
    }

    /// Where a variable's value comes from.
    pub struct EnvVarSource {
        field_ref: Option<ObjectFieldSelector>,
        resource_field_ref: Option<ResourceFieldSelector>,
        config_map_key_ref: Option<KeySelector>,
        secret_key_ref: Option<KeySelector>,
    }

    /// A field of the pod.
    pub struct ObjectFieldSelector {
        api_version: String,
        field_path: String,
    }

    /// A resource limit or request of a container.
    pub struct ResourceFieldSelector {
        container_name: String,
        resource: String,
        divisor: Option<Value>,
    }

    /// One entry of a ConfigMap or Secret.
    pub struct KeySelector {
        name: String,
        key: String,
        optional: bool,
    }

    /// Requests and limits, as quantities.
    pub struct ResourceRequirements {
        limits: BTreeMap<String, Value>,
        requests: BTreeMap<String, Value>,
        claims: Vec<Value>,
    }

    /// Where a volume appears in a container.
    pub struct VolumeMount {
        name: String,
        mount_path: String,
        sub_path: String,
        sub_path_expr: String,
        read_only: bool,
        mount_propagation: String,
    }

    /// Rights of a container; what is absent comes from the pod.
    pub struct SecurityContext {
        capabilities: Option<Capabilities>,
        privileged: Option<bool>,
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        read_only_root_filesystem: Option<bool>,
        allow_privilege_escalation: Option<bool>,
        proc_mount: String,
        seccomp_profile: Option<Value>,
        app_armor_profile: Option<Value>,
        se_linux_options: Option<Value>,
    }

    /// Capabilities added to and dropped from the default ones.
    pub struct Capabilities {
        add: Vec<String>,
        drop: Vec<String>,
    }
}
