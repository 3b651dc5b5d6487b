//! Giving pods their nodes, and telling of nodes that are silent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::{Node, Pod, Resource, Time};
use cluster::{EventKind, Patch, Recorder};
use serde_json::json;

use super::{GATHER, RETRY, View, changed, report};
use crate::controllers::pending::Pending;
use crate::controllers::scheduling;

/// A node whose lease is older than this is not ready any more.
const SILENCE: i64 = 40;

/// Gives every pod that has none a node.
pub(in crate::controllers) async fn schedule(view: View) {
    let recorder = Recorder::new(view.client.clone(), "default-scheduler", "");
    let (mut pods, mut nodes) = (view.pods.version(), view.nodes.version());
    let mut bound: Pending<(String, String)> = Pending::default();
    let mut refused: HashMap<String, String> = HashMap::new();
    loop {
        pods.mark_unchanged();
        nodes.mark_unchanged();
        let failed = place_all(&view, &recorder, &mut bound, &mut refused).await;
        changed!(if failed { RETRY } else { Duration::from_secs(60) }; pods, nodes);
        tokio::time::sleep(GATHER).await;
    }
}

async fn place_all(
    view: &View,
    recorder: &Recorder,
    bound: &mut Pending<(String, String)>,
    refused: &mut HashMap<String, String>,
) -> bool {
    let (pods, nodes) = (view.pods.list(), view.nodes.list());
    let nodes: Vec<&Node> = nodes.iter().map(AsRef::as_ref).collect();
    let placed = |uid: &str| pods.iter().any(|pod| pod.metadata.uid == uid && !pod.spec.node_name.is_empty());
    bound.settle(|(uid, _)| placed(uid) || !pods.iter().any(|pod| pod.metadata.uid == *uid));
    refused.retain(|uid, _| pods.iter().any(|pod| pod.metadata.uid == *uid));
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.is_terminal() && !pod.spec.node_name.is_empty()) {
        *load.entry(&pod.spec.node_name).or_default() += 1;
    }
    let under_way: Vec<(String, String)> = bound.keys().cloned().collect();
    for (_, node) in &under_way {
        *load.entry(node).or_default() += 1;
    }
    let mut waiting: Vec<&Arc<Pod>> = pods.iter().filter(|pod| wants_node(pod)).collect();
    waiting.sort_by_key(|pod| (pod.metadata.creation_timestamp, pod.name()));
    let mut failed = false;
    for pod in waiting {
        let uid = &pod.metadata.uid;
        if under_way.iter().any(|(known, _)| known == uid) {
            continue;
        }
        match scheduling::place(pod, &nodes, &load) {
            Ok(node) => {
                *load.entry(node).or_default() += 1;
                let outcome = view.client.bind(pod.namespace(), pod.name(), node).await;
                if !report("pod not bound", outcome.or_else(gone_is_fine)) {
                    bound.add((uid.clone(), node.to_owned()));
                    refused.remove(uid);
                    let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
                    tell(recorder, pod, EventKind::Normal, "Scheduled", message);
                } else {
                    failed = true;
                }
            }
            Err(why) => {
                if refused.get(uid) != Some(&why) {
                    unschedulable(view, pod, &why).await;
                    tell(recorder, pod, EventKind::Warning, "FailedScheduling", why.clone());
                    refused.insert(uid.clone(), why);
                }
            }
        }
    }
    failed
}

fn wants_node(pod: &Pod) -> bool {
    pod.spec.node_name.is_empty()
        && pod.metadata.deletion_timestamp.is_none()
        && pod.spec.scheduling_gates.is_empty()
        && !pod.is_terminal()
        && matches!(pod.spec.scheduler_name.as_str(), "" | "default-scheduler")
}

fn gone_is_fine(error: cluster::Error) -> Result<(), cluster::Error> {
    if error.is_not_found() || error.is_conflict() { Ok(()) } else { Err(error) }
}

fn tell(recorder: &Recorder, pod: &Arc<Pod>, kind: EventKind, reason: &'static str, message: String) {
    let (recorder, pod) = (recorder.clone(), pod.clone());
    runtime::task::spawn("event", async move {
        if let Err(error) = recorder.record(&*pod, kind, reason, &message, jiff::Timestamp::now()).await {
            tracing::debug!(%error, "event not recorded");
        }
    });
}

async fn unschedulable(view: &View, pod: &Pod, why: &str) {
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
        "lastTransitionTime": Time(jiff::Timestamp::now()),
    });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    let outcome = view.client.patch_status::<Pod>(pod.namespace(), pod.name(), patch).await;
    report("a pod's condition not written", outcome.map(drop).or_else(gone_is_fine));
}

/// Marks nodes that have been silent for too long as not ready. Their pods are left alone: on one host a node that is
/// silent has ended, its pods with it, and comes back with both.
pub(in crate::controllers) async fn node_lifecycle(view: View) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        let now = jiff::Timestamp::now();
        for node in view.nodes.list() {
            let lease = view.leases.get("kube-node-lease", node.name());
            let renewed = lease.and_then(|lease| lease.spec.renew_time);
            let silent = renewed.is_some_and(|at| now.as_second() - at.as_second() > SILENCE);
            if silent && scheduling::is_ready(&node) {
                let patch = Patch::Strategic(not_ready(now));
                let outcome = view.client.patch_status::<Node>("", node.name(), patch).await;
                report("a silent node not marked", outcome.map(drop).or_else(gone_is_fine));
            }
        }
    }
}

fn not_ready(now: jiff::Timestamp) -> serde_json::Value {
    json!({ "status": { "conditions": [{
        "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.", "lastTransitionTime": Time(now),
    }] } })
}
