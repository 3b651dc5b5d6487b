//! Rows of pods, nodes and the kinds that make pods.

use super::{age, count, join, or_none, since, size};
use crate::object::Object;
use crate::request::selector::label_selector_text;
use jiff::Timestamp;
use serde_json::Value;

/// Init containers that run beside the others, and whether each is ready.
fn sidecars(pod: &Value) -> impl Iterator<Item = bool> {
    let specs = pod.list("/spec/initContainers").iter().filter(|container| container["restartPolicy"] == "Always");
    specs.map(|container| {
        let statuses = pod.list("/status/initContainerStatuses").iter();
        statuses.filter(|status| status["name"] == container["name"]).any(|status| status["ready"] == true)
    })
}

pub(super) fn pod(pod: &Value, now: Timestamp) -> Vec<Value> {
    let statuses = pod.list("/status/containerStatuses");
    let beside: Vec<bool> = sidecars(pod).collect();
    let ready = statuses.iter().filter(|status| status["ready"] == true).count()
        + beside.iter().filter(|ready| **ready).count();
    let total = pod.list("/spec/containers").len() + beside.len();
    let gates = pod.list("/spec/readinessGates");
    let passed = gates
        .iter()
        .filter(|gate| {
            pod.list("/status/conditions").iter().any(|condition| {
                condition.text("/type") == gate.text("/conditionType") && condition.text("/status") == "True"
            })
        })
        .count();
    vec![
        format!("{ready}/{total}").into(),
        pod_status(pod).into(),
        restarts(pod, now).into(),
        age(pod, now),
        or_none(pod.text("/status/podIP")),
        or_none(pod.text("/spec/nodeName")),
        or_none(pod.text("/status/nominatedNodeName")),
        if gates.is_empty() { "<none>".into() } else { format!("{passed}/{}", gates.len()).into() },
    ]
}

fn restarts(pod: &Value, now: Timestamp) -> String {
    let statuses = pod.list("/status/containerStatuses");
    let total: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    let last = statuses
        .iter()
        .map(|status| status.text("/lastState/terminated/finishedAt"))
        .filter(|time| !time.is_empty())
        .max();
    match last {
        Some(time) if total > 0 => format!("{total} ({} ago)", since(time, now)),
        _ => total.to_string(),
    }
}

/// The word that says how a pod fares.
fn pod_status(pod: &Value) -> String {
    let mut word = match pod.text("/status/reason") {
        "" => pod.text("/status/phase").to_owned(),
        reason => reason.to_owned(),
    };
    if let Some(waiting) = init_status(pod) {
        word = waiting;
    } else {
        let mut running = false;
        for status in pod.list("/status/containerStatuses").iter().rev() {
            if let Some(state) = container_word(status) {
                word = state;
            } else if status["ready"] == true && status.pointer("/state/running").is_some() {
                running = true;
            }
        }
        if word == "Completed" && running {
            let ready = pod
                .list("/status/conditions")
                .iter()
                .any(|condition| condition.text("/type") == "Ready" && condition.text("/status") == "True");
            word = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    match (pod.is_terminating(), pod.text("/status/reason"), pod.text("/status/phase")) {
        (true, "NodeLost", _) => "Unknown".into(),
        (true, _, "Succeeded" | "Failed") => word,
        (true, ..) => "Terminating".into(),
        _ => word,
    }
}

fn container_word(status: &Value) -> Option<String> {
    let waiting = status.text("/state/waiting/reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let terminated = status.pointer("/state/terminated")?;
    Some(match (terminated.text("/reason"), terminated["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    })
}

fn init_status(pod: &Value) -> Option<String> {
    let statuses = pod.list("/status/initContainerStatuses");
    for (index, status) in statuses.iter().enumerate() {
        if status.pointer("/state/terminated/exitCode").and_then(Value::as_i64) == Some(0) {
            continue;
        }
        let beside = pod
            .list("/spec/initContainers")
            .iter()
            .any(|container| container["name"] == status["name"] && container["restartPolicy"] == "Always");
        if beside && status["started"] == true {
            continue;
        }
        if status.pointer("/state/terminated").is_some() {
            return container_word(status).map(|word| format!("Init:{word}"));
        }
        return Some(match status.text("/state/waiting/reason") {
            "" | "PodInitializing" => format!("Init:{index}/{}", pod.list("/spec/initContainers").len()),
            reason => format!("Init:{reason}"),
        });
    }
    None
}

pub(super) fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let mut status = match node.list("/status/conditions").iter().find(|condition| condition.text("/type") == "Ready") {
        Some(condition) if condition.text("/status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles = labels
        .into_iter()
        .flat_map(|labels| labels.keys().filter_map(|key| key.strip_prefix("node-role.kubernetes.io/")));
    let address = |form: &str| {
        let found = node.list("/status/addresses").iter().find(|address| address.text("/type") == form);
        or_none(found.map_or("", |address| address.text("/address")))
    };
    let info = |field: &str| match node.text(&format!("/status/nodeInfo/{field}")) {
        "" => "<unknown>".into(),
        text => Value::from(text),
    };
    vec![
        status.into(),
        join(roles),
        age(node, now),
        node.text("/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

/// The containers, images and selector that `-o wide` adds to workloads.
fn template(object: &Value) -> [Value; 3] {
    let containers = object.list("/spec/template/spec/containers");
    [
        join(containers.iter().map(|container| container.text("/name"))),
        join(containers.iter().map(|container| container.text("/image"))),
        or_none(&label_selector_text(object.pointer("/spec/selector"))),
    ]
}

pub(super) fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let wanted = count(object, "/spec/replicas");
    let mut cells = vec![
        format!("{}/{wanted}", count(object, "/status/readyReplicas")).into(),
        count(object, "/status/updatedReplicas"),
        count(object, "/status/availableReplicas"),
        age(object, now),
    ];
    cells.extend(template(object));
    cells
}

pub(super) fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![
        count(object, "/spec/replicas"),
        count(object, "/status/replicas"),
        count(object, "/status/readyReplicas"),
        age(object, now),
    ];
    cells.extend(template(object));
    cells
}

pub(super) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let nodes = object.pointer("/spec/template/spec/nodeSelector").and_then(Value::as_object);
    let selector: Vec<String> = nodes
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let mut cells = vec![
        count(object, "/status/desiredNumberScheduled"),
        count(object, "/status/currentNumberScheduled"),
        count(object, "/status/numberReady"),
        count(object, "/status/updatedNumberScheduled"),
        count(object, "/status/numberAvailable"),
        join(selector.iter().map(String::as_str)),
        age(object, now),
    ];
    cells.extend(template(object));
    cells
}

pub(super) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![(size(object, "/data") + size(object, "/binaryData")).into(), age(object, now)]
}

pub(super) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object.text("/type").into(), size(object, "/data").into(), age(object, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn a_sidecar_counts_among_the_containers() {
        let value = json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"containerStatuses": [{"name": "a", "ready": true}], "initContainerStatuses": [{"name": "s", "ready": true}]}});
        assert_eq!(pod(&value, Timestamp::now())[0], json!("2/2"));
    }

    #[rstest]
    #[case(json!({"status": {"phase": "Pending"}}), "Pending")]
    #[case(json!({"status": {"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}), "CrashLoopBackOff")]
    #[case(json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}), "ExitCode:3")]
    #[case(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}), "Terminating")]
    #[case(json!({"spec": {"initContainers": [{}, {}]}, "status": {"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}}), "Init:0/2")]
    #[case(json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}, "status": {"phase": "Running",
        "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}]}}), "Running")]
    fn a_pod_says_how_it_fares(#[case] pod: Value, #[case] expected: &str) {
        assert_eq!(pod_status(&pod), expected);
    }
}
