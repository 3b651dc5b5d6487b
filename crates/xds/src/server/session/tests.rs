//! What one proxy is sent: wildcard, resumed, on demand; and that deltas add up to the whole.

use super::*;
use crate::server::Resource;
use proptest::prelude::*;
use prost::Message;
use proto::type_url::{ADDRESS, AUTHORIZATION};
use std::collections::BTreeMap;

fn snapshot(addresses: &Collection) -> Snapshot {
    Snapshot::new([(ADDRESS, addresses.clone()), (AUTHORIZATION, Collection::default())])
}

fn with(collection: &Collection, changes: &[(&str, Option<u8>)]) -> Collection {
    collection.with(
        changes
            .iter()
            .map(|(name, content)| (Str::from(*name), content.map(|content| Resource::new(*name, vec![content])))),
    )
}

fn session() -> Session {
    let metadata = prost_types::Struct {
        fields: [(
            "NODE_NAME".to_owned(),
            prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("n1".to_owned())) },
        )]
        .into(),
    };
    Session::new(Node { id: "ztunnel".to_owned(), metadata: Some(metadata), ..Node::default() }, "istiod")
}

/// A response as the proxy reads it from the wire.
fn read(push: &Push) -> DeltaDiscoveryResponse {
    let mut bytes = Vec::new();
    push.encode(&mut bytes);
    assert_eq!(bytes.len(), push.encoded_len());
    DeltaDiscoveryResponse::decode(&bytes[..]).unwrap()
}

fn ask(session: &mut Session, request: DeltaDiscoveryRequest, snapshot: &Snapshot) -> Option<DeltaDiscoveryResponse> {
    session.on_request(request, snapshot).unwrap().as_ref().map(read)
}

fn changes(session: &mut Session, snapshot: &Snapshot) -> Vec<DeltaDiscoveryResponse> {
    std::iter::from_fn(|| session.on_change(snapshot).unwrap().as_ref().map(read)).collect()
}

fn first(versions: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ADDRESS.to_owned(),
        initial_resource_versions: versions.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn on_demand(subscribe: &[&str]) -> DeltaDiscoveryRequest {
    let subscribe = subscribe.iter().map(|&name| name.to_owned());
    DeltaDiscoveryRequest {
        resource_names_subscribe: subscribe.chain(["*".to_owned()]).collect(),
        resource_names_unsubscribe: vec!["*".to_owned()],
        ..first(&[])
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    let mut names: Vec<_> = response.resources.iter().map(|resource| resource.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_wildcard_client_gets_everything_and_then_what_changes() {
    let one = with(&Collection::default(), &[("a", Some(1)), ("b", Some(1))]);
    let mut session = session();
    let answer = ask(&mut session, first(&[]), &snapshot(&one)).unwrap();
    assert_eq!(names(&answer), ["a", "b"]);
    assert!(answer.resources.iter().all(|resource| resource.aliases.is_empty()));
    assert_eq!(answer.control_plane.unwrap().identifier, "istiod");
    assert!(changes(&mut session, &snapshot(&one)).is_empty());

    let two = with(&one, &[("a", Some(2)), ("b", None), ("c", Some(1))]);
    let pushed = changes(&mut session, &snapshot(&two));
    assert_eq!(names(&pushed[0]), ["a", "c"]);
    assert_eq!(pushed[0].removed_resources, ["b"]);
}

#[test]
fn the_first_request_of_a_type_is_answered_even_with_nothing() {
    let mut session = session();
    for type_url in [ADDRESS, AUTHORIZATION, "unheard.of"] {
        let request = DeltaDiscoveryRequest { type_url: type_url.to_owned(), ..DeltaDiscoveryRequest::default() };
        let answer = ask(&mut session, request, &snapshot(&Collection::default())).unwrap();
        assert!(answer.resources.is_empty() && answer.type_url == type_url);
    }
}

#[test]
fn a_returning_client_gets_only_what_differs() {
    let collection = with(&Collection::default(), &[("same", Some(1)), ("newer", Some(2)), ("new", Some(1))]);
    let same = format!("{:x}", collection.get("same").unwrap().version);
    let request = first(&[("same", &same), ("newer", "abc"), ("gone", "def"), ("odd", "not a version")]);
    let answer = ask(&mut session(), request, &snapshot(&collection)).unwrap();
    assert_eq!(names(&answer), ["new", "newer"]);
    let mut removed = answer.removed_resources;
    removed.sort_unstable();
    assert_eq!(removed, ["gone", "odd"]);
}

#[test]
fn acknowledgements_count_only_for_the_last_response() {
    let one = with(&Collection::default(), &[("a", Some(1))]);
    let mut session = session();
    let answer = ask(&mut session, first(&[]), &snapshot(&one)).unwrap();
    let ack = |nonce: &str, error: Option<&str>| DeltaDiscoveryRequest {
        type_url: ADDRESS.to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: error.map(|message| proto::rpc::Status { message: message.to_owned(), ..Default::default() }),
        ..DeltaDiscoveryRequest::default()
    };
    let status = |session: &Session| session.status()[0].config_status().as_str_name();
    assert_eq!(status(&session), "STALE");
    assert!(ask(&mut session, ack(&answer.nonce, None), &snapshot(&one)).is_none());
    assert_eq!(status(&session), "SYNCED");

    let two = with(&one, &[("a", Some(2))]);
    let pushed = changes(&mut session, &snapshot(&two)).remove(0);
    assert!(session.is_stale(&ack(&answer.nonce, Some("late"))));
    assert!(ask(&mut session, ack(&answer.nonce, Some("late")), &snapshot(&two)).is_none());
    assert_eq!(status(&session), "STALE");
    assert!(ask(&mut session, ack(&pushed.nonce, Some("a: broken")), &snapshot(&two)).is_none());
    assert_eq!(status(&session), "ERROR");
    assert_eq!(session.status()[0].refused.as_deref(), Some("a: broken"));
}

/// A service with an address, its two endpoints, and a pod of the proxy's own node.
fn shop() -> Collection {
    let mut service = Resource::new("shop/web", vec![1]);
    service.aliases = vec!["/10.96.0.1".into()];
    let endpoint = |name: &str, alias: &str| Resource {
        aliases: vec![alias.into()],
        backs: vec!["shop/web".into()],
        node: Some("n2".into()),
        ..Resource::new(name, vec![1])
    };
    let own = Resource { node: Some("n1".into()), ..Resource::new("own", vec![1]) };
    let all = [service, endpoint("web-1", "/10.0.0.1"), endpoint("web-2", "/10.0.0.2"), own];
    Collection::default().with(all.map(|resource| (resource.name.clone(), Some(resource))))
}

#[test]
fn on_demand_gives_the_own_node_and_what_is_asked_for() {
    let collection = shop();
    let mut session = session();
    let answer = ask(&mut session, on_demand(&[]), &snapshot(&collection)).unwrap();
    assert_eq!(names(&answer), ["own"]);

    let by_name = |name: &str| DeltaDiscoveryRequest {
        type_url: ADDRESS.to_owned(),
        resource_names_subscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    let by_address = ask(&mut session, by_name("/10.0.0.1"), &snapshot(&collection)).unwrap();
    assert_eq!(names(&by_address), ["web-1"]);
    assert_eq!(by_address.resources[0].aliases, ["/10.0.0.1"]);
    assert_eq!(by_address.removed_resources, ["/10.0.0.1"]);

    let by_vip = ask(&mut session, by_name("/10.96.0.1"), &snapshot(&collection)).unwrap();
    assert_eq!(names(&by_vip), ["shop/web", "web-1", "web-2"]);
    let unknown = ask(&mut session, by_name("shop/api"), &snapshot(&collection)).unwrap();
    assert_eq!(unknown.removed_resources, ["shop/api"]);

    // A new endpoint of a service that was asked for follows, and so does a name that did not exist; others do not.
    let later = collection.with([
        ("web-3".into(), Some(Resource { backs: vec!["shop/web".into()], ..Resource::new("web-3", vec![1]) })),
        ("shop/api".into(), Some(Resource::new("shop/api", vec![1]))),
        ("shop/other".into(), Some(Resource::new("shop/other", vec![1]))),
        ("web-1".into(), Some(Resource::new("web-1", vec![2]))),
    ]);
    let pushed = changes(&mut session, &snapshot(&later));
    assert_eq!(names(&pushed[0]), ["shop/api", "web-1", "web-3"]);
}

#[test]
fn on_demand_resumes_what_was_held_and_answers_what_was_not() {
    let collection = shop();
    let version = format!("{:x}", collection.get("web-1").unwrap().version);
    let mut request = on_demand(&[]);
    request.initial_resource_versions =
        [("web-1".to_owned(), version), ("shop/gone".to_owned(), String::new()), ("old".to_owned(), "1".to_owned())]
            .into();
    let answer = ask(&mut session(), request, &snapshot(&collection)).unwrap();
    assert_eq!(names(&answer), ["own"]);
    let mut removed = answer.removed_resources;
    removed.sort_unstable();
    assert_eq!(removed, ["old", "shop/gone"]);
}

/// What a proxy holds after some responses.
fn absorb(held: &mut BTreeMap<String, Vec<u8>>, response: &DeltaDiscoveryResponse) {
    for resource in &response.resources {
        held.insert(resource.name.clone(), resource.resource.clone().unwrap().value);
    }
    for name in &response.removed_resources {
        held.remove(name);
    }
}

fn whole(collection: &Collection) -> BTreeMap<String, Vec<u8>> {
    collection.iter().map(|resource| (resource.name.to_string(), resource.body.clone())).collect()
}

proptest! {
    /// Whichever snapshots a proxy sees and however often it comes back, it ends up with the whole.
    #[test]
    fn deltas_add_up_to_the_whole(
        steps in prop::collection::vec((prop::collection::vec((0u8..6, prop::option::of(0u8..4)), 0..5), 0u8..4), 1..24)
    ) {
        let mut collection = Collection::default();
        let (mut session, mut held) = (session(), BTreeMap::new());
        absorb(&mut held, &ask(&mut session, first(&[]), &snapshot(&collection)).unwrap());
        for (edits, then) in steps {
            let edits: Vec<_> = edits.iter().map(|(name, content)| (format!("r{name}"), *content)).collect();
            let edits: Vec<_> = edits.iter().map(|(name, content)| (name.as_str(), *content)).collect();
            collection = with(&collection, &edits);
            match then {
                // A snapshot that the proxy is too slow to see.
                0 => continue,
                // The connection breaks; the proxy comes back with what it holds.
                1 => {
                    let versions: Vec<_> = held
                        .iter()
                        .map(|(name, body)| (name.clone(), format!("{:x}", Resource::new(name.as_str(), body.clone()).version)))
                        .collect();
                    let versions: Vec<_> = versions.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                    session = self::session();
                    absorb(&mut held, &ask(&mut session, first(&versions), &snapshot(&collection)).unwrap());
                }
                _ => changes(&mut session, &snapshot(&collection)).iter().for_each(|response| absorb(&mut held, response)),
            }
            prop_assert_eq!(&held, &whole(&collection));
        }
    }
}

fn also(subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    DeltaDiscoveryRequest {
        type_url: ADDRESS.to_owned(),
        resource_names_subscribe: texts(subscribe),
        resource_names_unsubscribe: texts(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    }
}

#[test]
fn a_client_may_turn_from_names_to_everything_and_back() {
    let collection = shop();
    let mut session = session();
    ask(&mut session, on_demand(&["web-1"]), &snapshot(&collection)).unwrap();
    let rest = ask(&mut session, also(&["*"], &[]), &snapshot(&collection)).unwrap();
    assert_eq!(names(&rest), ["shop/web", "web-2"], "what it holds already is not sent again");

    let later = with(&collection, &[("web-1", Some(2)), ("web-2", Some(2))]);
    let back = ask(&mut session, also(&[], &["*"]), &snapshot(&later)).unwrap();
    assert_eq!(names(&back), ["web-1"], "only what it named is kept up to date");
    let last = with(&later, &[("web-1", Some(3)), ("web-2", Some(3)), ("own", Some(3))]);
    assert_eq!(names(&changes(&mut session, &snapshot(&last))[0]), ["own", "web-1"]);
    // A name that was given up is not sent any more.
    assert!(ask(&mut session, also(&[], &["web-1"]), &snapshot(&last)).is_none());
    assert!(changes(&mut session, &snapshot(&with(&last, &[("web-1", Some(4))]))).is_empty());
}

#[test]
fn a_wildcard_client_may_name_resources_too() {
    let collection = shop();
    let mut session = session();
    let answer = ask(&mut session, also(&["*", "shop/none"], &[]), &snapshot(&collection)).unwrap();
    assert_eq!((answer.resources.len(), &answer.removed_resources[..]), (4, &["shop/none".to_owned()][..]));
    let named = ask(&mut session, also(&["/10.0.0.1"], &[]), &snapshot(&collection)).unwrap();
    assert_eq!(names(&named), ["web-1"]);
}

#[test]
fn workloads_and_services_may_be_asked_for_alone() {
    use crate::wds::{Address, encode_address};
    let service = model::Service { namespace: "shop".into(), hostname: "web".into(), ..Default::default() };
    let workload = model::Workload { uid: "w".into(), name: "pod".into(), ..Default::default() };
    let all = [Address::Service(Box::new(service)), Address::Workload(Box::new(workload))];
    let all = all.map(|address| (address.name(), encode_address(&address).encode_to_vec()));
    let collection =
        Collection::default().with(all.map(|(name, body)| (name.clone(), Some(Resource::new(name, body)))));
    let mut session = session();
    for (type_url, expected) in [(WORKLOAD, "w"), (SERVICE, "shop/web")] {
        let request = DeltaDiscoveryRequest { type_url: type_url.to_owned(), ..DeltaDiscoveryRequest::default() };
        let answer = ask(&mut session, request, &snapshot(&collection)).unwrap();
        assert_eq!(names(&answer), [expected]);
        let any = answer.resources[0].resource.clone().unwrap();
        assert_eq!(any.type_url, type_url);
        if type_url == WORKLOAD {
            assert_eq!(proto::workload::Workload::decode(&any.value[..]).unwrap().name, "pod");
        } else {
            assert_eq!(proto::workload::Service::decode(&any.value[..]).unwrap().hostname, "web");
        }
    }
    let gone = collection.with([("w".into(), None)]);
    let told = changes(&mut session, &snapshot(&gone));
    assert!(told.iter().any(|told| told.type_url == WORKLOAD && told.removed_resources == ["w"]));
}

#[test]
fn what_is_for_one_gateway_is_told_to_no_other() {
    let keys = |content: u8| Resource::new("tls", vec![content]).for_gateway("a/front");
    let both = [("tls".into(), Some(keys(1))), ("route".into(), Some(Resource::new("route", vec![1])))];
    let collection = Collection::default().with(both);
    let mut owner = session().for_gateway(Some("a/front".into()));
    let mut others = [session(), session().for_gateway(Some("b/front".into()))];
    let answer = ask(&mut owner, first(&[]), &snapshot(&collection)).unwrap();
    assert_eq!(names(&answer), ["route", "tls"]);
    for other in &mut others {
        assert_eq!(names(&ask(other, first(&[("tls", "1")]), &snapshot(&collection)).unwrap()), ["route"]);
        let by_name = ask(other, also(&["tls"], &[]), &snapshot(&collection)).unwrap();
        assert_eq!((by_name.resources.len(), &by_name.removed_resources[..]), (0, &["tls".to_owned()][..]));
    }
    let changed = collection.with([("tls".into(), Some(keys(2)))]);
    assert_eq!(names(&changes(&mut owner, &snapshot(&changed))[0]), ["tls"]);
    // Given to another gateway, it is taken from the one that had it.
    let moved = changed.with([("tls".into(), Some(Resource::new("tls", vec![2]).for_gateway("b/front")))]);
    assert_eq!(changes(&mut owner, &snapshot(&moved))[0].removed_resources, ["tls"]);
    let [nobody, gainer] = &mut others;
    assert!(changes(nobody, &snapshot(&moved)).is_empty());
    assert_eq!(names(&changes(gainer, &snapshot(&moved))[0]), ["tls"]);
    let removed = moved.with([("tls".into(), None)]);
    assert!(changes(nobody, &snapshot(&removed)).is_empty());
}

#[test]
fn a_type_that_is_not_known_yet_is_answered_later() {
    let catalog = crate::server::Catalog::new(&[ADDRESS]);
    catalog.add("routes");
    catalog.publish(ADDRESS, []);
    let before = catalog.snapshots().borrow().clone().unwrap();
    let mut session = session();
    let request = DeltaDiscoveryRequest { type_url: "routes".to_owned(), ..DeltaDiscoveryRequest::default() };
    assert!(ask(&mut session, request, &before).is_none());
    assert!(changes(&mut session, &before).is_empty());
    catalog.publish("routes", []);
    let after = catalog.snapshots().borrow().clone().unwrap();
    let told = changes(&mut session, &after);
    assert_eq!((told.len(), told[0].type_url.as_str(), told[0].resources.len()), (1, "routes", 0));
    assert!(changes(&mut session, &after).is_empty());
}

#[test]
fn garbage_ends_with_an_error_and_bounded_memory() {
    let collection = shop();
    let mut session = session();
    ask(&mut session, on_demand(&[]), &snapshot(&collection)).unwrap();
    let long = "x".repeat(MAX_LENGTH);
    let answer = ask(&mut session, also(&[&long], &[]), &snapshot(&collection)).unwrap();
    assert_eq!(answer.removed_resources, [long]);
    let mut asked = 0u32;
    let refused = loop {
        let request = DeltaDiscoveryRequest {
            type_url: ADDRESS.to_owned(),
            resource_names_subscribe: (asked..asked + 10_000).map(|number| format!("garbage-{number}")).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        asked += 10_000;
        match session.on_request(request, &snapshot(&collection)) {
            Ok(_) => assert!(asked < 1_000_000, "nothing bounds what is remembered"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SessionError::TooManyNames(_)));

    let types = (0..).map(|number| DeltaDiscoveryRequest { type_url: format!("type-{number}"), ..Default::default() });
    let mut session = self::session();
    let refused = types.take(100).find_map(|request| session.on_request(request, &snapshot(&collection)).err());
    assert!(matches!(refused, Some(SessionError::TooManyTypes(_))));
}

/// Longer than any name that is remembered.
const MAX_LENGTH: usize = 100_000;

#[test]
fn who_fell_too_far_behind_is_told_to_come_back() {
    let mut collection = shop();
    let mut session = session();
    ask(&mut session, first(&[]), &snapshot(&collection)).unwrap();
    for round in 0..3u8 {
        let churn = (0..20_000).map(|number| {
            let name: Str = format!("p{number}").into();
            (name.clone(), (round == 0).then(|| Resource::new(name, vec![round])))
        });
        collection = collection.with(churn);
    }
    assert_eq!(session.on_change(&snapshot(&collection)).unwrap_err(), SessionError::FellBehind);
}
