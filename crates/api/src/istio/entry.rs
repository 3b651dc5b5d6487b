//! Services and workloads that no Kubernetes object stands for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reference::IstioStatus;
use crate::core::Probe;
use crate::macros::{object, resource};
use crate::meta::{Condition, ObjectMeta};

/// On which side of the mesh's border a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside.
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// How a service's addresses are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// The address that the client dialled.
    #[default]
    None,
    /// The endpoints that are written down or selected.
    Static,
    /// By DNS.
    Dns,
    /// By DNS, one address at a time.
    DnsRoundRobin,
    /// By DNS, of the host that the client named.
    DynamicDns,
}

object! {
    /// A service that no Kubernetes object stands for.
    pub struct ServiceEntry {
        metadata: ObjectMeta,
        spec: ServiceEntrySpec,
        status: ServiceEntryStatus,
    }

    /// Its hosts, ports and endpoints.
    #[derive(JsonSchema)]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "message": "only one of WorkloadSelector or Endpoints can be set",
            "rule": "(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1",
        },
        {
            "message": "NONE mode cannot set endpoints",
            "rule": "((has(self.resolution) ? self.resolution : \"NONE\") == \"NONE\") ? !has(self.endpoints) : true",
        },
        {
            "message": "CIDR addresses are allowed only for NONE/STATIC resolution types",
            "rule": "!((has(self.addresses) ? self.addresses : []).exists(k, k.contains(\"/\")) && !((has(self.resolution) ? self.resolution : \"NONE\") in [\"STATIC\", \"NONE\"]))",
        },
        {
            "message": "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
            "rule": "((has(self.resolution) ? self.resolution : \"\") == \"DNS_ROUND_ROBIN\") ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true",
        },
    ]))]
    pub struct ServiceEntrySpec {
        #[schemars(extend("x-required" = true), length(min = 1, max = 256))]
        hosts: Vec<String>,
        #[schemars(length(max = 256), inner(length(max = 64)))]
        addresses: Vec<String>,
        #[schemars(
            length(max = 256),
            extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
        )]
        ports: Vec<EntryPort>,
        location: Location,
        resolution: Resolution,
        #[schemars(length(max = 4096))]
        endpoints: Vec<WorkloadEntrySpec>,
        workload_selector: Option<EntrySelector>,
        export_to: Vec<String>,
        subject_alt_names: Vec<String>,
    }

    /// A port of a service entry.
    #[derive(JsonSchema)]
    pub struct EntryPort {
        #[schemars(extend("x-required" = true), range(min = 1, max = 65535))]
        number: u32,
        #[schemars(length(max = 256))]
        protocol: String,
        #[schemars(extend("x-required" = true), length(max = 256))]
        name: String,
        #[schemars(range(min = 1, max = 65535))]
        target_port: u32,
    }

    /// Pods and workload entries by label.
    #[derive(JsonSchema)]
    pub struct EntrySelector {
        #[schemars(extend("maxProperties" = 256))]
        labels: BTreeMap<String, String>,
    }

    /// Status of a service entry: conditions, and addresses that were allocated.
    pub struct ServiceEntryStatus {
        conditions: Vec<Condition>,
        addresses: Vec<ServiceEntryAddress>,
        #[serde(deserialize_with = "crate::int_or_string::number")]
        observed_generation: i64,
        validation_messages: Vec<Value>,
    }

    /// An allocated address.
    pub struct ServiceEntryAddress {
        value: String,
        host: String,
    }

    /// A workload outside Kubernetes.
    pub struct WorkloadEntry {
        metadata: ObjectMeta,
        spec: WorkloadEntrySpec,
        status: IstioStatus,
    }

    /// Its address, identity and place.
    #[derive(JsonSchema)]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "message": "UDS may not include ports",
            "rule": "(has(self.address) ? self.address : \"\").startsWith(\"unix://\") ? !has(self.ports) : true",
        },
    ]))]
    pub struct WorkloadEntrySpec {
        #[schemars(length(max = 256))]
        address: String,
        #[schemars(extend("maxProperties" = 128))]
        ports: BTreeMap<String, u32>,
        #[schemars(extend("maxProperties" = 256))]
        labels: BTreeMap<String, String>,
        #[schemars(length(max = 2048))]
        network: String,
        #[schemars(length(max = 2048))]
        locality: String,
        #[schemars(range(max = 4294967295u32))]
        weight: u32,
        #[schemars(length(max = 253))]
        service_account: String,
    }

    /// A pattern for workload entries.
    pub struct WorkloadGroup {
        metadata: ObjectMeta,
        spec: WorkloadGroupSpec,
        status: IstioStatus,
    }

    /// What its entries look like.
    #[derive(JsonSchema)]
    pub struct WorkloadGroupSpec {
        metadata: Option<WorkloadMetadata>,
        #[schemars(extend("x-required" = true))]
        template: WorkloadEntrySpec,
        #[schemars(with = "Option<serde_json::Map<String, Value>>")]
        probe: Option<Probe>,
    }

    /// Labels and annotations of a group's entries.
    #[derive(JsonSchema)]
    pub struct WorkloadMetadata {
        #[schemars(extend("maxProperties" = 256))]
        labels: BTreeMap<String, String>,
        #[schemars(extend("maxProperties" = 256))]
        annotations: BTreeMap<String, String>,
    }
}

resource!(ServiceEntry, "networking.istio.io" / "v1", "serviceentries", namespaced);
resource!(WorkloadEntry, "networking.istio.io" / "v1", "workloadentries", namespaced);
resource!(WorkloadGroup, "networking.istio.io" / "v1", "workloadgroups", namespaced);
