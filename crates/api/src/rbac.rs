//! Who may do what.

use serde_json::Value;

use crate::macros::{object, resource};
use crate::meta::ObjectMeta;

object! {
    /// Rights in a namespace.
    pub struct Role {
        metadata: ObjectMeta,
        rules: Vec<PolicyRule>,
    }

    /// Rights in the whole cluster.
    pub struct ClusterRole {
        metadata: ObjectMeta,
        rules: Vec<PolicyRule>,
        aggregation_rule: Option<Value>,
    }

    /// Verbs allowed on objects.
    pub struct PolicyRule {
        verbs: Vec<String>,
        api_groups: Vec<String>,
        resources: Vec<String>,
        resource_names: Vec<String>,
        #[serde(rename = "nonResourceURLs")]
        non_resource_urls: Vec<String>,
    }

    /// Gives a role to somebody in a namespace.
    pub struct RoleBinding {
        metadata: ObjectMeta,
        subjects: Vec<Subject>,
        role_ref: RoleRef,
    }

    /// Gives a role to somebody in the whole cluster.
    pub struct ClusterRoleBinding {
        metadata: ObjectMeta,
        subjects: Vec<Subject>,
        role_ref: RoleRef,
    }

    /// Somebody.
    pub struct Subject {
        kind: String,
        api_group: String,
        name: String,
        namespace: String,
    }

    /// The role that is given.
    pub struct RoleRef {
        api_group: String,
        kind: String,
        name: String,
    }
}

resource!(Role, "rbac.authorization.k8s.io" / "v1", "roles", namespaced);
resource!(ClusterRole, "rbac.authorization.k8s.io" / "v1", "clusterroles", cluster);
resource!(RoleBinding, "rbac.authorization.k8s.io" / "v1", "rolebindings", namespaced);
resource!(ClusterRoleBinding, "rbac.authorization.k8s.io" / "v1", "clusterrolebindings", cluster);
