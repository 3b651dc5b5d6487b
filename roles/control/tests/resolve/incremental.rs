//! The order of events, their number and broken ones among them: none of it shows in the result.

use super::{of_its_kind, resolver, set, take};
use control::{
    resolve::{Changes, Kind, Resolver, Statement, Subject},
    settings::Mesh,
};
use model::Str;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::LazyLock};

/// States that a handful of objects may be in; several documents of one name are states of one object.
static DOCUMENTS: LazyLock<Vec<Value>> =
    LazyLock::new(|| api::yaml::read_documents(include_bytes!("events.yaml")).unwrap());

#[derive(Debug, Clone)]
enum Event {
    Set(usize),
    Remove(usize),
    /// Only of policies: of other kinds, what was known before stands.
    Break(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let document = 0..DOCUMENTS.len();
    prop_oneof![
        6 => document.clone().prop_map(Event::Set),
        2 => document.clone().prop_map(Event::Remove),
        1 => document.prop_map(Event::Break),
    ]
}

type Key = (String, String, String);

fn key(value: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&value["kind"]), text(&value["metadata"]["namespace"]), text(&value["metadata"]["name"]))
}

fn remove<T: Kind>(resolver: &mut Resolver, value: &Value) {
    let (_, namespace, name) = key(value);
    resolver.remove::<T>(&namespace, &name);
}

fn reject<T: Kind>(resolver: &mut Resolver, value: &Value) {
    let (_, namespace, name) = key(value);
    let error = T::from_value(value.clone()).unwrap_err();
    resolver.reject::<T>(&namespace, &name, error, value);
}

fn is_policy(value: &Value) -> bool {
    matches!(value["kind"].as_str(), Some("AuthorizationPolicy" | "PeerAuthentication"))
}

/// What proxies hold and what objects are to say, after some steps.
#[derive(Debug, Default, PartialEq)]
struct Held {
    resources: BTreeMap<Str, Vec<u8>>,
    said: BTreeMap<(Subject, String, String), Vec<String>>,
}

impl Held {
    fn absorb(&mut self, changes: Changes) {
        for (name, resource) in changes.addresses.into_iter().chain(changes.authorizations) {
            match resource {
                Some(resource) => self.resources.insert(name, resource.body.to_vec()),
                None => self.resources.remove(&name),
            };
        }
        for Statement { subject, namespace, name, verdicts, .. } in changes.statements {
            let said = verdicts.iter().map(|verdict| format!("{verdict:?}")).collect();
            self.said.insert((subject, namespace, name), said);
        }
    }

    /// To say nothing is not to say anything.
    fn spoken(mut self) -> Self {
        self.said.retain(|_, said| !said.is_empty());
        self
    }
}

fn apply(resolver: &mut Resolver, event: &Event) {
    match event {
        Event::Set(index) => take(resolver, DOCUMENTS[*index].clone()),
        Event::Remove(index) => {
            let value = &DOCUMENTS[*index];
            of_its_kind!(value, remove(resolver, value));
        }
        Event::Break(index) => {
            let mut value = DOCUMENTS[*index].clone();
            value["spec"]["rules"] = json!("broken");
            value["spec"]["mtls"] = json!("broken");
            of_its_kind!(value, reject(resolver, &value));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn events_one_by_one_make_what_a_fresh_start_makes(
        events in prop::collection::vec(event(), 1..60),
        batch in 1_usize..6,
        strict in any::<bool>(),
    ) {
        let mesh = Mesh { auto_allow_waypoint: strict, ..Mesh::default() };
        let (mut stepped, mut held) = (Resolver::new(mesh.clone()), Held::default());
        let mut last = BTreeMap::new();
        for events in events.chunks(batch) {
            for event in events {
                let (Event::Set(index) | Event::Remove(index) | Event::Break(index)) = *event;
                let document = &DOCUMENTS[index];
                match event {
                    Event::Remove(_) => drop(last.remove(&key(document))),
                    Event::Break(_) if !is_policy(document) => continue,
                    _ => drop(last.insert(key(document), event.clone())),
                }
                apply(&mut stepped, event);
            }
            held.absorb(stepped.resolve());
        }
        // From scratch, in the order of names backwards, all at once.
        let (mut fresh, mut expected) = (Resolver::new(mesh), Held::default());
        last.values().rev().for_each(|event| apply(&mut fresh, event));
        expected.absorb(fresh.resolve());
        prop_assert_eq!(held.spoken(), expected.spoken());
    }
}

/// Namespaces of ten services with five pods each.
fn large(namespaces: usize) -> Resolver {
    let mut resolver = Resolver::new(Mesh::default());
    for namespace in (0..namespaces).map(|number| format!("ns{number}")) {
        for service in (0..10).map(|number| format!("svc{number}")) {
            let metadata = json!({"namespace": namespace, "name": service});
            let spec = json!({"selector": {"app": service}, "clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
            set::<api::Service>(&mut resolver, json!({"metadata": metadata, "spec": spec}));
            for pod in 0..5 {
                set::<api::Pod>(&mut resolver, pod_of(&namespace, &service, pod, "10.0.0.1"));
            }
        }
    }
    resolver
}

fn pod_of(namespace: &str, service: &str, number: usize, address: &str) -> Value {
    let metadata = json!({"namespace": namespace, "name": format!("{service}-{number}"), "labels": {"app": service}});
    json!({"metadata": metadata, "status": {"podIP": address}})
}

#[test]
fn an_event_costs_what_it_touches() {
    let mut resolver = large(20);
    assert_eq!(resolver.resolve().resolved, 20 * 10 * 6);
    let mut cost = |change: &dyn Fn(&mut Resolver)| {
        change(&mut resolver);
        resolver.resolve().resolved
    };
    assert_eq!(cost(&|resolver| set::<api::Pod>(resolver, pod_of("ns3", "svc1", 2, "10.0.0.2"))), 1);
    let service = json!({"metadata": {"namespace": "ns3", "name": "svc1"}, "spec": {"selector": {"app": "svc1"}}});
    assert_eq!(cost(&|resolver| set::<api::Service>(resolver, service.clone())), 1 + 5);
    let selector = json!({"selector": {"matchLabels": {"app": "svc1"}}});
    let policy = json!({"metadata": {"namespace": "ns3", "name": "p"}, "spec": selector});
    assert_eq!(cost(&|resolver| set::<api::AuthorizationPolicy>(resolver, policy.clone())), 1 + 5);
    let whole = json!({"metadata": {"namespace": "ns3", "name": "all"}, "spec": {}});
    assert_eq!(cost(&|resolver| set::<api::AuthorizationPolicy>(resolver, whole.clone())), 1);
    let node = |labels: Value| json!({"metadata": {"name": "n1", "labels": labels}});
    assert_eq!(cost(&|resolver| set::<api::Node>(resolver, node(json!({"a": "b"})))), 0);
    let namespace = json!({"metadata": {"name": "ns3", "labels": {"istio.io/use-waypoint": "w"}}});
    assert_eq!(cost(&|resolver| set::<api::Namespace>(resolver, namespace.clone())), 10 * 6);
    // The same again is no event.
    assert_eq!(cost(&|resolver| set::<api::Namespace>(resolver, namespace.clone())), 0);
}

#[test]
fn one_poison_object_of_each_kind_leaves_the_others_live() {
    const KINDS: [&str; 10] = [
        "Namespace",
        "Node",
        "Pod",
        "Service",
        "ServiceEntry",
        "WorkloadEntry",
        "AuthorizationPolicy",
        "PeerAuthentication",
        "Gateway",
        "GatewayClass",
    ];
    let mut resolver = resolver("", Mesh::default());
    let object = |kind: &str, number: usize| {
        let spec = match kind {
            "Pod" => json!({}),
            "ServiceEntry" => json!({"hosts": [format!("host{number}.example")], "resolution": "STATIC"}),
            "WorkloadEntry" => json!({"address": "192.0.2.1"}),
            _ => json!({}),
        };
        let metadata = json!({"namespace": "shop", "name": format!("it{number}")});
        json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec, "status": {"podIP": "10.0.0.1"}})
    };
    for kind in KINDS {
        (0..999).for_each(|number| take(&mut resolver, object(kind, number)));
        let mut poison = object(kind, 999);
        poison["metadata"]["labels"] = json!(7);
        of_its_kind!(poison, reject(&mut resolver, &poison));
    }
    let changes = resolver.resolve();
    let live = |part: &str| changes.addresses.iter().filter(|(name, it)| name.contains(part) && it.is_some()).count();
    assert_eq!((live("//Pod/"), live("/WorkloadEntry/"), live(".svc.cluster.local")), (999, 999, 999));
    assert_eq!(live("host") + live("nothing else"), 999);
    // A policy that cannot be read is enforced all the same.
    assert_eq!(changes.authorizations.keys().filter(|name| name.starts_with("shop/it")).count(), 1000);
    for kind in KINDS {
        let subject = if kind == "AuthorizationPolicy" { Subject::Policy } else { Subject::Shape(kind) };
        let said = changes.statements.iter().find(|said| said.subject == subject && said.name == "it999");
        let verdict = &said.unwrap_or_else(|| panic!("nothing is said of the {kind}")).verdicts[0];
        assert!(!verdict.holds && verdict.message.starts_with("metadata.labels: invalid type"), "{verdict:?}");
    }
}
