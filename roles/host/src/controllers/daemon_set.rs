//! DaemonSets: one pod on every node that wants one, renewed node by node.

use std::collections::BTreeMap;

use api::{DaemonSet, DaemonSetStatus, IntOrString, Node, Pod, Resource, Time};

use super::rollout::{self, Bounds, is_active, is_available, template_hash};
use super::scheduling::wants_daemon;

const HASH_LABEL: &str = "controller-revision-hash";

/// What a DaemonSet needs done now, and its status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<Pod>,
    /// Names of pods to delete.
    pub(super) delete: Vec<String>,
    pub(super) status: DaemonSetStatus,
}

/// The pods of one node, by whether they have the present template.
#[derive(Debug, Default)]
struct OnNode<'a> {
    new: Vec<&'a Pod>,
    old: Vec<&'a Pod>,
}

/// Compares what is asked for with the nodes and the pods that the DaemonSet controls.
pub(super) fn plan(set: &DaemonSet, nodes: &[&Node], pods: &[&Pod], now: Time) -> Plan {
    let hash = template_hash(&set.spec.template, set.status.collision_count.unwrap_or(0));
    let wanting: Vec<&str> =
        nodes.iter().filter(|node| wants_daemon(&set.spec.template, node)).map(|node| node.name()).collect();
    let mut by_node: BTreeMap<&str, OnNode<'_>> = BTreeMap::new();
    for pod in pods {
        let on_node = by_node.entry(&pod.spec.node_name).or_default();
        let current = pod.metadata().label(HASH_LABEL) == Some(hash.as_str());
        if current { on_node.new.push(pod) } else { on_node.old.push(pod) }
    }
    let status = status(set, &wanting, &by_node, now);
    let mut plan = Plan { create: Vec::new(), delete: Vec::new(), status };
    if set.metadata().deletion_timestamp.is_none() {
        remove_unwanted(&wanting, &by_node, &mut plan);
        place(set, &hash, &wanting, &by_node, &mut plan);
        renew(set, &hash, &wanting, &by_node, now, &mut plan);
    }
    plan
}

/// Pods on nodes that want none, second ones, and ones that are over.
fn remove_unwanted(wanting: &[&str], by_node: &BTreeMap<&str, OnNode<'_>>, plan: &mut Plan) {
    for (node, on_node) in by_node {
        let wanted = wanting.contains(node);
        for kind in [&on_node.new, &on_node.old] {
            let mut kept = 0;
            for pod in kind.iter().filter(|pod| pod.metadata().deletion_timestamp.is_none()) {
                if !wanted || pod.is_terminal() || kept == 1 {
                    plan.delete.push(pod.name().to_owned());
                } else {
                    kept += 1;
                }
            }
        }
    }
}

/// A pod for every node that has none. A node's ending pod is waited for: two would want the same files and ports.
fn place(set: &DaemonSet, hash: &str, wanting: &[&str], by_node: &BTreeMap<&str, OnNode<'_>>, plan: &mut Plan) {
    for node in wanting {
        let empty = by_node.get(node).is_none_or(|on_node| on_node.new.is_empty() && on_node.old.is_empty());
        if empty {
            plan.create.push(daemon(set, hash, node));
        }
    }
}

/// Replaces pods of an earlier template within the bounds.
fn renew(
    set: &DaemonSet,
    hash: &str,
    wanting: &[&str],
    by_node: &BTreeMap<&str, OnNode<'_>>,
    now: Time,
    plan: &mut Plan,
) {
    if set.spec.update_strategy.type_ == "OnDelete" {
        return;
    }
    let available = |pod: &&&Pod| is_active(pod) && is_available(pod, set.spec.min_ready_seconds, now);
    let served = |on_node: &OnNode<'_>| on_node.new.iter().chain(&on_node.old).any(|pod| available(&pod));
    let on = |node: &&&str| by_node.get(**node);
    let mut unavailable = wanting.iter().filter(|node| !on(node).is_some_and(served)).count();
    let surging = |on_node: &OnNode<'_>| {
        on_node.old.iter().any(|pod| is_active(pod)) && on_node.new.iter().any(|pod| is_active(pod))
    };
    let mut surge = wanting.iter().filter(|node| on(node).is_some_and(surging)).count();
    let bounds = bounds(set, wanting.len());
    for node in wanting {
        let Some(on_node) = by_node.get(node) else { continue };
        let Some(old) = on_node.old.iter().find(|pod| is_active(pod)) else { continue };
        let has_new = on_node.new.iter().any(|pod| is_active(pod));
        if has_new {
            if on_node.new.iter().any(|pod| available(&pod)) {
                plan.delete.push(old.name().to_owned());
            }
        } else if bounds.surge > 0 {
            if !available(&old) || surge < bounds.surge {
                plan.create.push(daemon(set, hash, node));
                surge += 1;
            }
        } else if !available(&old) || unavailable < bounds.unavailable {
            unavailable += usize::from(available(&old));
            plan.delete.push(old.name().to_owned());
        }
    }
}

struct Limits {
    surge: usize,
    unavailable: usize,
}

fn bounds(set: &DaemonSet, nodes: usize) -> Limits {
    let rolling = set.spec.update_strategy.rolling_update.clone().unwrap_or_default();
    let surge = rolling.max_surge.unwrap_or(IntOrString::Int(0));
    let unavailable = rolling.max_unavailable.unwrap_or(IntOrString::Int(1));
    let bounds = Bounds::resolve(&surge, &unavailable, i32::try_from(nodes).unwrap_or(i32::MAX));
    let positive = |count: i32| usize::try_from(count).unwrap_or(0);
    Limits { surge: positive(bounds.surge), unavailable: positive(bounds.unavailable).max(1) }
}

fn daemon(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let mut pod = rollout::pod_from(set, &set.spec.template);
    pod.metadata.labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    pod.spec.node_name = node.to_owned();
    pod
}

fn status(set: &DaemonSet, wanting: &[&str], by_node: &BTreeMap<&str, OnNode<'_>>, now: Time) -> DaemonSetStatus {
    let count = |what: &dyn Fn(&OnNode<'_>) -> bool| {
        let nodes = wanting.iter().filter(|node| by_node.get(**node).is_some_and(what)).count();
        i32::try_from(nodes).unwrap_or(i32::MAX)
    };
    let any = |on_node: &OnNode<'_>, what: &dyn Fn(&Pod) -> bool| {
        on_node.new.iter().chain(&on_node.old).any(|pod| is_active(pod) && what(pod))
    };
    let desired = i32::try_from(wanting.len()).unwrap_or(i32::MAX);
    let available = count(&|on_node| any(on_node, &|pod| is_available(pod, set.spec.min_ready_seconds, now)));
    let misplaced = by_node.iter().filter(|(node, on_node)| !wanting.contains(node) && any(on_node, &|_| true)).count();
    DaemonSetStatus {
        current_number_scheduled: count(&|on_node| any(on_node, &|_| true)),
        number_misscheduled: i32::try_from(misplaced).unwrap_or(i32::MAX),
        desired_number_scheduled: desired,
        number_ready: count(&|on_node| any(on_node, &Pod::is_ready)),
        observed_generation: set.metadata().generation,
        updated_number_scheduled: count(&|on_node| on_node.new.iter().any(|pod| is_active(pod))),
        number_available: available,
        number_unavailable: desired - available,
        collision_count: set.status.collision_count,
        conditions: set.status.conditions.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::rollout::tests::{pod, time};
    use crate::controllers::scheduling::tests::node;

    fn set(surge: i32, unavailable: i32) -> DaemonSet {
        let mut set = DaemonSet { metadata: api::ObjectMeta::named("ns", "agent"), ..DaemonSet::default() };
        set.spec.update_strategy.rolling_update =
            Some(api::RollingUpdate { max_surge: Some(surge.into()), max_unavailable: Some(unavailable.into()) });
        set
    }

    /// A pod of the set on a node: current or old template, available or not.
    fn on(node: &str, current: bool, available: bool) -> Pod {
        let mut pod = pod(&format!("{node}-{current}"), available.then_some(1));
        pod.spec.node_name = node.to_owned();
        let hash = if current { template_hash(&set(0, 1).spec.template, 0) } else { "old".to_owned() };
        pod.metadata.labels.insert(HASH_LABEL.to_owned(), hash);
        pod
    }

    fn steps(set: &DaemonSet, pods: &[Pod]) -> (Vec<String>, Vec<String>) {
        let (one, two) = (node("n1"), node("n2"));
        let plan = plan(set, &[&one, &two], &pods.iter().collect::<Vec<_>>(), time(9));
        (plan.create.into_iter().map(|pod| pod.spec.node_name).collect(), plan.delete)
    }

    #[test]
    fn every_node_gets_one() {
        let (create, delete) = steps(&set(0, 1), &[on("n1", true, true)]);
        assert_eq!((create, delete), (vec!["n2".to_owned()], Vec::new()));
    }

    #[test]
    fn a_pod_on_a_vanished_node_and_a_second_one_go() {
        let mut second = on("n1", true, true);
        second.metadata.name = "second".to_owned();
        let (create, delete) =
            steps(&set(0, 1), &[on("n1", true, true), second, on("n2", true, true), on("n9", true, true)]);
        assert_eq!((create, delete), (Vec::new(), vec!["second".to_owned(), "n9-true".to_owned()]));
    }

    #[rstest::rstest]
    #[case::one_at_a_time(0, 1, [on("n1", false, true), on("n2", false, true)], &[], &["n1-false"])]
    #[case::waits_for_the_first(0, 1, [on("n1", true, false), on("n2", false, true)], &[], &[])]
    #[case::goes_on(0, 1, [on("n1", true, true), on("n2", false, true)], &[], &["n2-false"])]
    #[case::broken_first(0, 1, [on("n1", false, true), on("n2", false, false)], &[], &["n2-false"])]
    #[case::surge_makes_before_it_breaks(1, 0, [on("n1", false, true), on("n2", false, true)], &["n1"], &[])]
    fn renewal(
        #[case] surge: i32,
        #[case] unavailable: i32,
        #[case] pods: [Pod; 2],
        #[case] create: &[&str],
        #[case] delete: &[&str],
    ) {
        let (made, deleted) = steps(&set(surge, unavailable), &pods);
        assert_eq!(
            (made.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), deleted),
            (create, delete.iter().map(|s| (*s).to_owned()).collect())
        );
    }

    #[rstest::rstest]
    #[case::waits(false, &[])]
    #[case::hands_over(true, &["n1-false"])]
    fn a_surging_node_keeps_its_old_pod_until_the_new_one_serves(#[case] serves: bool, #[case] delete: &[&str]) {
        let pods = [on("n1", false, true), on("n1", true, serves), on("n2", false, true)];
        let (create, deleted) = steps(&set(1, 0), &pods);
        assert_eq!(deleted, delete);
        assert!(create.is_empty(), "one surge at a time");
    }

    #[test]
    fn status_counts_nodes() {
        let (one, two) = (node("n1"), node("n2"));
        let pods = [on("n1", true, true), on("n2", false, false)];
        let status = plan(&set(0, 1), &[&one, &two], &[&pods[0], &pods[1]], time(9)).status;
        assert_eq!((status.desired_number_scheduled, status.number_ready, status.updated_number_scheduled), (2, 1, 1));
        assert_eq!((status.number_available, status.number_unavailable), (1, 1));
    }
}
