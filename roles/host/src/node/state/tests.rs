//! Tables of what is started next, and makers of pods and states for the tests of this node.

use super::*;

pub(in crate::node) fn time(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).unwrap())
}

pub(in crate::node) fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u" }, "spec": spec,
    }))
    .unwrap()
}

pub(in crate::node) fn ended(code: i32, finished: i64) -> Ended {
    Ended {
        code,
        signal: 0,
        reason: if code == 0 { "Completed" } else { "Error" },
        message: String::new(),
        started_at: time(finished - 1),
        finished_at: time(finished),
        id: "ambit://x".to_owned(),
    }
}

/// A pod whose sandbox is ready, with these activities.
fn state(activities: &[(&str, Activity)]) -> PodState {
    let containers = activities
        .iter()
        .map(|(name, activity)| ((*name).to_owned(), Record { activity: activity.clone(), ..Record::default() }))
        .collect();
    PodState { sandbox: true, containers, ..PodState::default() }
}

fn running(started: bool) -> Activity {
    Activity::Running { since: time(1), id: String::new(), started, ready: started }
}

fn starts(pod: &Pod, state: &PodState) -> Vec<String> {
    let steps = next(pod, state, time(100)).into_iter();
    steps.map(|step| if let Step::Start(name) = step { name } else { "wait".to_owned() }).collect()
}

#[rstest::rstest]
#[case(0, 0)]
#[case(1, 0)]
#[case(2, 10)]
#[case(3, 20)]
#[case(6, 160)]
#[case(7, 300)]
#[case(4_000_000, 300)]
fn restarts_wait_longer_and_longer(#[case] crashes: u32, #[case] seconds: u64) {
    assert_eq!(back_off(&Pod::default(), crashes), Duration::from_secs(seconds));
    let mut critical = Pod::default();
    critical.spec.priority_class_name = "system-node-critical".to_owned();
    assert!(back_off(&critical, crashes) <= Duration::from_secs(1));
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod(serde_json::json!({
        "initContainers": [{ "name": "i1" }, { "name": "i2" }], "containers": [{ "name": "a" }, { "name": "b" }],
    }));
    assert_eq!(starts(&pod, &state(&[])), ["i1"]);
    assert!(starts(&pod, &state(&[("i1", running(true))])).is_empty());
    assert_eq!(starts(&pod, &state(&[("i1", Activity::Ended(ended(0, 9)))])), ["i2"]);
    assert_eq!(starts(&pod, &state(&[("i1", Activity::Ended(ended(1, 9)))])), ["i1"], "a failed one runs again");
    let done = [("i1", Activity::Ended(ended(0, 9))), ("i2", Activity::Ended(ended(0, 9)))];
    assert_eq!(starts(&pod, &state(&done)), ["a", "b"]);
}

#[test]
fn a_sidecar_must_have_started_before_the_others() {
    let pod = pod(serde_json::json!({
        "initContainers": [{ "name": "s", "restartPolicy": "Always" }], "containers": [{ "name": "a" }],
    }));
    assert!(starts(&pod, &state(&[("s", running(false))])).is_empty());
    assert_eq!(starts(&pod, &state(&[("s", running(true))])), ["a"]);
    assert_eq!(starts(&pod, &state(&[("s", Activity::Ended(ended(0, 9))), ("a", running(true))])), ["s"]);
}

#[rstest::rstest]
#[case("Always", 0, true)]
#[case("", 1, true)]
#[case("OnFailure", 0, false)]
#[case("OnFailure", 1, true)]
#[case("Never", 1, false)]
fn restart_policies(#[case] policy: &str, #[case] code: i32, #[case] again: bool) {
    let pod = pod(serde_json::json!({ "restartPolicy": policy, "containers": [{ "name": "a" }] }));
    assert_eq!(!starts(&pod, &state(&[("a", Activity::Ended(ended(code, 9)))])).is_empty(), again);
}

#[test]
fn a_crashing_container_is_restarted_at_once_and_then_waits() {
    let pod = pod(serde_json::json!({ "containers": [{ "name": "a" }] }));
    let container = &pod.spec.containers[0];
    let mut state = state(&[]);
    state.started(container, "1".to_owned(), time(8));
    state.ended(&pod, container, ended(1, 9));
    assert_eq!(next(&pod, &state, time(9)), [Step::Start("a".to_owned())]);
    state.started(container, "2".to_owned(), time(9));
    state.ended(&pod, container, ended(1, 10));
    assert_eq!(next(&pod, &state, time(10)), [Step::Wait(time(20))]);
    assert_eq!(next(&pod, &state, time(20)), [Step::Start("a".to_owned())]);
    state.started(container, "3".to_owned(), time(20));
    assert_eq!(state.containers["a"].restarts, 2);
    state.ended(&pod, container, Ended { started_at: time(20), ..ended(1, 1_000) });
    assert_eq!(next(&pod, &state, time(1_000)), [Step::Start("a".to_owned())], "a long run is forgiven");
}

#[test]
fn nothing_starts_without_a_sandbox_or_while_stopping() {
    let pod = pod(serde_json::json!({ "containers": [{ "name": "a" }] }));
    assert!(starts(&pod, &PodState::default()).is_empty());
    assert!(starts(&pod, &PodState { stopping: true, ..state(&[]) }).is_empty());
}

#[test]
fn a_pod_of_an_earlier_life_is_restarted() {
    let mut pod = pod(serde_json::json!({ "containers": [{ "name": "a" }] }));
    pod.status.start_time = Some(time(3));
    pod.status.container_statuses.push(api::core::ContainerStatus {
        name: "a".to_owned(),
        container_id: "ambit://old".to_owned(),
        restart_count: 2,
        ..Default::default()
    });
    let mut state = PodState::begin(&pod, time(50));
    state.sandbox = true;
    assert_eq!(state.started, Some(time(3)));
    assert_eq!(starts(&pod, &state), ["a"]);
    state.started(&pod.spec.containers[0], "new".to_owned(), time(51));
    assert_eq!(state.containers["a"].restarts, 3);
}
