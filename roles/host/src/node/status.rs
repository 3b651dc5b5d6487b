//! A pod's status, as the API and people read it, from what the node knows.

use std::net::IpAddr;

use api::core::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIp,
    PodIp,
};
use api::{Condition, Container, Pod, PodStatus, Time};

use super::state::{Activity, Ended, PodState, Record, is_sidecar, restarts};

/// Conditions that are the node's to set; others are kept as they are.
const OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The status to publish. Times of conditions that did not change are taken from the status before.
pub(super) fn status(pod: &Pod, state: &PodState, node: IpAddr, now: Time) -> PodStatus {
    let address = state.address.map(|address| address.to_string()).unwrap_or_default();
    let (phase, reason, message) = phase(pod, state);
    PodStatus {
        observed_generation: pod.metadata.generation,
        phase: phase.to_owned(),
        reason,
        message,
        conditions: conditions(pod, state, phase, now),
        host_ip: node.to_string(),
        host_ips: vec![HostIp { ip: node.to_string() }],
        pod_ips: if address.is_empty() { Vec::new() } else { vec![PodIp { ip: address.clone() }] },
        pod_ip: address,
        start_time: state.started,
        init_container_statuses: statuses(pod, &pod.spec.init_containers, state),
        container_statuses: statuses(pod, &pod.spec.containers, state),
        qos_class: quality(pod).to_owned(),
        ..PodStatus::default()
    }
}

fn record(state: &PodState, container: &Container) -> Record {
    state.containers.get(&container.name).cloned().unwrap_or_default()
}

fn initialised(pod: &Pod, state: &PodState) -> bool {
    pod.spec.init_containers.iter().all(|container| {
        let record = record(state, container);
        match record.activity {
            Activity::Ended(ended) => ended.code == 0 || is_sidecar(container),
            Activity::Running { started, .. } => is_sidecar(container) && started,
            Activity::Waiting { .. } => false,
        }
    })
}

fn phase(pod: &Pod, state: &PodState) -> (&'static str, String, String) {
    if let Some((reason, message)) = &state.failed {
        return ("Failed", reason.clone(), message.clone());
    }
    let quiet = |phase| (phase, String::new(), String::new());
    let failed_for_good = |container: &Container| match record(state, container).activity {
        Activity::Ended(ended) => ended.code != 0 && !restarts(pod, container, ended.code),
        _ => false,
    };
    if pod.spec.init_containers.iter().any(failed_for_good) {
        return quiet("Failed");
    }
    let records: Vec<(&Container, Record)> =
        pod.spec.containers.iter().map(|container| (container, record(state, container))).collect();
    let never_ran = |record: &Record| matches!(record.activity, Activity::Waiting { .. }) && record.last.is_none();
    if !initialised(pod, state) && records.iter().all(|(_, record)| never_ran(record)) {
        return quiet("Pending");
    }
    let over = |container: &Container, record: &Record| match &record.activity {
        Activity::Ended(ended) => (state.stopping || !restarts(pod, container, ended.code)).then_some(ended.code),
        _ => None,
    };
    if records.iter().any(|(_, record)| never_ran(record)) {
        return quiet("Pending");
    }
    let codes: Option<Vec<i32>> = records.iter().map(|(container, record)| over(container, record)).collect();
    match codes {
        Some(codes) if codes.iter().all(|code| *code == 0) => quiet("Succeeded"),
        Some(_) => quiet("Failed"),
        None => quiet("Running"),
    }
}

fn conditions(pod: &Pod, state: &PodState, phase: &str, now: Time) -> Vec<Condition> {
    let not_ready: Vec<&str> = pod
        .spec
        .containers
        .iter()
        .filter(|container| !matches!(record(state, container).activity, Activity::Running { ready: true, .. }))
        .map(|container| container.name.as_str())
        .collect();
    let over = matches!(phase, "Succeeded" | "Failed");
    let containers_ready = not_ready.is_empty() && !over;
    let gate = |gate: &api::core::PodReadinessGate| {
        pod.status.conditions.iter().any(|condition| condition.type_ == gate.condition_type && condition.is_true())
    };
    let ready = containers_ready && pod.spec.readiness_gates.iter().all(gate);
    let completed = || ("PodCompleted", String::new());
    let unready = || ("ContainersNotReady", format!("containers with unready status: [{}]", not_ready.join(" ")));
    let why_not = |fine: bool| match (fine, phase) {
        (true, _) => ("", String::new()),
        (_, "Succeeded") => completed(),
        _ if containers_ready => ("ReadinessGatesNotReady", "a readiness gate does not hold".to_owned()),
        _ => unready(),
    };
    let uninitialised = || {
        let waiting = pod.spec.init_containers.iter().map(|container| container.name.as_str());
        ("ContainersNotInitialized", format!("init containers: [{}]", waiting.collect::<Vec<_>>().join(" ")))
    };
    let initialised = initialised(pod, state);
    let own = [
        ("PodReadyToStartContainers", state.sandbox, ("", String::new())),
        ("Initialized", initialised, if initialised { ("", String::new()) } else { uninitialised() }),
        ("Ready", ready, why_not(ready)),
        ("ContainersReady", containers_ready, why_not(containers_ready)),
        ("PodScheduled", true, ("", String::new())),
    ];
    let foreign = pod.status.conditions.iter().filter(|condition| !OWN.contains(&condition.type_.as_str())).cloned();
    let own = own.map(|(kind, holds, (reason, message))| condition(pod, kind, holds, reason, message, now));
    own.into_iter().chain(foreign).collect()
}

fn condition(pod: &Pod, kind: &str, holds: bool, reason: &str, message: String, now: Time) -> Condition {
    let status = if holds { "True" } else { "False" };
    let before = pod.status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: before.and_then(|condition| condition.last_transition_time).or(Some(now)),
        ..Condition::default()
    }
}

fn statuses(pod: &Pod, containers: &[Container], state: &PodState) -> Vec<ContainerStatus> {
    containers.iter().map(|container| container_status(pod, container, &record(state, container), state)).collect()
}

fn container_status(pod: &Pod, container: &Container, record: &Record, state: &PodState) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone(),
        image_id: container.image.clone(),
        restart_count: record.restarts,
        last_state: ContainerState { terminated: record.last.as_ref().map(terminated), ..Default::default() },
        started: Some(false),
        ..ContainerStatus::default()
    };
    match &record.activity {
        Activity::Waiting { reason, message } => {
            let waiting = ContainerStateWaiting { reason: reason.clone(), message: message.clone() };
            status.state.waiting = Some(waiting);
        }
        Activity::Running { since, id, started, ready } => {
            status.state.running = Some(ContainerStateRunning { started_at: Some(*since) });
            status.container_id.clone_from(id);
            status.started = Some(*started);
            status.ready = *ready;
        }
        Activity::Ended(ended) => {
            status.container_id.clone_from(&ended.id);
            // One that will run again is shown waiting, with how it ended as its last state.
            let again = !state.stopping && state.failed.is_none() && restarts(pod, container, ended.code);
            if again && record.crashes > 1 {
                let message = format!("back-off before restarting container {}", container.name);
                let waiting = ContainerStateWaiting { reason: "CrashLoopBackOff".to_owned(), message };
                status.state.waiting = Some(waiting);
                status.last_state.terminated = Some(terminated(ended));
            } else {
                status.state.terminated = Some(terminated(ended));
            }
            status.ready = ended.code == 0 && pod.spec.init_containers.iter().any(|init| init.name == container.name);
        }
    }
    status
}

fn terminated(ended: &Ended) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: ended.code,
        signal: ended.signal,
        reason: ended.reason.to_owned(),
        message: ended.message.clone(),
        started_at: Some(ended.started_at),
        finished_at: Some(ended.finished_at),
        container_id: ended.id.clone(),
    }
}

/// The quality-of-service class; limits are not enforced here, but tools read it.
fn quality(pod: &Pod) -> &'static str {
    let resources = || pod.spec.init_containers.iter().chain(&pod.spec.containers).map(|one| &one.resources);
    if resources().all(|one| one.limits.is_empty() && one.requests.is_empty()) {
        return "BestEffort";
    }
    let full = |one: &api::core::ResourceRequirements| {
        let limits = ["cpu", "memory"].iter().all(|name| one.limits.contains_key(*name));
        limits && one.requests.iter().all(|(name, amount)| one.limits.get(name) == Some(amount))
    };
    if resources().all(full) { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::state::tests::{ended, pod, time};

    fn state(activities: &[(&str, Activity)]) -> PodState {
        let record = |activity: &Activity| Record { activity: activity.clone(), ..Record::default() };
        PodState {
            sandbox: true,
            address: Some("10.244.1.2".parse().unwrap()),
            containers: activities.iter().map(|(name, one)| ((*name).to_owned(), record(one))).collect(),
            ..PodState::default()
        }
    }

    fn running(ready: bool) -> Activity {
        Activity::Running { since: time(1), id: "ambit://1".to_owned(), started: true, ready }
    }

    fn is(status: &PodStatus, kind: &str) -> bool {
        status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().is_true()
    }

    fn of(pod: &Pod, state: &PodState) -> PodStatus {
        status(pod, state, "172.30.0.11".parse().unwrap(), time(50))
    }

    #[rstest::rstest]
    #[case::nothing_yet("Always", None, None, "Pending")]
    #[case::one_to_go("Always", Some(running(true)), None, "Pending")]
    #[case::both("Always", Some(running(true)), Some(running(false)), "Running")]
    #[case::one_ended("Never", Some(running(true)), Some(Activity::Ended(ended(1, 9))), "Running")]
    #[case::restarted("Always", Some(Activity::Ended(ended(1, 9))), Some(Activity::Ended(ended(0, 9))), "Running")]
    #[case::done("Never", Some(Activity::Ended(ended(0, 9))), Some(Activity::Ended(ended(0, 9))), "Succeeded")]
    #[case::failed("Never", Some(Activity::Ended(ended(0, 9))), Some(Activity::Ended(ended(3, 9))), "Failed")]
    fn phases(#[case] policy: &str, #[case] a: Option<Activity>, #[case] b: Option<Activity>, #[case] expected: &str) {
        let pod = pod(serde_json::json!({ "restartPolicy": policy, "containers": [{ "name": "a" }, { "name": "b" }] }));
        let activities: Vec<_> =
            [("a", a), ("b", b)].into_iter().filter_map(|(name, one)| Some((name, one?))).collect();
        assert_eq!(of(&pod, &state(&activities)).phase, expected);
    }

    #[test]
    fn ready_when_every_container_is() {
        let pod = pod(serde_json::json!({ "containers": [{ "name": "a" }, { "name": "b" }] }));
        let half = of(&pod, &state(&[("a", running(true)), ("b", running(false))]));
        assert!(!is(&half, "Ready"));
        let reason = half.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!(reason.message, "containers with unready status: [b]");
        let full = of(&pod, &state(&[("a", running(true)), ("b", running(true))]));
        assert!(is(&full, "Ready") && is(&full, "ContainersReady") && is(&full, "Initialized"));
        assert_eq!((full.pod_ip.as_str(), full.host_ip.as_str()), ("10.244.1.2", "172.30.0.11"));
    }

    #[test]
    fn times_of_unchanged_conditions_stay() {
        let mut pod = pod(serde_json::json!({ "containers": [{ "name": "a" }] }));
        let state = state(&[("a", running(true))]);
        pod.status = of(&pod, &state);
        let later = status(&pod, &state, "172.30.0.11".parse().unwrap(), time(99));
        assert_eq!(later, pod.status);
    }

    #[test]
    fn a_crash_loop_shows_how_it_ended_last() {
        let pod = pod(serde_json::json!({ "containers": [{ "name": "a" }] }));
        let mut state = state(&[]);
        let container = &pod.spec.containers[0];
        for _ in 0..2 {
            state.started(container, "x".to_owned(), time(1));
            state.ended(&pod, container, ended(7, 9));
        }
        let status = &of(&pod, &state).container_statuses[0];
        assert_eq!(status.state.waiting.as_ref().unwrap().reason, "CrashLoopBackOff");
        assert_eq!(status.last_state.terminated.as_ref().unwrap().exit_code, 7);
        assert_eq!(status.restart_count, 1);
    }

    #[test]
    fn a_failed_init_container_fails_a_pod_that_is_not_restarted() {
        let spec = serde_json::json!({
            "restartPolicy": "Never", "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }],
        });
        assert_eq!(of(&pod(spec), &state(&[("i", Activity::Ended(ended(1, 9)))])).phase, "Failed");
    }
}
