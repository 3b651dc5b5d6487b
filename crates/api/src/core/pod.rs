//! Pods: what is to run, and what does.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config::LocalObjectReference;
use super::container::Container;
use super::volume::Volume;
use crate::json::is_default;
use crate::macros::{object, resource, whole_object};
use crate::meta::{Condition, ObjectMeta};
use crate::time::Time;

object! {
    /// Containers that share a network namespace, an identity and a fate.
    pub struct Pod {
        metadata: ObjectMeta,
        spec: PodSpec,
        status: PodStatus,
    }

    /// What a controller's pods look like.
    pub struct PodTemplateSpec {
        metadata: ObjectMeta,
        spec: PodSpec,
    }

    /// What is to run.
    pub struct PodSpec {
        volumes: Vec<Volume>,
        init_containers: Vec<Container>,
        containers: Vec<Container>,
        ephemeral_containers: Vec<Value>,
        restart_policy: String,
        termination_grace_period_seconds: Option<i64>,
        active_deadline_seconds: Option<i64>,
        dns_policy: String,
        dns_config: Option<PodDnsConfig>,
        node_selector: BTreeMap<String, String>,
        service_account_name: String,
        service_account: String,
        automount_service_account_token: Option<bool>,
        node_name: String,
        host_network: bool,
        #[serde(rename = "hostPID")]
        host_pid: bool,
        #[serde(rename = "hostIPC")]
        host_ipc: bool,
        share_process_namespace: bool,
        security_context: Option<PodSecurityContext>,
        image_pull_secrets: Vec<LocalObjectReference>,
        hostname: String,
        subdomain: String,
        #[serde(rename = "setHostnameAsFQDN")]
        set_hostname_as_fqdn: bool,
        affinity: Option<Value>,
        topology_spread_constraints: Vec<Value>,
        scheduler_name: String,
        tolerations: Vec<Toleration>,
        host_aliases: Vec<HostAlias>,
        priority_class_name: String,
        priority: Option<i32>,
        readiness_gates: Vec<PodReadinessGate>,
        runtime_class_name: String,
        enable_service_links: Option<bool>,
        preemption_policy: String,
        overhead: BTreeMap<String, Value>,
        os: Option<Value>,
        scheduling_gates: Vec<Value>,
        resources: Option<Value>,
    }

    /// Rights that all containers of a pod have.
    pub struct PodSecurityContext {
        run_as_user: Option<i64>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        supplemental_groups: Vec<i64>,
        fs_group: Option<i64>,
        fs_group_change_policy: String,
        sysctls: Vec<Sysctl>,
        seccomp_profile: Option<Value>,
        app_armor_profile: Option<Value>,
        se_linux_options: Option<Value>,
    }

    /// A kernel setting of the pod's namespaces.
    pub struct Sysctl {
        name: String,
        value: String,
    }

    /// Resolver settings beside those of the DNS policy.
    pub struct PodDnsConfig {
        nameservers: Vec<String>,
        searches: Vec<String>,
        options: Vec<PodDnsConfigOption>,
    }

    /// An option of `/etc/resolv.conf`.
    pub struct PodDnsConfigOption {
        name: String,
        value: Option<String>,
    }

    /// A taint that the pod stands.
    pub struct Toleration {
        key: String,
        operator: String,
        value: String,
        effect: String,
        toleration_seconds: Option<i64>,
    }

    /// Lines of `/etc/hosts`.
    pub struct HostAlias {
        ip: String,
        hostnames: Vec<String>,
    }

    /// A condition that readiness also needs.
    pub struct PodReadinessGate {
        condition_type: String,
    }

    /// What runs.
    pub struct PodStatus {
        observed_generation: i64,
        phase: String,
        conditions: Vec<Condition>,
        message: String,
        reason: String,
        nominated_node_name: String,
        #[serde(rename = "hostIP")]
        host_ip: String,
        #[serde(rename = "hostIPs")]
        host_ips: Vec<HostIp>,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        start_time: Option<Time>,
        init_container_statuses: Vec<ContainerStatus>,
        container_statuses: Vec<ContainerStatus>,
        qos_class: String,
    }

    /// An address of the pod.
    pub struct PodIp {
        ip: String,
    }

    /// An address of the pod's node.
    pub struct HostIp {
        ip: String,
    }

    /// One of waiting, running and terminated.
    pub struct ContainerState {
        waiting: Option<ContainerStateWaiting>,
        running: Option<ContainerStateRunning>,
        terminated: Option<ContainerStateTerminated>,
    }

    /// Why a container does not run yet.
    pub struct ContainerStateWaiting {
        reason: String,
        message: String,
    }

    /// Since when a container runs.
    pub struct ContainerStateRunning {
        started_at: Option<Time>,
    }
}

whole_object! {
    /// How a container ended.
    pub struct ContainerStateTerminated {
        exit_code: i32,
        #[serde(skip_serializing_if = "is_default")]
        signal: i32,
        #[serde(skip_serializing_if = "is_default")]
        reason: String,
        #[serde(skip_serializing_if = "is_default")]
        message: String,
        #[serde(skip_serializing_if = "is_default")]
        started_at: Option<Time>,
        #[serde(skip_serializing_if = "is_default")]
        finished_at: Option<Time>,
        #[serde(rename = "containerID", skip_serializing_if = "is_default")]
        container_id: String,
    }

    /// How one container is doing.
    pub struct ContainerStatus {
        #[serde(skip_serializing_if = "is_default")]
        name: String,
        #[serde(skip_serializing_if = "is_default")]
        state: ContainerState,
        #[serde(skip_serializing_if = "is_default")]
        last_state: ContainerState,
        ready: bool,
        restart_count: i32,
        image: String,
        #[serde(rename = "imageID")]
        image_id: String,
        #[serde(skip_serializing_if = "is_default")]
        #[serde(rename = "containerID")]
        container_id: String,
        #[serde(skip_serializing_if = "is_default")]
        started: Option<bool>,
    }
}

resource!(Pod, "" / "v1", "pods", namespaced);

impl Pod {
    /// Whether the pod's `Ready` condition holds.
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.is_true())
    }

    /// Whether the pod has ended for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The account that the pod acts under.
    pub fn service_account(&self) -> &str {
        let spec = &self.spec;
        [&spec.service_account_name, &spec.service_account]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("default", String::as_str)
    }
}
