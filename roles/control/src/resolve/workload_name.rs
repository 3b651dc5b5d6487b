//! What a workload is called: after the controller that owns it, not after the pod.

use api::{Pod, Resource};
use std::collections::BTreeMap;

/// The name of a pod's controller, guessed from the names that controllers give (control-plane A4.6).
pub(super) fn of_pod(pod: &Pod) -> String {
    let labels = &pod.metadata.labels;
    if let Some(name) = labels.get("service.istio.io/workload-name") {
        return name.clone();
    }
    let Some(owner) = pod.metadata.controller().filter(|_| !pod.metadata.generate_name.is_empty()) else {
        return pod.name().to_owned();
    };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = ["pod-template-hash", "rollouts-pod-template-hash"].into_iter().find_map(|key| labels.get(key));
            let stem = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            stem.unwrap_or(&owner.name).to_owned()
        }
        "ReplicationController" => labels.get("deploymentconfig").unwrap_or(&owner.name).clone(),
        "Job" => cron_job(&owner.name).unwrap_or(&owner.name).to_owned(),
        _ => owner.name.clone(),
    }
}

/// The CronJob of a Job named `<cron job>-<8 to 10 digits>`.
fn cron_job(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    let scheduled = (8..=10).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
    (scheduled && !name.is_empty()).then_some(name)
}

/// The first of some labels that is there.
fn first<'a>(labels: &'a BTreeMap<String, String>, keys: [&str; 3]) -> Option<&'a str> {
    keys.into_iter().find_map(|key| labels.get(key)).map(String::as_str)
}

/// Canonical name and revision, for telemetry.
pub(super) fn canonical(labels: &BTreeMap<String, String>, workload: &str) -> (String, String) {
    let name = first(labels, ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = first(labels, ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    (name.unwrap_or(workload).to_owned(), revision.unwrap_or("latest").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::deployment("ReplicaSet", "web-57794d7bfc", json!({"pod-template-hash": "57794d7bfc"}), "web")]
    #[case::rollout("ReplicaSet", "web-5d4", json!({"rollouts-pod-template-hash": "5d4"}), "web")]
    #[case::bare_replica_set("ReplicaSet", "web", json!({"pod-template-hash": "5d4"}), "web")]
    #[case::deployment_config("ReplicationController", "web-1", json!({"deploymentconfig": "web"}), "web")]
    #[case::cron_job("Job", "report-28371938", json!({}), "report")]
    #[case::job("Job", "report-1", json!({}), "report-1")]
    #[case::daemon_set("DaemonSet", "agent", json!({}), "agent")]
    #[case::said_so("DaemonSet", "agent", json!({"service.istio.io/workload-name": "other"}), "other")]
    fn names(#[case] kind: &str, #[case] owner: &str, #[case] labels: serde_json::Value, #[case] expected: &str) {
        let pod = Pod::from_value(json!({"metadata": {
            "name": "pod-x", "generateName": "pod-", "labels": labels,
            "ownerReferences": [{"kind": kind, "name": owner, "controller": true}],
        }}));
        assert_eq!(of_pod(&pod.unwrap()), expected);
    }

    #[test]
    fn a_pod_that_nobody_generated_is_called_by_its_own_name() {
        let pod = Pod::from_value(json!({"metadata": {"name": "client"}})).unwrap();
        assert_eq!(of_pod(&pod), "client");
    }
}
