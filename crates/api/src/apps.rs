//! The apps group: controllers that keep pods running; and what decides on the number of those pods.

use serde_json::Value;

use crate::core::PodTemplateSpec;
use crate::int_or_string::IntOrString;
use crate::json::is_default;
use crate::macros::{object, opaque, resource, whole_object};
use crate::meta::{Condition, ObjectMeta};
use crate::selector::LabelSelector;

object! {
    /// Replicas of a pod, renewed step by step.
    pub struct Deployment {
        metadata: ObjectMeta,
        spec: DeploymentSpec,
        status: DeploymentStatus,
    }

    /// How many replicas, of what, and how they are renewed.
    pub struct DeploymentSpec {
        replicas: Option<i32>,
        selector: LabelSelector,
        template: PodTemplateSpec,
        strategy: UpdateStrategy,
        min_ready_seconds: i32,
        revision_history_limit: Option<i32>,
        progress_deadline_seconds: Option<i32>,
        paused: bool,
    }

    /// How pods are replaced.
    pub struct UpdateStrategy {
        #[serde(rename = "type")]
        type_: String,
        rolling_update: Option<RollingUpdate>,
    }

    /// How many pods may be missing or extra while they are replaced.
    pub struct RollingUpdate {
        max_unavailable: Option<IntOrString>,
        max_surge: Option<IntOrString>,
    }

    /// How far a deployment got.
    pub struct DeploymentStatus {
        observed_generation: i64,
        replicas: i32,
        updated_replicas: i32,
        ready_replicas: i32,
        available_replicas: i32,
        unavailable_replicas: i32,
        conditions: Vec<Condition>,
        collision_count: Option<i32>,
    }

    /// Replicas of one version of a pod.
    pub struct ReplicaSet {
        metadata: ObjectMeta,
        spec: ReplicaSetSpec,
        status: ReplicaSetStatus,
    }

    /// How many replicas, of what.
    pub struct ReplicaSetSpec {
        replicas: Option<i32>,
        min_ready_seconds: i32,
        selector: LabelSelector,
        template: PodTemplateSpec,
    }

    /// One pod on every node that fits.
    pub struct DaemonSet {
        metadata: ObjectMeta,
        spec: DaemonSetSpec,
        status: DaemonSetStatus,
    }

    /// What runs on every node, and how it is renewed.
    pub struct DaemonSetSpec {
        selector: LabelSelector,
        template: PodTemplateSpec,
        update_strategy: UpdateStrategy,
        min_ready_seconds: i32,
        revision_history_limit: Option<i32>,
    }

    /// A version of a controller's template.
    pub struct ControllerRevision {
        metadata: ObjectMeta,
        data: Value,
        revision: i64,
    }
}

whole_object! {
    /// How many replicas there are.
    pub struct ReplicaSetStatus {
        replicas: i32,
        #[serde(skip_serializing_if = "is_default")]
        fully_labeled_replicas: i32,
        #[serde(skip_serializing_if = "is_default")]
        ready_replicas: i32,
        #[serde(skip_serializing_if = "is_default")]
        available_replicas: i32,
        #[serde(skip_serializing_if = "is_default")]
        observed_generation: i64,
        #[serde(skip_serializing_if = "is_default")]
        conditions: Vec<Condition>,
    }
}

whole_object! {
    /// On how many nodes it runs.
    pub struct DaemonSetStatus {
        current_number_scheduled: i32,
        number_misscheduled: i32,
        desired_number_scheduled: i32,
        number_ready: i32,
        #[serde(skip_serializing_if = "is_default")]
        observed_generation: i64,
        #[serde(skip_serializing_if = "is_default")]
        updated_number_scheduled: i32,
        #[serde(skip_serializing_if = "is_default")]
        number_available: i32,
        #[serde(skip_serializing_if = "is_default")]
        number_unavailable: i32,
        #[serde(skip_serializing_if = "is_default")]
        collision_count: Option<i32>,
        #[serde(skip_serializing_if = "is_default")]
        conditions: Vec<Condition>,
    }
}

opaque! {
    /// How many replicas something should have, by what they are busy with.
    HorizontalPodAutoscaler as "HorizontalPodAutoscaler", "autoscaling" / "v2", "horizontalpodautoscalers", namespaced;
    /// How many replicas may be missing by intention.
    PodDisruptionBudget as "PodDisruptionBudget", "policy" / "v1", "poddisruptionbudgets", namespaced;
}

resource!(Deployment, "apps" / "v1", "deployments", namespaced);
resource!(ReplicaSet, "apps" / "v1", "replicasets", namespaced);
resource!(DaemonSet, "apps" / "v1", "daemonsets", namespaced);
resource!(ControllerRevision, "apps" / "v1", "controllerrevisions", namespaced);
