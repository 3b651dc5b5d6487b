//! What is worth telling about a set of objects. Pure: each check looks at all of them and tells what it finds.

use api::{LabelSelector, validate};
use serde_json::Value;

use super::finding::{self, Finding};
use super::{Object, Objects};

/// Everything that is found, the worst first.
pub(crate) fn all(objects: &Objects) -> Vec<Finding> {
    let checks = [invalid, targets, waypoints, selectors, namespaces, port_names, conditions, network_policies];
    let mut found: Vec<Finding> = checks.iter().flat_map(|check| check(objects)).collect();
    found.sort_by(|a, b| (b.kind.level, a.kind.code, &a.object).cmp(&(a.kind.level, b.kind.code, &b.object)));
    found
}

/// Objects that no writer should have got past the API.
fn invalid(objects: &Objects) -> Vec<Finding> {
    let problems = |object: &Object| {
        let told = |problem: &validate::Problem| Finding::new(finding::INVALID, object, problem.to_string());
        validate::object(&object.value).iter().map(told).collect::<Vec<_>>()
    };
    objects.iter().flat_map(problems).collect()
}

/// Policies whose target is not there.
fn targets(objects: &Objects) -> Vec<Finding> {
    let mut found = Vec::new();
    for policy in
        ["AuthorizationPolicy", "RequestAuthentication", "Telemetry"].iter().flat_map(|kind| objects.of_kind(kind))
    {
        let spec = &policy.value["spec"];
        let several = spec["targetRefs"].as_array().into_iter().flatten();
        for target in several.chain(spec.get("targetRef")) {
            let (kind, name) = (text(&target["kind"]), text(&target["name"]));
            let namespace = if kind == "GatewayClass" { "" } else { policy.namespace() };
            let group = if text(&target["group"]) == "core" { "" } else { text(&target["group"]) };
            if objects.knows(kind) && !objects.has(group, kind, namespace, name) {
                let message =
                    format!("Referenced {kind} not found: \"{name}\"; the policy acts nowhere until it exists");
                found.push(Finding::new(finding::MISSING_REFERENCE, policy, message));
            }
        }
    }
    found
}

/// Labels that send traffic through a waypoint that is not there.
fn waypoints(objects: &Objects) -> Vec<Finding> {
    let mut found = Vec::new();
    for object in
        ["Namespace", "Service", "ServiceEntry", "Pod", "WorkloadEntry"].iter().flat_map(|kind| objects.of_kind(kind))
    {
        let Some(name) = object.label("istio.io/use-waypoint").filter(|name| !name.is_empty() && *name != "none")
        else {
            continue;
        };
        let own = if object.kind() == "Namespace" { object.name() } else { object.namespace() };
        let namespace = object.label("istio.io/use-waypoint-namespace").unwrap_or(own);
        if objects.knows("Gateway") && !objects.has(api::gateway::GROUP, "Gateway", namespace, name) {
            let message = format!(
                "Referenced waypoint not found: \"{namespace}/{name}\"; traffic goes directly and no L7 policy acts. \
                 Create it with `ambit waypoint apply -n {namespace} --name {name}`"
            );
            found.push(Finding::new(finding::MISSING_REFERENCE, object, message));
        }
    }
    found
}

/// Policies whose selector picks nothing, or a waypoint, or that nobody enforces.
fn selectors(objects: &Objects) -> Vec<Finding> {
    let mut found = Vec::new();
    let kinds = ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication", "Telemetry"];
    for policy in kinds.iter().flat_map(|kind| objects.of_kind(kind)) {
        let labels = policy.value["spec"]["selector"]["matchLabels"].as_object();
        let Some(labels) = labels.filter(|labels| !labels.is_empty()) else { continue };
        let picks = |object: &&&Object| labels.iter().all(|(key, value)| object.label(key) == value.as_str());
        let everywhere = policy.namespace() == super::ROOT_NAMESPACE;
        let near = |object: &&Object| everywhere || object.namespace() == policy.namespace();
        let pods: Vec<_> = objects.of_kind("Pod").filter(near).collect();
        let entries: Vec<_> = objects.of_kind("WorkloadEntry").filter(near).collect();
        if pods
            .iter()
            .filter(picks)
            .any(|pod| pod.label("gateway.istio.io/managed") == Some("istio.io-mesh-controller"))
        {
            let message = "The selector picks the pods of a waypoint, which take no policy by selector; use targetRefs with the Gateway instead";
            found.push(Finding::new(finding::SELECTS_WAYPOINT, policy, message));
        } else if objects.knows("Pod") && !pods.iter().chain(&entries).any(|object| picks(&object)) {
            let message = "No matching workloads for this resource with the following labels: ".to_owned()
                + &labels.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",");
            found.push(Finding::new(finding::NO_WORKLOADS, policy, message));
        }
    }
    for kind in ["Sidecar", "EnvoyFilter"] {
        for object in objects.of_kind(kind) {
            let message = format!("A {kind} has no effect in a mesh without sidecars");
            found.push(Finding::new(finding::INEFFECTIVE, object, message));
        }
    }
    found
}

/// Namespaces with pods that nobody decided about.
fn namespaces(objects: &Objects) -> Vec<Finding> {
    const SYSTEM: [&str; 5] =
        ["kube-system", "kube-public", "kube-node-lease", "local-path-storage", super::ROOT_NAMESPACE];
    let undecided = |namespace: &&Object| {
        let decided = ["istio.io/dataplane-mode", "istio-injection", "istio.io/rev"];
        !SYSTEM.contains(&namespace.name()) && decided.iter().all(|label| namespace.label(label).is_none())
    };
    let told = |namespace: &Object| {
        let name = namespace.name();
        let message = format!(
            "The namespace is not in the mesh. Run 'kubectl label namespace {name} istio.io/dataplane-mode=ambient' to let it \
             join, or 'kubectl label namespace {name} istio.io/dataplane-mode=none' to explicitly mark it as not joining."
        );
        Finding::new(finding::NOT_ENROLLED, namespace, message)
    };
    objects.of_kind("Namespace").filter(undecided).map(told).collect()
}

/// Ports of services whose protocol cannot be told.
fn port_names(objects: &Objects) -> Vec<Finding> {
    const KNOWN: [&str; 12] =
        ["http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "mongo", "mysql", "redis", "udp", "hbone"];
    let mut found = Vec::new();
    let mesh =
        |service: &&Object| service.namespace() != "kube-system" && service.label("gateway.istio.io/managed").is_none();
    for service in objects.of_kind("Service").filter(mesh) {
        for port in service.value["spec"]["ports"].as_array().into_iter().flatten() {
            let name = text(&port["name"]);
            let named = KNOWN
                .iter()
                .any(|known| name == *known || name.strip_prefix(known).is_some_and(|rest| rest.starts_with('-')));
            if !named && port["appProtocol"].is_null() && !matches!(text(&port["protocol"]), "UDP" | "SCTP") {
                let message = format!(
                    "Port name {name} (port: {}) doesn't follow the naming convention of Istio port; give it appProtocol, or a name \
                     that begins with its protocol",
                    port["port"]
                );
                found.push(Finding::new(finding::PORT_NAME, service, message));
            }
        }
    }
    found
}

/// Conditions by which the control plane says that something does not work.
fn conditions(objects: &Objects) -> Vec<Finding> {
    const TOLD: [&str; 7] = [
        "ZtunnelAccepted",
        "WaypointAccepted",
        "istio.io/WaypointBound",
        "Accepted",
        "Programmed",
        "ResolvedRefs",
        "ambit.io/Readable",
    ];
    let mut found = Vec::new();
    for object in objects.iter().filter(|object| object.is_ours()) {
        for condition in object.value["status"]["conditions"].as_array().into_iter().flatten() {
            let kind = text(&condition["type"]);
            if TOLD.contains(&kind) && condition["status"] == "False" {
                let message =
                    format!("{kind} is False: {}: {}", text(&condition["reason"]), text(&condition["message"]));
                found.push(Finding::new(finding::NEGATIVE_CONDITION, object, message));
            }
        }
    }
    found
}

/// Network policies that let an application's port in and the mesh's own port 15008 not.
fn network_policies(objects: &Objects) -> Vec<Finding> {
    const HBONE: i64 = 15008;
    let mut found = Vec::new();
    for policy in objects.of_kind("NetworkPolicy") {
        let spec = &policy.value["spec"];
        let selector: LabelSelector = serde_json::from_value(spec["podSelector"].clone()).unwrap_or_default();
        let enrolled =
            objects.namespace(policy.namespace()).and_then(|namespace| namespace.label("istio.io/dataplane-mode"))
                == Some("ambient");
        let meshed = |pod: &&Object| pod.namespace() == policy.namespace() && selector.matches(&pod.labels());
        if !enrolled || (objects.knows("Pod") && !objects.of_kind("Pod").any(|pod| meshed(&pod))) {
            continue;
        }
        let types = spec["policyTypes"].as_array();
        let ingress = types.is_none_or(|types| types.iter().any(|kind| kind == "Ingress"));
        let rules: Vec<_> = spec["ingress"].as_array().into_iter().flatten().collect();
        let opens = |rule: &&Value| match rule["ports"].as_array() {
            None => true,
            Some(ports) => ports.iter().any(|port| {
                let (from, to) = (port["port"].as_i64(), port["endPort"].as_i64());
                from.is_none() && port["port"].is_null()
                    || from.is_some_and(|from| from <= HBONE && HBONE <= to.unwrap_or(from))
            }),
        };
        if ingress && !rules.iter().any(opens) {
            let message = format!(
                "Pods of the mesh receive on port {HBONE}, which this policy does not let in: connections from other pods of the \
                 mesh fail. Add an ingress rule for TCP port {HBONE}"
            );
            found.push(Finding::new(finding::NETWORK_POLICY, policy, message));
        }
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
