//! What every object carries: its name, its labels, its owners; and the conditions that a status reports.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use crate::macros::object;
use crate::time::Time;

object! {
    /// `metadata` of an object. An absent name, namespace, uid or version is the empty string.
    pub struct ObjectMeta {
        name: String,
        generate_name: String,
        namespace: String,
        uid: String,
        resource_version: String,
        generation: i64,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        deletion_grace_period_seconds: Option<i64>,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        owner_references: Vec<OwnerReference>,
        finalizers: Vec<String>,
        managed_fields: Vec<Value>,
    }

    /// The object that this one belongs to and is deleted with.
    pub struct OwnerReference {
        api_version: String,
        kind: String,
        name: String,
        uid: String,
        controller: bool,
        block_owner_deletion: Option<bool>,
    }

    /// `metadata` of a list.
    pub struct ListMeta {
        resource_version: String,
        #[serde(rename = "continue")]
        continue_token: String,
        remaining_item_count: Option<i64>,
    }

    /// One observation in a status (`metav1.Condition`, and the older forms that also probe and heartbeat).
    #[derive(JsonSchema)]
    pub struct Condition {
        #[serde(rename = "type")]
        #[schemars(extend("x-required" = true))]
        type_: String,
        #[schemars(extend("x-required" = true))]
        status: String,
        // istiod writes the number as text.
        #[serde(deserialize_with = "crate::int_or_string::number")]
        #[schemars(with = "crate::IntOrString")]
        observed_generation: i64,
        last_probe_time: Option<Time>,
        last_heartbeat_time: Option<Time>,
        last_update_time: Option<Time>,
        last_transition_time: Option<Time>,
        reason: String,
        message: String,
    }
}

impl ObjectMeta {
    /// Metadata of an object with this name, in this namespace (empty for a cluster-scoped one).
    pub fn named(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: namespace.into(), ..Self::default() }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// The owner that controls this object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

impl Condition {
    /// Whether the condition holds.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}
