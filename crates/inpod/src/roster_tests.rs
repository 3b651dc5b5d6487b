//! The table of ztunnel.md §5.3, one conversation after the other.

use super::*;

/// Remembers what was asked of it; refuses namespaces below 0.
#[derive(Default)]
struct Recorder(std::sync::Arc<parking_lot::Mutex<Vec<String>>>);

impl Proxies for Recorder {
    type Namespace = i32;
    type Proxy = String;

    fn start(&mut self, uid: &Str, _: &WorkloadInfo, namespace: &i32) -> Result<String, String> {
        if *namespace < 0 {
            return Err(format!("{namespace} cannot be entered"));
        }
        self.0.lock().push(format!("start {uid} {namespace}"));
        Ok(format!("{uid} {namespace}"))
    }

    fn stop(&mut self, proxy: String, how: Stop) {
        self.0.lock().push(format!("{how:?} {proxy}"));
    }
}

struct Case {
    roster: Roster<Recorder>,
    log: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Case {
    fn new() -> Self {
        let recorder = Recorder::default();
        let log = recorder.0.clone();
        let mut roster = Roster::new(recorder);
        roster.connected();
        Self { roster, log }
    }

    fn add(&mut self, uid: &str, namespace: i32) -> Result<(), MessageError> {
        let info = WorkloadInfo { name: uid.into(), namespace: "ns".into(), service_account: "sa".into() };
        self.roster.handle(Request::Add { uid: uid.into(), info, namespace })
    }

    fn delete(&mut self, uid: &str) {
        self.roster.handle(Request::Delete { uid: uid.into() }).unwrap();
    }

    fn keep(&mut self, uid: &str) -> Result<(), MessageError> {
        self.roster.handle(Request::Keep { uid: uid.into() })
    }

    fn snapshot(&mut self) -> Result<(), MessageError> {
        self.roster.handle(Request::SnapshotSent)
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }
}

#[test]
fn pods_are_served_from_their_add_to_their_delete() {
    let mut case = Case::new();
    case.add("a", 1).unwrap();
    assert!(!case.roster.is_ready());
    case.snapshot().unwrap();
    assert!(case.roster.is_ready());
    case.add("a", 1).unwrap();
    assert_eq!(case.log(), ["start a 1"], "the same pod again changes nothing");
    case.delete("a");
    case.delete("a");
    assert_eq!(case.log(), ["Cut a 1"], "a second delete, as upstream's agent sends it, finds nothing");
    let census = case.roster.census();
    assert_eq!((census.active, census.started, census.stopped), (0, 1, 1));
}

#[test]
fn another_namespace_is_another_pod() {
    let mut case = Case::new();
    case.add("a", 1).unwrap();
    case.add("a", 2).unwrap();
    assert_eq!(case.log(), ["start a 1", "Drain a 1", "start a 2"]);
}

#[test]
fn a_lost_agent_stops_nothing_and_its_next_snapshot_decides() {
    let mut case = Case::new();
    for uid in ["a", "b", "c"] {
        case.add(uid, 1).unwrap();
    }
    case.snapshot().unwrap();
    case.log();
    case.roster.connected();
    assert!(!case.roster.is_ready());
    case.add("a", 1).unwrap();
    case.keep("b").unwrap();
    assert_eq!(case.log(), Vec::<String>::new());
    case.snapshot().unwrap();
    assert_eq!(case.log(), ["Drain c 1"]);
}

#[test]
fn a_delete_within_the_snapshot_takes_the_pod_out_of_it() {
    let mut case = Case::new();
    case.add("a", 1).unwrap();
    case.delete("a");
    assert_eq!(case.log(), ["start a 1"]);
    case.snapshot().unwrap();
    assert_eq!(case.log(), ["Drain a 1"]);
}

#[test]
fn what_cannot_be_served_is_said_and_tried_again() {
    let mut case = Case::new();
    let error = case.add("a", -1).unwrap_err();
    assert_eq!(error, MessageError::Unreadable("-1 cannot be entered".to_owned()));
    case.snapshot().unwrap();
    assert!(!case.roster.is_ready() && case.roster.census().pending == 1);
    case.roster.retry();
    assert!(!case.roster.is_ready());
    case.add("a", 1).unwrap();
    assert!(case.roster.is_ready());
}

#[test]
fn what_breaks_the_protocol_is_told_apart() {
    let mut case = Case::new();
    case.snapshot().unwrap();
    assert!(matches!(case.keep("a"), Err(MessageError::Protocol(_))));
    assert!(matches!(case.snapshot(), Err(MessageError::Protocol(_))));
}
