//! What istio.io's policies share: whom they select, what they attach to, and what their status says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use crate::macros::object;
use crate::meta::Condition;

object! {
    /// Workloads by label; an empty selector selects all of the namespace.
    #[derive(JsonSchema)]
    pub struct WorkloadSelector {
        #[schemars(extend(
            "maxProperties" = 4096,
            "x-kubernetes-validations" = [
                {"message": "wildcard not allowed in label key match", "rule": "self.all(key, !key.contains(\"*\"))"},
                {"message": "key must not be empty", "rule": "self.all(key, key.size() != 0)"},
            ],
        ))]
        match_labels: BTreeMap<String, String>,
    }

    /// The waypoint, service or class that a policy attaches to.
    #[derive(JsonSchema)]
    pub struct PolicyTargetReference {
        #[schemars(length(max = 253))]
        group: String,
        #[schemars(extend("x-required" = true), length(min = 1, max = 63))]
        kind: String,
        #[schemars(extend("x-required" = true), length(min = 1, max = 253))]
        name: String,
        #[schemars(length(max = 0))]
        namespace: String,
    }

    /// Status of an istio.io resource.
    #[derive(JsonSchema)]
    pub struct IstioStatus {
        conditions: Vec<Condition>,
        #[serde(deserialize_with = "crate::int_or_string::number")]
        #[schemars(with = "crate::IntOrString")]
        observed_generation: i64,
        #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
        validation_messages: Vec<Value>,
    }
}

impl WorkloadSelector {
    /// Whether every label asked for is there.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
