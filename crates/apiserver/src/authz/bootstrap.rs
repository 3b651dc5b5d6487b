//! The roles and bindings that every cluster has from the start.

use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn role(name: &str, rules: Value) -> Value {
    json!({"apiVersion": RBAC, "kind": "ClusterRole", "rules": rules, "metadata": {"name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}}})
}

fn aggregate(name: &str, level: &str) -> Value {
    let mut value = role(name, json!([]));
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{level}");
    value["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    value
}

fn part(level: &str, above: &[&str], rules: Value) -> Value {
    let mut value = role(&format!("system:aggregate-to-{level}"), rules);
    for level in above.iter().chain([&level]) {
        value["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{level}")] = "true".into();
    }
    value
}

fn bind(role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups
        .iter()
        .map(|group| json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group}))
        .collect();
    json!({"apiVersion": RBAC, "kind": "ClusterRoleBinding", "subjects": subjects,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "metadata": {"name": role, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}})
}

/// Everything, ready to be created.
pub(crate) fn objects() -> Vec<Value> {
    [roles_for_people(), roles_of_the_system(), bindings()].concat()
}

/// cluster-admin, and admin, edit and view with the parts they gather.
fn roles_for_people() -> Vec<Value> {
    const READ: [&str; 3] = ["get", "list", "watch"];
    // Without `bind` and `escalate`: whoever has these gives away what they like.
    const EVERYDAY: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
    let content = json!([
        "configmaps",
        "endpoints",
        "events",
        "pods",
        "pods/log",
        "pods/status",
        "services",
        "services/status",
        "serviceaccounts",
        "namespaces",
        "persistentvolumeclaims"
    ]);
    let workloads = json!([
        "controllerrevisions",
        "daemonsets",
        "daemonsets/status",
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status"
    ]);
    let changed = json!([
        "configmaps",
        "endpoints",
        "pods",
        "pods/attach",
        "pods/exec",
        "pods/portforward",
        "pods/eviction",
        "secrets",
        "serviceaccounts",
        "serviceaccounts/token",
        "services",
        "events"
    ]);
    let network = json!(["ingresses", "ingresses/status", "networkpolicies"]);
    vec![
        role(
            "cluster-admin",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]),
        ),
        aggregate("admin", "admin"),
        aggregate("edit", "edit"),
        aggregate("view", "view"),
        part(
            "admin",
            &[],
            json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": EVERYDAY},
                {"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]}]),
        ),
        part(
            "edit",
            &["admin"],
            json!([{"apiGroups": [""], "resources": changed, "verbs": WRITE},
                {"apiGroups": [""], "resources": ["secrets"], "verbs": READ},
                {"apiGroups": ["apps"], "resources": workloads, "verbs": WRITE},
                {"apiGroups": ["networking.k8s.io"], "resources": network, "verbs": WRITE},
                {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": WRITE},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}]),
        ),
        part(
            "view",
            &["admin", "edit"],
            json!([{"apiGroups": [""], "resources": content, "verbs": READ},
                {"apiGroups": ["apps"], "resources": workloads, "verbs": READ},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ},
                {"apiGroups": ["networking.k8s.io"], "resources": network, "verbs": READ},
                {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": READ}]),
        ),
    ]
}

fn roles_of_the_system() -> Vec<Value> {
    vec![
        role(
            "system:discovery",
            json!([{"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
                "/readyz", "/version", "/version/"], "verbs": ["get"]}]),
        ),
        role(
            "system:basic-user",
            json!([{"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                "verbs": ["create"]},
                {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]}]),
        ),
        role(
            "system:public-info-viewer",
            json!([{"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"]}]),
        ),
        role(
            "system:service-account-issuer-discovery",
            json!([{"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}]),
        ),
        role("system:node", node_rules()),
        role("system:controllers", controller_rules()),
        role(
            "system:auth-delegator",
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
                {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}]),
        ),
    ]
}

fn bindings() -> Vec<Value> {
    vec![
        bind("cluster-admin", &["system:masters"]),
        bind("system:discovery", &["system:authenticated"]),
        bind("system:basic-user", &["system:authenticated"]),
        bind("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        bind("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
        bind("system:node", &["system:nodes"]),
        bind("system:controllers", &["system:controllers"]),
    ]
}

/// What a kubelet does: report its node and its pods, read what they mount, ask for their tokens, route services.
fn node_rules() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "patch", "watch"]},
        {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["get", "patch", "update"]},
        {"apiGroups": [""], "resources": ["configmaps", "secrets", "services", "endpoints", "namespaces", "serviceaccounts"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
        {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "delete", "get", "patch", "update"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}
    ])
}

/// What the scheduler and the workload, endpoint and account controllers do.
fn controller_rules() -> Value {
    json!([
        {"apiGroups": ["", "apps", "discovery.k8s.io", "policy", "coordination.k8s.io", "events.k8s.io"], "resources": ["*"], "verbs": ["*"]}
    ])
}
