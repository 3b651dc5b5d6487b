//! Who serves when workers come and go.

use super::*;
use inpod::{Capture, SocketConfig};

fn settings() -> Settings {
    let sockets = SocketConfig {
        mark: None,
        port_reuse: true,
        original_source: None,
        ipv6: false,
        keepalive: false,
        keepalive_time: Duration::ZERO,
        keepalive_interval: Duration::ZERO,
        keepalive_retries: 0,
        user_timeout: false,
    };
    Settings { sockets, capture: Capture { connections: None, dns: None, socks: false } }
}

struct Case {
    hold: Hold,
    queues: BTreeMap<u64, mpsc::Receiver<Outgoing>>,
}

impl Case {
    /// One pod, nobody who serves it.
    fn new() -> Self {
        let mut hold = Hold { settings: Some(settings()), ..Hold::default() };
        let info = WorkloadInfo { name: "a".into(), namespace: "ns".into(), service_account: "sa".into() };
        let opened = Opened { listeners: Vec::new(), original_source: true };
        let place = Place { namespace: NetNs::current().unwrap(), opened: Some(Arc::new(opened)) };
        hold.start(&"a".into(), &info, &place).unwrap();
        hold.complete();
        Self { hold, queues: BTreeMap::new() }
    }

    fn worker(&mut self) -> u64 {
        let (number, queue) = self.hold.greet(settings());
        self.queues.insert(number, queue);
        assert_eq!(self.said(number), ["Welcome"]);
        self.hold.ready(number);
        number
    }

    /// What a worker was told since the last time.
    fn said(&mut self, number: u64) -> Vec<String> {
        let queue = self.queues.get_mut(&number).unwrap();
        let said = std::iter::from_fn(|| queue.try_recv().ok());
        let word = |outgoing: Outgoing| {
            let text = format!("{:?}", outgoing.message);
            text.split(|character: char| !character.is_alphanumeric()).next().unwrap().to_owned()
        };
        said.map(word).collect()
    }
}

#[test]
fn a_successor_has_the_pods_before_its_predecessor_retires() {
    let mut case = Case::new();
    let first = case.worker();
    assert_eq!(case.said(first), ["Add", "SnapshotSent"]);
    case.hold.serving(first);
    assert_eq!(case.said(first), [""; 0]);
    let second = case.worker();
    assert_eq!((case.said(first), case.said(second)), (vec![], vec!["Add".to_owned(), "SnapshotSent".to_owned()]));
    case.hold.serving(second);
    assert_eq!((case.said(first), case.said(second)), (vec!["Retire".to_owned()], vec![]));
    case.hold.stop("a".into(), Stop::Cut);
    assert_eq!((case.said(first), case.said(second)), (vec![], vec!["Delete".to_owned()]));
}

#[test]
fn a_successor_that_dies_gives_the_pods_back() {
    let mut case = Case::new();
    let (first, second) = (case.worker(), case.worker());
    case.hold.gone(second);
    case.said(first);
    case.hold.serving(first);
    let third = case.worker();
    case.hold.serving(third);
    assert_eq!(case.said(first), ["Retire"]);
    case.hold.gone(third);
    assert_eq!(case.said(first), ["Add", "SnapshotSent"], "the retired one serves again");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gets_nothing_more_and_pods_are_not_taken_on_for_nobody() {
    let mut case = Case::new();
    let first = case.worker();
    case.said(first);
    case.hold.leaving(first);
    assert_eq!(case.said(first), [""; 0]);
    let info = case.hold.pods["a"].info.clone();
    let place = Place::from(NetNs::current().unwrap());
    case.hold.start(&"b".into(), &info, &place).unwrap();
    tokio::time::advance(ABSENCE * 2).await;
    let error = case.hold.start(&"c".into(), &info, &place).unwrap_err();
    assert!(error.contains("no worker"), "{error}");
}

#[test]
fn a_worker_that_reads_nothing_is_given_up() {
    let mut case = Case::new();
    let number = case.worker();
    for _ in 0..=QUEUE {
        case.hold.make(number, "none".into(), Kind::Udp { v6: false }, 1);
    }
    assert!(case.hold.workers.is_empty());
}
