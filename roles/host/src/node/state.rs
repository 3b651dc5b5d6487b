//! What the node knows of one pod's containers, and what follows from it: what to start next, and when.
//!
//! Values and decisions only. `pod` feeds in what happened and carries out what is decided; `status` tells the API.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Container, Pod, Time};

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) signal: i32,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) started_at: Time,
    pub(super) finished_at: Time,
    pub(super) id: String,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Activity {
    /// Not running yet, or not again yet.
    Waiting { reason: String, message: String },
    /// Running.
    Running { since: Time, id: String, started: bool, ready: bool },
    /// Over, at least for now.
    Ended(Ended),
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) activity: Activity,
    pub(super) last: Option<Ended>,
    pub(super) restarts: i32,
    /// Restarts since the container last ran for long.
    pub(super) crashes: u32,
    /// Not before this.
    pub(super) restart_at: Option<Time>,
}

impl Default for Record {
    fn default() -> Self {
        Self { activity: waiting("ContainerCreating", ""), last: None, restarts: 0, crashes: 0, restart_at: None }
    }
}

/// Everything about one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PodState {
    pub(super) started: Option<Time>,
    pub(super) address: Option<std::net::IpAddr>,
    pub(super) sandbox: bool,
    pub(super) containers: BTreeMap<String, Record>,
    /// The pod is being taken down; nothing is started any more.
    pub(super) stopping: bool,
    /// The pod failed as a whole: reason and message.
    pub(super) failed: Option<(String, String)>,
}

pub(super) fn waiting(reason: &str, message: &str) -> Activity {
    Activity::Waiting { reason: reason.to_owned(), message: message.to_owned() }
}

/// How long a container must have run for its earlier crashes to be forgotten.
const LONG_RUN: i64 = 600;

/// Every pod of a node depends on these: they are started again at once, however often they end.
const NODE_CRITICAL: &str = "system-node-critical";

/// The wait before restart number `crashes`: none before the first, then doubling from ten seconds to five minutes; a
/// second when the node depends on the pod.
pub(super) fn back_off(pod: &Pod, crashes: u32) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        _ if pod.spec.priority_class_name == NODE_CRITICAL => Duration::from_secs(1),
        _ => Duration::from_secs((10 << (crashes - 2).min(5)).min(300)),
    }
}

impl PodState {
    /// What a pod begins with: nothing, or what its status tells of an earlier life of this node. Containers that ran
    /// then ended with the node, so the next start is a restart.
    pub(super) fn begin(pod: &Pod, now: Time) -> Self {
        let status = &pod.status;
        let mut state = Self { started: Some(status.start_time.unwrap_or(now)), ..Self::default() };
        for known in status.init_container_statuses.iter().chain(&status.container_statuses) {
            if known.container_id.is_empty() {
                continue;
            }
            let record = state.record(&known.name);
            record.restarts = known.restart_count;
            record.last = Some(Ended {
                code: 137,
                signal: 9,
                reason: "ContainerStatusUnknown",
                message: "The container ended with its node.".to_owned(),
                started_at: known.state.running.as_ref().and_then(|running| running.started_at).unwrap_or(now),
                finished_at: now,
                id: known.container_id.clone(),
            });
        }
        state
    }

    pub(super) fn record(&mut self, name: &str) -> &mut Record {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// A container has started.
    pub(super) fn started(&mut self, container: &Container, id: String, now: Time) {
        let record = self.record(&container.name);
        let started = container.startup_probe.is_none();
        let ready = started && container.readiness_probe.is_none();
        if let Activity::Ended(ended) = &record.activity {
            record.last = Some(ended.clone());
        }
        if record.last.is_some() {
            record.restarts += 1;
        }
        record.restart_at = None;
        record.activity = Activity::Running { since: now, id, started, ready };
    }

    /// A container has ended; says when it may run again.
    pub(super) fn ended(&mut self, pod: &Pod, container: &Container, ended: Ended) {
        let record = self.record(&container.name);
        let long = ended.finished_at.as_second() - ended.started_at.as_second() >= LONG_RUN;
        record.crashes = if long { 1 } else { record.crashes + 1 };
        let wait = jiff::SignedDuration::try_from(back_off(pod, record.crashes)).unwrap_or_default();
        record.restart_at = ended.finished_at.0.checked_add(wait).ok().map(Time);
        record.activity = Activity::Ended(ended);
    }
}

/// One thing to do for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Start this container now.
    Start(String),
    /// Nothing before this time, when a container may be restarted.
    Wait(Time),
}

/// What to do next, given what the containers are doing.
pub(super) fn next(pod: &Pod, state: &PodState, now: Time) -> Vec<Step> {
    if state.stopping || !state.sandbox || state.failed.is_some() {
        return Vec::new();
    }
    let ran = |container: &Container| {
        let record = state.containers.get(&container.name);
        record.is_some_and(|record| !matches!(record.activity, Activity::Waiting { .. }))
    };
    let up = pod.spec.containers.iter().any(ran);
    let mut steps = Vec::new();
    for container in &pod.spec.init_containers {
        let record = state.containers.get(&container.name).cloned().unwrap_or_default();
        let sidecar = is_sidecar(container);
        steps.extend(step(pod, container, &record, now));
        let passed = match &record.activity {
            Activity::Ended(ended) => !sidecar && ended.code == 0,
            Activity::Running { started, .. } => sidecar && *started,
            Activity::Waiting { .. } => false,
        };
        // A sidecar that crashes after the pod has come up does not hold the others back.
        if !(passed || sidecar && up) {
            return steps;
        }
    }
    for container in &pod.spec.containers {
        let record = state.containers.get(&container.name).cloned().unwrap_or_default();
        steps.extend(step(pod, container, &record, now));
    }
    steps
}

fn step(pod: &Pod, container: &Container, record: &Record, now: Time) -> Option<Step> {
    let due = |record: &Record| match record.restart_at {
        Some(at) if at > now => Step::Wait(at),
        _ => Step::Start(container.name.clone()),
    };
    match &record.activity {
        Activity::Running { .. } => None,
        Activity::Waiting { .. } => Some(due(record)),
        Activity::Ended(ended) => restarts(pod, container, ended.code).then(|| due(record)),
    }
}

/// Whether the container runs again after it ended with this code.
pub(super) fn restarts(pod: &Pod, container: &Container, code: i32) -> bool {
    let init = pod.spec.init_containers.iter().any(|init| init.name == container.name);
    if is_sidecar(container) {
        return true;
    }
    match pod.spec.restart_policy.as_str() {
        "Never" => false,
        "OnFailure" => code != 0,
        // A container that prepares the pod has done its work when it succeeds.
        _ => !init || code != 0,
    }
}

/// An init container that goes on running beside the others.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy == "Always"
}

#[cfg(test)]
pub(super) mod tests;
