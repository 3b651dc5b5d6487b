//! What a control plane, a user or the environment tells us.

use crate::text;
use api::{AuthorizationPolicy, PeerAuthentication, Selector, ServiceEntry, yaml};
use model::{
    Action, Authorization, Cidr, Match, NamespacedHostname, PolicyScope, PortMap, Rule, Service, StringMatch, Workload,
};
use prost::Message;
use std::collections::BTreeMap;
use xds::wds::{self, Address};

fn workload() -> Vec<u8> {
    let service = NamespacedHostname { namespace: "shop".into(), hostname: "web.shop.svc.cluster.local".into() };
    let workload = Workload {
        uid: "Kubernetes//Pod/shop/web-1".into(),
        name: "web-1".into(),
        namespace: "shop".into(),
        addresses: vec!["10.244.1.6".parse().unwrap(), "fd00::6".parse().unwrap()],
        node: "n1".into(),
        services: BTreeMap::from([(service, PortMap(vec![(80, 8080)]))]),
        authorization_policies: vec!["shop/deny".into()],
        ..Workload::default()
    };
    wds::encode_address(&Address::Workload(Box::new(workload))).encode_to_vec()
}

fn service() -> Vec<u8> {
    let range = Cidr { network: "".into(), range: "10.96.0.0/16".parse().unwrap() };
    let service = Service {
        name: "web".into(),
        namespace: "shop".into(),
        hostname: "web.shop.svc.cluster.local".into(),
        cidr_vips: vec![range],
        ports: vec![(80, 8080)],
        subject_alt_names: vec!["spiffe://cluster.local/ns/shop/sa/web".into()],
        ..Service::default()
    };
    wds::encode_address(&Address::Service(Box::new(service))).encode_to_vec()
}

fn policy() -> Vec<u8> {
    let matched = Match {
        principals: vec![StringMatch::Prefix("cluster.local/".into()), StringMatch::Presence],
        not_source_ips: vec!["10.0.0.0/8".parse().unwrap()],
        destination_ports: vec![8080],
        ..Match::default()
    };
    let policy = Authorization {
        name: "deny".into(),
        namespace: "shop".into(),
        scope: PolicyScope::WorkloadSelector,
        action: Action::Deny,
        rules: vec![Rule { clauses: vec![vec![matched]], unusable: false }],
        dry_run: false,
    };
    wds::encode_authorization(&policy).encode_to_vec()
}

#[test]
fn wds_address() {
    fuzz::run("wds_address", &[&workload(), &service()], |bytes| {
        let Ok(address) = wds::decode_address(bytes) else { return };
        let again = wds::decode_address(&wds::encode_address(&address).encode_to_vec());
        assert_eq!(again.ok(), Some(address));
    });
}

#[test]
fn wds_authorization() {
    fuzz::run("wds_authorization", &[&policy()], |bytes| drop(wds::decode_authorization(bytes)));
}

const POLICY: &[u8] = b"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: a\n  namespace: shop\n\
spec:\n  action: DENY\n  rules:\n  - from:\n    - source: {principals: [\"*\"]}\n    to:\n    - operation: {ports: [\"80\"]}\n---\na: &x [1]\nb: *x\n";

#[test]
fn yaml_documents() {
    fuzz::run("yaml_documents", &[POLICY], |bytes| {
        for document in yaml::read_documents(bytes).unwrap_or_default() {
            // What the API hands on as one of our kinds.
            let _ = serde_json::from_value::<AuthorizationPolicy>(document.clone());
            let _ = serde_json::from_value::<PeerAuthentication>(document.clone());
            let _ = serde_json::from_value::<ServiceEntry>(document);
        }
    });
}

#[test]
fn selectors() {
    fuzz::run("selectors", &[b"a=b,c!=d,e in (f,g),h notin (i),j,!k"], |bytes| {
        if let Ok(selector) = text(bytes).parse::<Selector>() {
            selector.matches(&BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        }
    });
}

#[test]
fn quantities() {
    fuzz::run("quantities", &[b"100m", b"1.5Gi", b"1e3"], |bytes| {
        let value = serde_json::Value::from(text(bytes));
        let _ = (api::quantity::milli(&value), api::quantity::whole(&value));
    });
}

#[test]
fn durations() {
    fuzz::run("durations", &[b"1h30m", b"100ms"], |bytes| {
        let _ = runtime::settings::parse_duration(&text(bytes));
    });
}

#[test]
fn log_directives() {
    fuzz::run("log_directives", &[b"info,access=debug,a::b:trace"], |bytes| {
        let Ok(directives) = text(bytes).parse::<telemetry::log::Directives>() else { return };
        assert_eq!(directives.to_string().parse(), Ok(directives));
    });
}

#[test]
fn local_documents() {
    let seed = b"workloads:\n- uid: a\n  name: a\n  workloadIps: [\"10.0.0.1\"]\n  protocol: HBONE\n  services: {\"ns/host\": {\"80\": 8080}}\nservices: []\npolicies: []\n";
    fuzz::run("local_documents", &[seed], |bytes| {
        ztunnel::foreign::local_document(&text(bytes));
    });
}
