//! What one proxy is sent: wildcard, resumed, on demand; and that deltas add up to the whole.

use super::*;
use proptest::prelude::*;
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
    let answer = session.on_request(first(&[]), &snapshot(&one)).unwrap();
    assert_eq!(names(&answer), ["a", "b"]);
    assert!(answer.resources.iter().all(|resource| resource.aliases.is_empty()));
    assert_eq!(answer.control_plane.unwrap().identifier, "istiod");
    assert!(session.on_change(&snapshot(&one)).is_empty());

    let two = with(&one, &[("a", Some(2)), ("b", None), ("c", Some(1))]);
    let pushed = session.on_change(&snapshot(&two));
    assert_eq!(names(&pushed[0]), ["a", "c"]);
    assert_eq!(pushed[0].removed_resources, ["b"]);
}

#[test]
fn the_first_request_of_a_type_is_answered_even_with_nothing() {
    let mut session = session();
    for type_url in [ADDRESS, AUTHORIZATION, "unheard.of"] {
        let request = DeltaDiscoveryRequest { type_url: type_url.to_owned(), ..DeltaDiscoveryRequest::default() };
        let answer = session.on_request(request, &snapshot(&Collection::default())).unwrap();
        assert!(answer.resources.is_empty() && answer.type_url == type_url);
    }
}

#[test]
fn a_returning_client_gets_only_what_differs() {
    let collection = with(&Collection::default(), &[("same", Some(1)), ("newer", Some(2)), ("new", Some(1))]);
    let same = format!("{:x}", collection.get("same").unwrap().version);
    let request = first(&[("same", &same), ("newer", "abc"), ("gone", "def"), ("odd", "not a version")]);
    let answer = session().on_request(request, &snapshot(&collection)).unwrap();
    assert_eq!(names(&answer), ["new", "newer"]);
    let mut removed = answer.removed_resources;
    removed.sort_unstable();
    assert_eq!(removed, ["gone", "odd"]);
}

#[test]
fn acknowledgements_count_only_for_the_last_response() {
    let one = with(&Collection::default(), &[("a", Some(1))]);
    let mut session = session();
    let answer = session.on_request(first(&[]), &snapshot(&one)).unwrap();
    let ack = |nonce: &str, error: Option<&str>| DeltaDiscoveryRequest {
        type_url: ADDRESS.to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: error.map(|message| proto::rpc::Status { message: message.to_owned(), ..Default::default() }),
        ..DeltaDiscoveryRequest::default()
    };
    let status = |session: &Session| session.status("peer").types[0].config_status().as_str_name();
    assert_eq!(status(&session), "STALE");
    assert!(session.on_request(ack(&answer.nonce, None), &snapshot(&one)).is_none());
    assert_eq!(status(&session), "SYNCED");

    let two = with(&one, &[("a", Some(2))]);
    let pushed = session.on_change(&snapshot(&two)).remove(0);
    assert!(session.is_stale(&ack(&answer.nonce, Some("late"))));
    assert!(session.on_request(ack(&answer.nonce, Some("late")), &snapshot(&two)).is_none());
    assert_eq!(status(&session), "STALE");
    assert!(session.on_request(ack(&pushed.nonce, Some("a: broken")), &snapshot(&two)).is_none());
    assert_eq!(status(&session), "ERROR");
    assert_eq!(session.status("peer").types[0].refused.as_deref(), Some("a: broken"));
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
    let answer = session.on_request(on_demand(&[]), &snapshot(&collection)).unwrap();
    assert_eq!(names(&answer), ["own"]);

    let ask = |name: &str| DeltaDiscoveryRequest {
        type_url: ADDRESS.to_owned(),
        resource_names_subscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    let by_address = session.on_request(ask("/10.0.0.1"), &snapshot(&collection)).unwrap();
    assert_eq!(names(&by_address), ["web-1"]);
    assert_eq!(by_address.resources[0].aliases, ["/10.0.0.1"]);
    assert_eq!(by_address.removed_resources, ["/10.0.0.1"]);

    let by_vip = session.on_request(ask("/10.96.0.1"), &snapshot(&collection)).unwrap();
    assert_eq!(names(&by_vip), ["shop/web", "web-1", "web-2"]);
    let unknown = session.on_request(ask("shop/api"), &snapshot(&collection)).unwrap();
    assert_eq!(unknown.removed_resources, ["shop/api"]);

    // A new endpoint of a service that was asked for follows, and so does a name that did not exist; others do not.
    let later = collection.with([
        ("web-3".into(), Some(Resource { backs: vec!["shop/web".into()], ..Resource::new("web-3", vec![1]) })),
        ("shop/api".into(), Some(Resource::new("shop/api", vec![1]))),
        ("shop/other".into(), Some(Resource::new("shop/other", vec![1]))),
        ("web-1".into(), Some(Resource::new("web-1", vec![2]))),
    ]);
    let pushed = session.on_change(&snapshot(&later));
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
    let answer = session().on_request(request, &snapshot(&collection)).unwrap();
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
        absorb(&mut held, &session.on_request(first(&[]), &snapshot(&collection)).unwrap());
        for (changes, then) in steps {
            let changes: Vec<_> = changes.iter().map(|(name, content)| (format!("r{name}"), *content)).collect();
            let changes: Vec<_> = changes.iter().map(|(name, content)| (name.as_str(), *content)).collect();
            collection = with(&collection, &changes);
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
                    absorb(&mut held, &session.on_request(first(&versions), &snapshot(&collection)).unwrap());
                }
                _ => session.on_change(&snapshot(&collection)).iter().for_each(|response| absorb(&mut held, response)),
            }
            prop_assert_eq!(&held, &whole(&collection));
        }
    }
}
