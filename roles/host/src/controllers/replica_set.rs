//! ReplicaSets: as many pods of a template as asked for, no more and no fewer.

use api::{Pod, ReplicaSet, ReplicaSetStatus, Resource, Time};

use super::rollout::{self, is_active, is_available};

/// Pods started in one go; the rest follows when these are seen.
const BURST: usize = 100;

/// What a ReplicaSet needs done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<Pod>,
    /// Names of pods to delete.
    pub(super) delete: Vec<String>,
    pub(super) status: ReplicaSetStatus,
}

/// Compares what is asked for with the pods that the ReplicaSet controls.
pub(super) fn plan(set: &ReplicaSet, pods: &[&Pod], now: Time) -> Plan {
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mut active: Vec<&Pod> = pods.iter().copied().filter(|pod| is_active(pod)).collect();
    let status = status(set, &active, now);
    if set.metadata().deletion_timestamp.is_some() {
        return Plan { create: Vec::new(), delete: Vec::new(), status };
    }
    let missing = wanted.saturating_sub(active.len()).min(BURST);
    let extra = active.len().saturating_sub(wanted);
    active.sort_by_key(|pod| usefulness(pod));
    Plan {
        create: (0..missing).map(|_| rollout::pod_from(set, &set.spec.template)).collect(),
        delete: active.into_iter().take(extra).map(|pod| pod.name().to_owned()).collect(),
        status,
    }
}

/// Orders pods from the one that is missed least: not yet placed, not ready, cheap to delete by annotation, restarted
/// often, young.
fn usefulness(pod: &Pod) -> (bool, bool, bool, i64, std::cmp::Reverse<i32>, std::cmp::Reverse<Option<Time>>) {
    let cost = pod.metadata().annotation("controller.kubernetes.io/pod-deletion-cost");
    let restarts = pod.status.container_statuses.iter().map(|status| status.restart_count).max().unwrap_or(0);
    (
        !pod.spec.node_name.is_empty(),
        pod.status.phase == "Running",
        pod.is_ready(),
        cost.and_then(|text| text.parse().ok()).unwrap_or(0),
        std::cmp::Reverse(restarts),
        std::cmp::Reverse(pod.metadata().creation_timestamp),
    )
}

fn status(set: &ReplicaSet, active: &[&Pod], now: Time) -> ReplicaSetStatus {
    let count = |what: &dyn Fn(&&&Pod) -> bool| i32::try_from(active.iter().filter(what).count()).unwrap_or(i32::MAX);
    let template = &set.spec.template.metadata.labels;
    let labelled = |pod: &&&Pod| template.iter().all(|(key, value)| pod.metadata().label(key) == Some(value.as_str()));
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: count(&labelled),
        ready_replicas: count(&|pod| pod.is_ready()),
        available_replicas: count(&|pod| is_available(pod, set.spec.min_ready_seconds, now)),
        observed_generation: set.metadata().generation,
        conditions: set.status.conditions.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::rollout::tests::{pod, time};

    fn set(replicas: i32) -> ReplicaSet {
        let mut set = ReplicaSet { metadata: api::ObjectMeta::named("ns", "web-abc"), ..ReplicaSet::default() };
        set.metadata.uid = "rs".to_owned();
        set.spec.replicas = Some(replicas);
        set.spec.template.metadata.labels.insert("app".to_owned(), "web".to_owned());
        set
    }

    fn placed(name: &str, ready: Option<i64>) -> Pod {
        let mut pod = pod(name, ready);
        pod.spec.node_name = "n1".to_owned();
        pod
    }

    #[test]
    fn missing_pods_are_made_from_the_template_and_belong_to_the_set() {
        let plan = plan(&set(2), &[], time(0));
        assert_eq!(plan.create.len(), 2);
        let made = &plan.create[0];
        assert!(made.name().starts_with("web-abc-") && made.namespace() == "ns");
        assert_eq!(made.metadata().label("app"), Some("web"));
        assert_eq!(made.metadata().controller().map(|owner| owner.uid.as_str()), Some("rs"));
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let (good, waiting) = (placed("good", Some(1)), placed("waiting", None));
        let unplaced = pod("unplaced", None);
        let names = |replicas| plan(&set(replicas), &[&good, &waiting, &unplaced], time(9)).delete;
        assert_eq!(names(2), ["unplaced"]);
        assert_eq!(names(1), ["unplaced", "waiting"]);
        assert_eq!(names(0), ["unplaced", "waiting", "good"]);
    }

    #[test]
    fn pods_that_are_over_or_going_do_not_count() {
        let mut over = pod("over", None);
        over.status.phase = "Failed".to_owned();
        let mut going = placed("going", Some(1));
        going.metadata.deletion_timestamp = Some(time(5));
        let plan = plan(&set(1), &[&over, &going], time(9));
        assert_eq!((plan.create.len(), plan.delete.len()), (1, 0));
        assert_eq!((plan.status.replicas, plan.status.ready_replicas), (0, 0));
    }

    #[test]
    fn a_set_that_is_being_deleted_makes_nothing() {
        let mut set = set(3);
        set.metadata.deletion_timestamp = Some(time(1));
        assert!(plan(&set, &[], time(2)).create.is_empty());
    }
}
