//! Response codes, flags and sections; garbage is survived.

use super::*;
use hickory_proto::op::Query;
use model::{Change, NetworkAddress, Service};
use proptest::prelude::*;
use rstest::rstest;
use std::sync::Arc;

const ASKER: Asker<'_> =
    Asker { namespace: "ns", network: "", domain: "cluster.local", preferred_namespace: None, search: None };

fn mesh() -> Mesh {
    let vip = NetworkAddress { network: "".into(), address: "10.1.0.1".parse().unwrap() };
    let service = Service {
        name: "web".into(),
        namespace: "ns".into(),
        hostname: "web.ns.svc.cluster.local".into(),
        vips: vec![vip],
        ..Service::default()
    };
    Mesh::new().apply([Change::Service(Arc::new(service))])
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 7;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn decide_on(message: &Message) -> Decision {
    decide(&mesh(), ASKER, true, &message.to_vec().unwrap(), |_| {})
}

fn reply_to(message: &Message) -> Message {
    match decide_on(message) {
        Decision::Reply(reply) => Message::from_vec(&reply.bytes).unwrap(),
        other => panic!("no reply: {other:?}"),
    }
}

#[test]
fn an_address_is_answered_with_authority_and_thirty_seconds() {
    let reply = reply_to(&query("WEB.ns.svc.cluster.local.", RecordType::A));
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (7, ResponseCode::NoError));
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available && reply.metadata.recursion_desired);
    let [record] = &reply.answers[..] else { panic!("{reply:?}") };
    assert_eq!((record.ttl, &record.data), (30, &RData::A(rdata::A([10, 1, 0, 1].into()))));
    assert_eq!(record.name.to_ascii(), "WEB.ns.svc.cluster.local.");
}

#[test]
fn a_search_domain_is_undone_by_an_alias() {
    let reply = reply_to(&query("web.ns.svc.cluster.local.ns.svc.cluster.local.", RecordType::A));
    let [alias, address] = &reply.answers[..] else { panic!("{reply:?}") };
    assert_eq!(alias.record_type(), RecordType::CNAME);
    assert_eq!(address.name.to_ascii(), "web.ns.svc.cluster.local.");
}

#[test]
fn a_family_that_is_not_served_gives_an_empty_answer() {
    let reply = reply_to(&query("web.", RecordType::AAAA));
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
}

#[rstest]
#[case("www.example.com.", RecordType::A)]
#[case("web.", RecordType::SRV)]
#[case("web.", RecordType::TXT)]
fn what_is_not_ours_is_asked_elsewhere(#[case] name: &str, #[case] kind: RecordType) {
    assert!(matches!(decide_on(&query(name, kind)), Decision::Forward(_)));
}

#[test]
fn other_operations_and_responses_are_refused() {
    let mut update = query("web.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(reply_to(&update).metadata.response_code, ResponseCode::NotImp);
    let mut response = query("web.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(reply_to(&response).metadata.response_code, ResponseCode::FormErr);
    let mut two = query("web.", RecordType::A);
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(reply_to(&two).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn what_does_not_fit_is_marked_as_cut() {
    let mut message = query("web.", RecordType::A);
    let record = |n| Record::from_rdata(Name::from_ascii("web.").unwrap(), 1, RData::A(rdata::A([10, 0, 0, n].into())));
    message.answers = (0..100).map(record).collect();
    let cut = fit(message.to_vec().unwrap(), MIN_PAYLOAD);
    assert!(cut.len() <= 512 && Message::from_vec(&cut).unwrap().metadata.truncation);
}

proptest! {
    #[test]
    fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decide(&mesh(), ASKER, true, &bytes, |_| {});
        let _ = fit(bytes, MIN_PAYLOAD);
    }
}
