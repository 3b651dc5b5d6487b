//! Tables of what a Deployment needs done, one step at a time.

use super::*;
use crate::controllers::rollout::tests::time;

fn deployment(replicas: i32, version: &str) -> Deployment {
    let mut deployment = Deployment { metadata: api::ObjectMeta::named("ns", "web"), ..Deployment::default() };
    deployment.metadata.uid = "d".to_owned();
    deployment.metadata.generation = 1;
    deployment.spec.replicas = Some(replicas);
    deployment.spec.template.metadata.labels.insert("app".to_owned(), "web".to_owned());
    deployment.spec.template.metadata.labels.insert("version".to_owned(), version.to_owned());
    deployment
}

/// The ReplicaSet that the Deployment of `version` makes, with so many pods of which so many are available.
fn set(version: &str, revision: i64, replicas: i32, available: i32) -> ReplicaSet {
    let annotations = vec![(REVISION.to_owned(), revision.to_string())];
    let mut set = new_set(&deployment(4, version), replicas, annotations);
    set.metadata.creation_timestamp = Some(time(revision));
    set.status.replicas = replicas;
    set.status.ready_replicas = available;
    set.status.available_replicas = available;
    set
}

fn sizes(plan: &Plan, sets: &[&ReplicaSet]) -> Vec<i32> {
    let changed = |set: &&ReplicaSet| {
        plan.steps.iter().find_map(|step| match step {
            Step::Scale { name, replicas, .. } if name == set.name() => Some(*replicas),
            _ => None,
        })
    };
    sets.iter().map(|set| changed(set).or(set.spec.replicas).unwrap()).collect()
}

#[test]
fn a_first_template_gets_a_replica_set_of_full_size() {
    let plan = plan(&deployment(3, "v1"), &[], time(10));
    let Some(Step::Create(set)) = plan.steps.iter().find(|step| matches!(step, Step::Create(_))) else {
        panic!("no ReplicaSet in {plan:?}");
    };
    assert_eq!(set.spec.replicas, Some(3));
    assert_eq!(set.metadata().annotation(REVISION), Some("1"));
    let hash = set.metadata().label(HASH_LABEL).unwrap();
    assert_eq!(set.name(), format!("web-{hash}"));
    assert_eq!(set.spec.selector.match_labels.get(HASH_LABEL).map(String::as_str), Some(hash));
    assert!(plan.steps.contains(&Step::Annotate { revision: "1".to_owned() }));
}

/// Sizes of old and new after one step, for 4 replicas with 25 % of each kind (surge 1, unavailable 1).
#[rstest::rstest]
#[case::begins((4, 4), (0, 0), [3, 1])]
#[case::new_ones_come_up((3, 3), (1, 0), [3, 2])]
#[case::waits_for_readiness((3, 3), (2, 0), [3, 2])]
#[case::goes_on((3, 3), (2, 1), [2, 2])]
#[case::broken_old_ones_go_first((4, 2), (1, 1), [2, 1])]
#[case::ends((0, 0), (4, 4), [0, 4])]
fn rolling(#[case] old: (i32, i32), #[case] new: (i32, i32), #[case] expected: [i32; 2]) {
    let (old, new) = (set("v1", 1, old.0, old.1), set("v2", 2, new.0, new.1));
    let plan = plan(&deployment(4, "v2"), &[&old, &new], time(10));
    assert_eq!(sizes(&plan, &[&old, &new]), expected);
}

#[test]
fn rolling_never_leaves_the_bounds_and_ends() {
    let (mut old, mut new) = (set("v1", 1, 4, 4), set("v2", 2, 0, 0));
    for round in 0..40 {
        let plan = plan(&deployment(4, "v2"), &[&old, &new], time(round));
        let next = sizes(&plan, &[&old, &new]);
        assert!(next.iter().sum::<i32>() <= 5, "surge: {next:?}");
        for (set, size) in [(&mut old, next[0]), (&mut new, next[1])] {
            set.spec.replicas = Some(size);
            set.status.replicas = size;
            set.status.available_replicas = set.status.available_replicas.min(size);
        }
        let available = old.status.available_replicas + new.status.available_replicas;
        assert!(available >= 3, "unavailable: {available}");
        if new.status.available_replicas < new.status.replicas && round % 2 == 1 {
            new.status.available_replicas += 1;
        }
    }
    assert_eq!((old.spec.replicas, new.spec.replicas), (Some(0), Some(4)));
}

#[test]
fn recreate_waits_until_the_old_pods_are_gone() {
    let mut wanted = deployment(2, "v2");
    wanted.spec.strategy.type_ = "Recreate".to_owned();
    let (mut old, new) = (set("v1", 1, 2, 2), set("v2", 2, 0, 0));
    assert_eq!(sizes(&plan(&wanted, &[&old, &new], time(1)), &[&old, &new]), [0, 0]);
    old.spec.replicas = Some(0);
    assert_eq!(sizes(&plan(&wanted, &[&old, &new], time(1)), &[&old, &new]), [0, 0], "pods still end");
    old.status.replicas = 0;
    assert_eq!(sizes(&plan(&wanted, &[&old, &new], time(1)), &[&old, &new]), [0, 2]);
}

#[test]
fn going_back_reuses_the_old_replica_set_and_raises_its_revision() {
    let (first, second) = (set("v1", 1, 0, 0), set("v2", 2, 4, 4));
    let plan = plan(&deployment(4, "v1"), &[&first, &second], time(10));
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Create(_))));
    let annotations = plan.steps.iter().find_map(|step| match step {
        Step::Scale { name, annotations, .. } if name == first.name() => Some(annotations.clone()),
        _ => None,
    });
    let annotations = annotations.unwrap();
    assert!(annotations.contains(&(REVISION.to_owned(), "3".to_owned())));
    assert!(annotations.contains(&(REVISION_HISTORY.to_owned(), "1".to_owned())));
}

#[test]
fn a_paused_deployment_keeps_its_old_pods() {
    let mut wanted = deployment(4, "v2");
    wanted.spec.paused = true;
    let old = set("v1", 1, 4, 4);
    assert!(!plan(&wanted, &[&old], time(1)).steps.iter().any(|step| matches!(step, Step::Create(_))));
}

#[test]
fn history_is_kept_up_to_its_limit() {
    let mut wanted = deployment(4, "v4");
    wanted.spec.revision_history_limit = Some(1);
    let sets = [set("v1", 1, 0, 0), set("v2", 2, 0, 0), set("v3", 3, 2, 2), set("v4", 4, 2, 2)];
    let plan = plan(&wanted, &sets.iter().collect::<Vec<_>>(), time(1));
    let deleted: Vec<_> = plan.steps.iter().filter(|step| matches!(step, Step::Delete { .. })).collect();
    assert_eq!(deleted, [&Step::Delete { name: sets[0].name().to_owned() }]);
}

fn progressing(plan: &Plan) -> (String, String) {
    let condition = plan.status.conditions.iter().find(|condition| condition.type_ == "Progressing").unwrap();
    (condition.status.clone(), condition.reason.clone())
}

#[test]
fn progress_is_reported_as_rollout_status_reads_it() {
    let mut wanted = deployment(4, "v1");
    let waiting = set("v1", 1, 4, 0);
    let first = plan(&wanted, &[&waiting], time(100));
    assert_eq!(progressing(&first), ("True".to_owned(), "ReplicaSetUpdated".to_owned()));
    wanted.status = first.status;
    let stuck = plan(&wanted, &[&waiting], time(100 + 601));
    assert_eq!(progressing(&stuck), ("False".to_owned(), "ProgressDeadlineExceeded".to_owned()));
    let done = plan(&wanted, &[&set("v1", 1, 4, 4)], time(120));
    assert_eq!(progressing(&done), ("True".to_owned(), "NewReplicaSetAvailable".to_owned()));
    assert_eq!(done.status.unavailable_replicas, 0);
}

#[test]
fn a_status_that_says_the_same_stays_the_same() {
    let mut wanted = deployment(4, "v1");
    let done = set("v1", 1, 4, 4);
    wanted.status = plan(&wanted, &[&done], time(100)).status;
    assert_eq!(plan(&wanted, &[&done], time(200)).status, wanted.status);
}
