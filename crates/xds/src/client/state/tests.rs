//! The client's requests, answer by answer, as upstream's node proxy was recorded to send them.

use super::*;
use crate::{client::Event, wds::Address};
use prost::Message;
use proto::{core::Node, security, workload as wire};

/// Keeps what it was given; refuses what it is told to.
#[derive(Default)]
struct Kept {
    batches: Vec<Batch>,
    refuse: Vec<Str>,
}

impl Sink for Kept {
    fn apply(&mut self, batch: Batch) -> Vec<Rejection> {
        self.batches.push(batch);
        self.refuse.drain(..).map(|name| Rejection { name, reason: "refused".to_owned() }).collect()
    }

    fn observe(&mut self, _: Event<'_>) {}
}

fn node() -> Node {
    Node {
        id: "ztunnel~172.30.1.1~ztunnel-a.istio-system~istio-system.svc.cluster.local".to_owned(),
        ..Node::default()
    }
}

fn workload(uid: &str, version: &str) -> Resource {
    let workload = wire::Workload { uid: uid.to_owned(), ..wire::Workload::default() };
    resource(uid, version, &wire::Address { r#type: Some(wire::address::Type::Workload(workload)) })
}

fn resource(name: &str, version: &str, address: &wire::Address) -> Resource {
    let body = prost_types::Any { type_url: type_url::ADDRESS.to_owned(), value: address.encode_to_vec() };
    Resource { name: name.to_owned(), version: version.to_owned(), resource: Some(body), ..Resource::default() }
}

fn response(nonce: &str, resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url::ADDRESS.to_owned(),
        nonce: nonce.to_owned(),
        resources,
        removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn policies(nonce: &str) -> DeltaDiscoveryResponse {
    let policy =
        security::Authorization { name: "deny".to_owned(), namespace: "shop".to_owned(), ..Default::default() };
    let body = prost_types::Any { type_url: type_url::AUTHORIZATION.to_owned(), value: policy.encode_to_vec() };
    let resource = Resource { name: "shop/deny".to_owned(), resource: Some(body), ..Resource::default() };
    DeltaDiscoveryResponse {
        type_url: type_url::AUTHORIZATION.to_owned(),
        nonce: nonce.to_owned(),
        resources: vec![resource],
        ..Default::default()
    }
}

fn versions(request: &DeltaDiscoveryRequest) -> Vec<(&str, &str)> {
    let mut versions: Vec<_> =
        request.initial_resource_versions.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
    versions.sort_unstable();
    versions
}

#[test]
fn a_conversation_goes_as_recorded() {
    let (mut state, mut sink) = (State::new(Config::new(node())), Kept::default());
    let first = state.open();
    assert_eq!(first.iter().map(|request| request.type_url.as_str()).collect::<Vec<_>>(), TYPES[..2]);
    for request in &first {
        let nothing_else =
            DeltaDiscoveryRequest { node: Some(node()), type_url: request.type_url.clone(), ..Default::default() };
        assert_eq!(*request, nothing_else);
    }

    let reply = state.receive(response("n1", vec![workload("a", "1"), workload("b", "2")], &[]), &mut sink);
    let ack = DeltaDiscoveryRequest {
        type_url: type_url::ADDRESS.to_owned(),
        response_nonce: "n1".to_owned(),
        ..Default::default()
    };
    assert_eq!(reply.request, ack);
    assert!(!state.is_synced());
    state.receive(policies("n2"), &mut sink);
    assert!(state.is_synced());

    let mut broken = workload("broken", "3");
    broken.resource = Some(prost_types::Any { type_url: type_url::ADDRESS.to_owned(), value: vec![0xff] });
    let nack = state.receive(response("bad", vec![broken, workload("c", "4")], &["a"]), &mut sink);
    let error = nack.request.error_detail.unwrap();
    assert_eq!(error.code, 0);
    assert!(error.message.starts_with("broken: decode: "), "{}", error.message);

    // The next stream tells what is held: not what was refused, not what was removed.
    let again = state.open();
    assert_eq!(versions(&again[0]), [("b", "2"), ("c", "4")]);
    assert_eq!(versions(&again[1]), [("shop/deny", "")]);
    assert!(again.iter().all(|request| request.node == Some(node())));
}

#[test]
fn changes_reach_the_sink_in_order_upserts_first() {
    let (mut state, mut sink) = (State::new(Config::new(node())), Kept::default());
    state.receive(response("n", vec![workload("b", "1"), workload("a", "1")], &["gone"]), &mut sink);
    let Batch::Addresses(changes) = &sink.batches[0] else { panic!("not addresses") };
    let names: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::Upsert(address) => address.name(),
            Change::Remove(name) => format!("-{name}").into(),
        })
        .collect();
    assert_eq!(names, [Str::from("b"), "a".into(), "-gone".into()]);
    assert!(matches!(changes[0], Change::Upsert(Address::Workload(_))));
}

#[test]
fn several_refusals_are_told_together() {
    let (mut state, mut sink) = (State::new(Config::new(node())), Kept::default());
    sink.refuse = vec!["a".into(), "b".into()];
    let reply =
        state.receive(response("n", vec![workload("a", "1"), workload("b", "1"), workload("c", "1")], &[]), &mut sink);
    assert_eq!(reply.request.error_detail.unwrap().message, "a: refused; b: refused");
    assert_eq!(versions(&state.open()[0]), [("c", "1")]);
}

#[test]
fn a_refused_first_response_does_not_make_ready() {
    let (mut state, mut sink) = (State::new(Config::new(node())), Kept::default());
    state.receive(policies("p"), &mut sink);
    sink.refuse = vec!["a".into()];
    state.receive(response("1", vec![workload("a", "1")], &[]), &mut sink);
    assert!(!state.is_synced());
    state.receive(response("2", vec![], &[]), &mut sink);
    assert!(state.is_synced());
}

#[test]
fn a_refused_update_keeps_the_version_that_is_in_use() {
    let (mut state, mut sink) = (State::new(Config::new(node())), Kept::default());
    state.receive(response("1", vec![workload("a", "1")], &[]), &mut sink);
    sink.refuse = vec!["a".into()];
    state.receive(response("2", vec![workload("a", "2")], &[]), &mut sink);
    assert_eq!(versions(&state.open()[0]), [("a", "1")]);
}

#[test]
fn an_unknown_type_is_acknowledged_and_left_alone() {
    let (mut state, mut sink) = (State::new(Config::new(node())), Kept::default());
    let unknown = DeltaDiscoveryResponse { type_url: "other".to_owned(), nonce: "n".to_owned(), ..Default::default() };
    let reply = state.receive(unknown, &mut sink);
    assert!(reply.accepted && reply.request.response_nonce == "n" && sink.batches.is_empty());
}

#[test]
fn on_demand_names_are_asked_once_and_settled_by_name_alias_or_removal() {
    let config = Config { on_demand: true, ..Config::new(node()) };
    let (mut state, mut sink) = (State::new(config), Kept::default());
    let first = &state.open()[0];
    assert_eq!(first.resource_names_subscribe, ["*"]);
    assert_eq!(first.resource_names_unsubscribe, ["*"]);
    assert!(state.open()[1].resource_names_subscribe.is_empty());

    let asked = state.demand("/10.0.0.1").unwrap();
    assert_eq!((asked.resource_names_subscribe, asked.node), (vec!["/10.0.0.1".to_owned()], None));
    assert!(state.demand("/10.0.0.1").is_none());
    assert_eq!(versions(&state.open()[0]), [("/10.0.0.1", "")]);

    let mut found = workload("pod", "1");
    found.aliases = vec!["/10.0.0.1".to_owned()];
    let reply = state.receive(response("1", vec![found], &["other"]), &mut sink);
    for name in ["pod", "/10.0.0.1", "other"] {
        assert!(reply.settled.contains(name), "{name}");
    }
    assert_eq!(versions(&state.open()[0]), [("pod", "1")]);
}
