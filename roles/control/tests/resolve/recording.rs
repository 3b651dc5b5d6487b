//! The objects of a recorded cluster resolve to what its control plane sent, field for field.

use control::{
    resolve::{Changes, Kind, Resolver},
    settings::Mesh,
};
use prost::Message;
use proto::{discovery::DeltaDiscoveryResponse, security::Authorization, workload};
use std::collections::BTreeMap;

fn resolver() -> Resolver {
    super::resolver(include_str!("recording/objects.yaml"), Mesh::default())
}

fn resolved() -> Changes {
    resolver().resolve()
}

/// Resources of a recorded response by name.
fn recorded<M: Message + Default>(bytes: &[u8]) -> BTreeMap<String, M> {
    let response = DeltaDiscoveryResponse::decode(bytes).unwrap();
    response.resources.into_iter().map(|r| (r.name, M::decode(r.resource.unwrap().value.as_slice()).unwrap())).collect()
}

fn ours<M: Message + Default>(
    changes: impl IntoIterator<Item = (model::Str, Option<xds::server::Resource>)>,
) -> BTreeMap<String, M> {
    changes.into_iter().map(|(name, r)| (name.to_string(), M::decode(r.unwrap().body.as_slice()).unwrap())).collect()
}

#[test]
fn addresses_equal_the_recorded_ones() {
    let mut expected: BTreeMap<String, workload::Address> = recorded(include_bytes!("recording/delta-address.bin"));
    // Upstream lets selectors match endpoints that have no labels at all. Here a selector selects what it says; at the
    // far end nothing reads the policies of an endpoint outside the mesh.
    for name in ["ext/10.244.2.8", "dns/dns.example.com"] {
        let uid = format!("Kubernetes/networking.istio.io/ServiceEntry/shop/{name}");
        if let Some(workload::address::Type::Workload(workload)) = &mut expected.get_mut(&uid).unwrap().r#type {
            workload.authorization_policies.retain(|policy| policy.starts_with("istio-system/"));
        }
    }
    let ours: BTreeMap<String, workload::Address> = ours(resolved().addresses);
    assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, address) in &expected {
        assert_eq!(&ours[name], address, "{name}");
    }
}

#[test]
fn a_trimmed_pod_resolves_to_the_same() {
    let whole = resolver();
    let mut trimmed = resolver();
    for pod in whole.view().objects.pods.iter() {
        let mut pod = (**pod).clone();
        pod.trim();
        trimmed.set(std::sync::Arc::new(pod));
    }
    let mut whole = whole;
    assert_eq!(trimmed.resolve().addresses, whole.resolve().addresses);
}

#[test]
fn authorizations_equal_the_recorded_ones() {
    let expected: BTreeMap<String, Authorization> = recorded(include_bytes!("recording/delta-authorization.bin"));
    let ours: BTreeMap<String, Authorization> = ours(resolved().authorizations);
    assert_eq!(ours, expected);
}

#[test]
fn a_change_is_resolved_for_what_it_touches_only() {
    let mut resolver = resolver();
    resolver.resolve();
    let client = resolver.view().objects.pods.get("shop", "client").unwrap().clone();
    resolver.remove::<api::Pod>("shop", "client");
    let changes = resolver.resolve();
    assert_eq!(changes.addresses.keys().map(|name| &**name).collect::<Vec<_>>(), ["Kubernetes//Pod/shop/client"]);
    assert!(changes.addresses.values().all(Option::is_none) && changes.authorizations.is_empty());

    resolver.set(client);
    resolver.remove::<api::AuthorizationPolicy>("shop", "deny-l7");
    let changes = resolver.resolve();
    assert_eq!(changes.authorizations.len(), 1);
    let mut touched: Vec<_> = changes.addresses.keys().map(|name| name.rsplit('/').next().unwrap()).collect();
    touched.sort_unstable();
    assert_eq!(touched, ["client", "web-57794d7bfc-pmqjt", "web-57794d7bfc-zkpk5"]);
}

#[test]
fn objects_in_any_order_resolve_to_the_same() {
    let forwards = resolved();
    let mut step_by_step = Resolver::new(Mesh::default());
    let complete = resolver();
    let objects = complete.view().objects;
    let mut all = Changes::default();
    let mut absorb = |resolver: &mut Resolver| {
        let changes = resolver.resolve();
        all.addresses.extend(changes.addresses);
        all.authorizations.extend(changes.authorizations);
    };
    macro_rules! feed {
        ($($table:ident)*) => { $(for object in objects.$table.iter() {
            step_by_step.set(object.clone());
            absorb(&mut step_by_step);
        })* };
    }
    feed!(peer_authentications policies pods slices workload_entries services service_entries nodes namespaces);
    assert_eq!(all.addresses, forwards.addresses);
    assert_eq!(all.authorizations, forwards.authorizations);
}
