//! Nodes and namespaces.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::macros::{object, resource};
use crate::meta::{Condition, ObjectMeta};
use crate::time::Time;

object! {
    /// A machine (or a part of one) that runs pods.
    pub struct Node {
        metadata: ObjectMeta,
        spec: NodeSpec,
        status: NodeStatus,
    }

    /// What a node is to be.
    pub struct NodeSpec {
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
        #[serde(rename = "providerID")]
        provider_id: String,
        unschedulable: bool,
        taints: Vec<Taint>,
    }

    /// What keeps pods off a node unless they tolerate it.
    pub struct Taint {
        key: String,
        value: String,
        effect: String,
        time_added: Option<Time>,
    }

    /// What a node is.
    pub struct NodeStatus {
        capacity: BTreeMap<String, Value>,
        allocatable: BTreeMap<String, Value>,
        phase: String,
        conditions: Vec<Condition>,
        addresses: Vec<NodeAddress>,
        daemon_endpoints: Option<NodeDaemonEndpoints>,
        node_info: NodeSystemInfo,
        images: Vec<Value>,
    }

    /// An address of a node.
    pub struct NodeAddress {
        #[serde(rename = "type")]
        type_: String,
        address: String,
    }

    /// Where the kubelet listens.
    pub struct NodeDaemonEndpoints {
        kubelet_endpoint: Option<Value>,
    }

    /// What runs a node.
    pub struct NodeSystemInfo {
        #[serde(rename = "machineID")]
        machine_id: String,
        #[serde(rename = "systemUUID")]
        system_uuid: String,
        #[serde(rename = "bootID")]
        boot_id: String,
        kernel_version: String,
        os_image: String,
        container_runtime_version: String,
        kubelet_version: String,
        kube_proxy_version: String,
        operating_system: String,
        architecture: String,
    }

    /// A room for names.
    pub struct Namespace {
        metadata: ObjectMeta,
        spec: NamespaceSpec,
        status: NamespaceStatus,
    }

    /// What must happen before a namespace goes.
    pub struct NamespaceSpec {
        finalizers: Vec<String>,
    }

    /// Whether a namespace is active or going.
    pub struct NamespaceStatus {
        phase: String,
        conditions: Vec<Condition>,
    }
}

resource!(Node, "" / "v1", "nodes", cluster);
resource!(Namespace, "" / "v1", "namespaces", cluster);
