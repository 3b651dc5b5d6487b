//! Deployments: a new ReplicaSet for every new template, grown and shrunk against the old ones within the bounds.
//!
//! One step is decided at a time from what is seen; the next change that is seen leads to the next step. History is
//! kept in the ReplicaSets' revision annotation, which `kubectl rollout history` and `undo` read.

use api::{Condition, Deployment, DeploymentStatus, IntOrString, ReplicaSet, Resource, Time};

use super::rollout::{Bounds, template_hash};

const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HASH_LABEL: &str = "pod-template-hash";
const DEFAULT_HISTORY: i32 = 10;
const DEFAULT_DEADLINE: i32 = 600;

/// One step towards what the Deployment asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A ReplicaSet for a template that has none.
    Create(Box<ReplicaSet>),
    /// Change a ReplicaSet's size and annotations.
    Scale { name: String, replicas: i32, annotations: Vec<(String, String)> },
    /// Old history that nobody keeps.
    Delete { name: String },
    /// The Deployment's own revision annotation.
    Annotate { revision: String },
}

/// What a Deployment needs done now, and its status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) status: DeploymentStatus,
}

/// Compares a Deployment with the ReplicaSets that it controls.
pub(super) fn plan(deployment: &Deployment, sets: &[&ReplicaSet], now: Time) -> Plan {
    let (current, old) = split(deployment, sets);
    let mut steps = Vec::new();
    if deployment.metadata().deletion_timestamp.is_none() {
        if !deployment.spec.paused || current.is_some() {
            let revision = keep_revision(deployment, current, &old, &mut steps);
            scale(deployment, current, &old, revision, &mut steps);
        }
        clean_up(deployment, &old, &mut steps);
    }
    Plan { steps, status: status(deployment, current, sets, now) }
}

/// The ReplicaSet of the present template, and the others from the oldest.
fn split<'a>(deployment: &Deployment, sets: &[&'a ReplicaSet]) -> (Option<&'a ReplicaSet>, Vec<&'a ReplicaSet>) {
    let mut sets = sets.to_vec();
    sets.sort_by_key(|set| (set.metadata().creation_timestamp, set.name().to_owned()));
    let same = |set: &&&ReplicaSet| {
        let mut template = set.spec.template.clone();
        template.metadata.labels.remove(HASH_LABEL);
        template == deployment.spec.template
    };
    let current = sets.iter().find(same).copied();
    let old = sets.into_iter().filter(|set| current.is_none_or(|current| current.name() != set.name())).collect();
    (current, old)
}

fn revision_of(set: &ReplicaSet) -> i64 {
    set.metadata().annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The current template's revision is above all others; going back to an old template raises it again.
fn keep_revision(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    steps: &mut Vec<Step>,
) -> i64 {
    let highest_old = old.iter().map(|set| revision_of(set)).max().unwrap_or(0);
    let own = current.map_or(0, revision_of);
    let revision = if own > highest_old { own } else { highest_old + 1 };
    if deployment.metadata().annotation(REVISION) != Some(&revision.to_string()) {
        steps.push(Step::Annotate { revision: revision.to_string() });
    }
    revision
}

fn scale(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    revision: i64,
    steps: &mut Vec<Step>,
) {
    let wanted = deployment.spec.replicas.unwrap_or(1).max(0);
    let bounds = bounds(deployment, wanted);
    let annotations = annotations(deployment, current, revision, wanted, wanted + bounds.surge);
    let size = |set: &ReplicaSet| set.spec.replicas.unwrap_or(1);
    let current_size = current.map_or(0, size);
    let old_size: i32 = old.iter().map(|set| size(set)).sum();
    let next = next_size(deployment, wanted, bounds, current_size, old_size, old);
    match current {
        None => steps.push(Step::Create(Box::new(new_set(deployment, next, annotations)))),
        Some(set) => {
            let annotated = annotations.iter().all(|(key, value)| set.metadata().annotation(key) == Some(value));
            if size(set) != next || !annotated {
                steps.push(Step::Scale { name: set.name().to_owned(), replicas: next, annotations });
            }
        }
    }
    if !deployment.spec.paused {
        shrink_old(deployment, wanted, bounds, current, old, steps);
    }
}

fn bounds(deployment: &Deployment, wanted: i32) -> Bounds {
    if is_recreate(deployment) {
        return Bounds { surge: 0, unavailable: wanted };
    }
    let quarter = || IntOrString::from("25%");
    let rolling = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
    let surge = rolling.max_surge.unwrap_or_else(quarter);
    Bounds::resolve(&surge, &rolling.max_unavailable.unwrap_or_else(quarter), wanted)
}

fn is_recreate(deployment: &Deployment) -> bool {
    deployment.spec.strategy.type_ == "Recreate"
}

/// How large the current ReplicaSet may be now.
fn next_size(
    deployment: &Deployment,
    wanted: i32,
    bounds: Bounds,
    current: i32,
    old: i32,
    old_sets: &[&ReplicaSet],
) -> i32 {
    if is_recreate(deployment) {
        let old_gone = old == 0 && old_sets.iter().all(|set| set.status.replicas == 0);
        return if old_gone { wanted } else { current.min(wanted) };
    }
    if deployment.spec.paused && old > 0 {
        return current.min(wanted);
    }
    let room = (wanted + bounds.surge - old - current).max(0);
    if current > wanted { wanted } else { (current + room).min(wanted) }
}

/// Takes pods from old ReplicaSets: those that are not available at once, then as many available ones as the rest
/// can spare.
fn shrink_old(
    deployment: &Deployment,
    wanted: i32,
    bounds: Bounds,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    steps: &mut Vec<Step>,
) {
    let size = |set: &ReplicaSet| set.spec.replicas.unwrap_or(1);
    let available = |set: &ReplicaSet| set.status.available_replicas.min(size(set));
    let total = old.iter().map(|set| available(set)).sum::<i32>() + current.map_or(0, available);
    let minimum = if is_recreate(deployment) { 0 } else { wanted - bounds.unavailable };
    let mut spare = (total - minimum).max(0);
    for set in old.iter().filter(|set| size(set) > 0) {
        let broken = size(set) - available(set);
        let healthy = available(set).min(spare);
        spare -= healthy;
        let replicas = size(set) - broken - healthy;
        if replicas != size(set) {
            steps.push(Step::Scale { name: set.name().to_owned(), replicas, annotations: Vec::new() });
        }
    }
}

fn annotations(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    revision: i64,
    wanted: i32,
    max: i32,
) -> Vec<(String, String)> {
    let mut pairs = vec![
        (REVISION.to_owned(), revision.to_string()),
        (DESIRED.to_owned(), wanted.to_string()),
        (MAX.to_owned(), max.to_string()),
    ];
    if let Some(cause) = deployment.metadata().annotation("kubernetes.io/change-cause") {
        pairs.push(("kubernetes.io/change-cause".to_owned(), cause.to_owned()));
    }
    if let Some(set) = current
        && revision_of(set) != 0
        && revision_of(set) != revision
    {
        let earlier = set.metadata().annotation(REVISION_HISTORY).filter(|text| !text.is_empty());
        let own = revision_of(set).to_string();
        pairs.push((REVISION_HISTORY.to_owned(), earlier.map_or_else(|| own.clone(), |text| format!("{text},{own}"))));
    }
    pairs
}

fn new_set(deployment: &Deployment, replicas: i32, annotations: Vec<(String, String)>) -> ReplicaSet {
    let collisions = deployment.status.collision_count.unwrap_or(0);
    let hash = template_hash(&deployment.spec.template, collisions);
    let mut set = ReplicaSet {
        metadata: api::ObjectMeta::named(deployment.namespace(), format!("{}-{hash}", deployment.name())),
        ..ReplicaSet::default()
    };
    set.spec.template = deployment.spec.template.clone();
    set.spec.template.metadata.labels.insert(HASH_LABEL.to_owned(), hash.clone());
    set.spec.selector = deployment.spec.selector.clone();
    set.spec.selector.match_labels.insert(HASH_LABEL.to_owned(), hash);
    set.spec.replicas = Some(replicas);
    set.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    set.metadata.labels = set.spec.template.metadata.labels.clone();
    set.metadata.annotations = annotations.into_iter().collect();
    set.metadata.owner_references = vec![deployment.controller_reference()];
    set
}

/// Old ReplicaSets beyond the history limit go, the oldest revision first.
fn clean_up(deployment: &Deployment, old: &[&ReplicaSet], steps: &mut Vec<Step>) {
    let limit = deployment.spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY);
    let limit = usize::try_from(limit).unwrap_or(0);
    let idle = |set: &&&ReplicaSet| set.spec.replicas == Some(0) && set.status.replicas == 0;
    let mut idle: Vec<_> = old.iter().filter(idle).collect();
    idle.sort_by_key(|set| revision_of(set));
    let surplus = idle.len().saturating_sub(limit);
    steps.extend(idle.into_iter().take(surplus).map(|set| Step::Delete { name: set.name().to_owned() }));
}

fn status(deployment: &Deployment, current: Option<&ReplicaSet>, sets: &[&ReplicaSet], now: Time) -> DeploymentStatus {
    let wanted = deployment.spec.replicas.unwrap_or(1).max(0);
    let sum = |count: fn(&ReplicaSet) -> i32| sets.iter().map(|set| count(set)).sum::<i32>();
    let available = sum(|set| set.status.available_replicas);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata().generation,
        replicas: sum(|set| set.status.replicas),
        updated_replicas: current.map_or(0, |set| set.status.replicas),
        ready_replicas: sum(|set| set.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (wanted.max(sum(|set| set.status.replicas)) - available).max(0),
        conditions: deployment.status.conditions.clone(),
        collision_count: deployment.status.collision_count,
    };
    let minimum = wanted - bounds(deployment, wanted).unavailable;
    let enough = available >= minimum;
    let (reason, message) = if enough {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut status.conditions, "Available", enough, reason, message, now);
    set_progress(deployment, current, wanted, &mut status, now);
    status
}

/// `Progressing` is what `kubectl rollout status` waits for: done, still moving, or stuck for too long.
fn set_progress(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    wanted: i32,
    status: &mut DeploymentStatus,
    now: Time,
) {
    let name = current.map_or_else(|| deployment.name().to_owned(), |set| set.name().to_owned());
    let complete = status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && current.is_some();
    let before = &deployment.status;
    let moved = status.updated_replicas != before.updated_replicas
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas
        || status.replicas < before.replicas
        || before.observed_generation != status.observed_generation;
    let known = before.conditions.iter().find(|condition| condition.type_ == "Progressing");
    let deadline = deployment.spec.progress_deadline_seconds.unwrap_or(DEFAULT_DEADLINE);
    let late = known
        .and_then(|condition| condition.last_update_time)
        .is_some_and(|since| !moved && now.as_second() - since.as_second() > i64::from(deadline));
    if complete {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        set_condition(&mut status.conditions, "Progressing", true, "NewReplicaSetAvailable", &message, now);
    } else if late {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        set_condition(&mut status.conditions, "Progressing", false, "ProgressDeadlineExceeded", &message, now);
    } else if moved || known.is_none_or(|condition| condition.reason == "NewReplicaSetAvailable") {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        let moment = if moved { Some(now) } else { None };
        set_condition(&mut status.conditions, "Progressing", true, "ReplicaSetUpdated", &message, now);
        touch(&mut status.conditions, "Progressing", moment);
    }
}

fn touch(conditions: &mut [Condition], kind: &str, moment: Option<Time>) {
    let Some(moment) = moment else { return };
    if let Some(condition) = conditions.iter_mut().find(|condition| condition.type_ == kind) {
        condition.last_update_time = Some(moment);
    }
}

/// Sets a condition; times change only when it does.
fn set_condition(conditions: &mut Vec<Condition>, kind: &str, holds: bool, reason: &str, message: &str, now: Time) {
    let status = if holds { "True" } else { "False" };
    let known = conditions.iter().position(|condition| condition.type_ == kind);
    let same = |condition: &Condition| {
        condition.status == status && condition.reason == reason && condition.message == message
    };
    let since = match known.map(|index| conditions.remove(index)) {
        Some(condition) if same(&condition) => return conditions.push(condition),
        Some(condition) if condition.status == status => condition.last_transition_time,
        _ => Some(now),
    };
    conditions.push(Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_update_time: Some(now),
        last_transition_time: since,
        ..Condition::default()
    });
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
}

#[cfg(test)]
mod tests;
