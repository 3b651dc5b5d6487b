//! What objects are told about themselves (control-plane A9), and what only some installations ask for.

use super::{policies::show, policy, resolve, resolver, service, take, workload};
use control::{
    resolve::{Changes, Resolver, Subject, Verdict},
    settings::Mesh,
};
use proto::workload::{LoadBalancing, Visibility, gateway_address::Destination};
use rstest::rstest;
use serde_json::Value;

fn said<'c>(changes: &'c Changes, subject: Subject, name: &str) -> &'c [Verdict] {
    let statement = changes.statements.iter().find(|said| said.subject == subject && said.name == name);
    &statement.unwrap_or_else(|| panic!("nothing is said of {name}")).verdicts
}

/// Type, status and reason of the conditions of recorded objects that node proxies' policies bring about.
#[test]
fn policies_are_told_what_upstream_told_them() {
    let list: Value = api::yaml::read_documents(include_bytes!("recording/with-status.yaml")).unwrap().remove(0);
    let policies = list["items"].as_array().unwrap().iter().filter(|item| item["kind"] == "AuthorizationPolicy");
    let mut compared = 0;
    for recorded in policies {
        let mut resolver = Resolver::new(Mesh::default());
        take(&mut resolver, recorded.clone());
        let changes = resolver.resolve();
        let ours: Vec<_> = said(&changes, Subject::Policy, recorded["metadata"]["name"].as_str().unwrap())
            .iter()
            .map(|verdict| (verdict.type_, verdict.holds, verdict.reason))
            .collect();
        let theirs = recorded["status"]["conditions"].as_array().unwrap();
        let theirs: Vec<_> = theirs
            .iter()
            .map(|it| (it["type"].as_str().unwrap(), it["status"] == "True", it["reason"].as_str().unwrap()))
            .collect();
        assert_eq!(ours, theirs, "{recorded}");
        compared += 1;
    }
    assert_eq!(compared, 3);
}

#[test]
fn a_bound_service_is_told_what_upstream_told_it() {
    let mut recorded =
        api::yaml::read_documents(include_bytes!("recording/service-with-waypoint.yaml")).unwrap().remove(0);
    // The recorder left the value of an annotation without its key.
    recorded["metadata"]["annotations"] = Value::Null;
    let namespace =
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint}}}";
    let mut resolver = resolver(&format!("{namespace}\n---\n{WAYPOINT}"), Mesh::default());
    take(&mut resolver, recorded.clone());
    let changes = resolver.resolve();
    let [ours] = said(&changes, Subject::Service, "web") else { panic!("one condition") };
    let theirs = &recorded["status"]["conditions"][0];
    assert_eq!(
        (ours.type_, ours.reason, ours.message.as_str()),
        (theirs["type"].as_str().unwrap(), theirs["reason"].as_str().unwrap(), theirs["message"].as_str().unwrap(),)
    );
}

const WAYPOINT: &str = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: waypoint, namespace: shop},\
     spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]},\
     status: {addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]}}";
const CLASS: &str = "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: istio-waypoint}}";

fn web(labels: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop, labels: {labels}}}, spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop, labels: {{app: web}}}}, status: {{podIP: 10.0.0.1}}}}"
    )
}

const BOUND: &str = "{istio.io/use-waypoint: waypoint}";
const SERVICE: &str = "{kind: Service, name: web}";

#[rstest]
#[case::accepted("shop", BOUND, SERVICE, true, "Accepted", "bound to shop/waypoint")]
#[case::a_gateway(
    "shop",
    "{}",
    "{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}",
    true,
    "Accepted",
    "bound to shop/waypoint"
)]
#[case::a_class(
    "istio-system",
    "{}",
    "{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}",
    true,
    "Accepted",
    "bound to GatewayClass istio-waypoint"
)]
#[case::a_class_from_elsewhere(
    "shop",
    "{}",
    "{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}",
    false,
    "Invalid",
    "istio-system only"
)]
#[case::no_waypoint("shop", "{}", SERVICE, false, "AncestorNotBound", "istio.io/use-waypoint")]
#[case::no_such_service("shop", BOUND, "{kind: Service, name: other}", false, "TargetNotFound", "Service shop/other")]
#[case::no_such_kind("shop", BOUND, "{kind: Pod, name: web}", false, "Invalid", "/Pod cannot be the target")]
#[case::some_of_two(
    "shop",
    BOUND,
    "{kind: Service, name: web}, {kind: Service, name: other}",
    true,
    "PartiallyInvalid",
    "Service shop/other does not exist"
)]
fn policies_with_targets(
    #[case] namespace: &str,
    #[case] labels: &str,
    #[case] targets: &str,
    #[case] holds: bool,
    #[case] reason: &str,
    #[case] message: &str,
) {
    let changes = resolve(&format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: {namespace}}}, spec: {{targetRefs: [{targets}]}}}}\n---\n\
         {}\n---\n{WAYPOINT}\n---\n{CLASS}",
        web(labels)
    ));
    assert!(said(&changes, Subject::Policy, "p").is_empty());
    let verdict = &said(&changes, Subject::PolicyTargets, "p")[0];
    assert_eq!((verdict.type_, verdict.holds, verdict.reason), ("WaypointAccepted", holds, reason));
    assert!(verdict.message.contains(message), "{}", verdict.message);
}

#[test]
fn a_policy_hears_of_its_target_and_of_what_stands_in_front_of_it() {
    let policy = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, spec: {targetRefs: [{kind: Service, name: web}]}}";
    let mut resolver = resolver(policy, Mesh::default());
    let mut after = |yaml: &str| {
        api::yaml::read_documents(yaml.as_bytes()).unwrap().into_iter().for_each(|value| take(&mut resolver, value));
        said(&resolver.resolve(), Subject::PolicyTargets, "p")[0].reason
    };
    assert_eq!(after(""), "TargetNotFound");
    assert_eq!(after(&web("{}")), "AncestorNotBound");
    assert_eq!(after(&web(BOUND)), "AncestorNotBound");
    assert_eq!(after(WAYPOINT), "Accepted");
}

#[rstest]
#[case::a_text_that_cannot_be_read(
    "{action: DENY, rules: [{from: [{source: {ipBlocks: [nonsense]}}]}]}",
    "spec.rules[0].from[0].source.ipBlocks[0]"
)]
#[case::what_cannot_be_said("{rules: [{from: [{source: {trustDomains: [a], principals: [b]}}]}]}", "allow nothing")]
fn a_policy_that_is_partly_enforced_says_so(#[case] spec: &str, #[case] expected: &str) {
    let changes = resolve(&format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: shop}}, spec: {spec}}}"
    ));
    let verdict = &said(&changes, Subject::Policy, "p")[0];
    assert_eq!((verdict.holds, verdict.reason), (true, "PartiallyInvalid"));
    assert!(verdict.message.contains(expected), "{}", verdict.message);
}

#[test]
fn ingress_through_the_waypoint_is_said() {
    let labels = "{istio.io/use-waypoint: waypoint, istio.io/ingress-use-waypoint: 'True'}";
    let changes = resolve(&format!("{}\n---\n{WAYPOINT}", web(labels)));
    assert!(said(&changes, Subject::Service, "web")[0].message.ends_with("Ingress traffic will traverse the waypoint"));
    assert!(service(&changes, "shop/web.shop.svc.cluster.local").unwrap().ingress_use_waypoint);
}

fn entry(metadata: &str, spec: &str) -> Changes {
    resolve(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: e, namespace: shop{metadata}}}, spec: {{{spec}}}}}"
    ))
}

#[rstest]
#[case::everybody("[]", Some((Visibility::Public, true)), "")]
#[case::all("['*']", Some((Visibility::Public, true)), "Public")]
#[case::own("['.']", Some((Visibility::Namespace, false)), "Namespace")]
#[case::own_by_name("[shop, '.']", Some((Visibility::Namespace, false)), "Namespace")]
#[case::others("[shop, other]", Some((Visibility::Public, true)), "Public")]
#[case::nobody("['~']", None, "Hidden")]
fn who_sees_an_entry(#[case] export: &str, #[case] sent: Option<(Visibility, bool)>, #[case] reason: &str) {
    let changes = entry(
        "",
        &format!("hosts: [a.example], exportTo: {export}, resolution: STATIC, endpoints: [{{address: 192.0.2.1}}]"),
    );
    let found = service(&changes, "shop/a.example").map(|service| (service.visibility(), service.canonical));
    assert_eq!(found, sent);
    let endpoint = workload(&changes, "Kubernetes/networking.istio.io/ServiceEntry/shop/e/192.0.2.1");
    assert_eq!(endpoint.is_some(), sent.is_some());
    assert_eq!(said(&changes, Subject::ServiceEntry, "e").first().map_or("", |verdict| verdict.reason), reason);
}

#[test]
fn an_entry_that_nobody_else_sees_is_not_the_real_one() {
    let entry = |namespace: &str, created: u8, export: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: e, namespace: {namespace}, creationTimestamp: '2026-01-0{created}T00:00:00Z'}},\
             spec: {{hosts: [a.example], exportTo: [{export}]}}}}"
        )
    };
    let changes = resolve(&[entry("a", 1, "'.'"), entry("b", 2, "'*'")].join("\n---\n"));
    let canonical = |name: &str| service(&changes, name).unwrap().canonical;
    assert_eq!((canonical("a/a.example"), canonical("b/a.example")), (false, true));
}

#[test]
fn a_wildcard_needs_a_waypoint() {
    let changes = entry("", "hosts: ['*.example'], resolution: DYNAMIC_DNS");
    let [missing] = said(&changes, Subject::ServiceEntry, "e") else { panic!("one condition") };
    assert_eq!((missing.type_, missing.reason), ("istio.io/WaypointMissing", "NoWaypointForWildcardService"));
    let changes = resolve(&format!(
        "{WAYPOINT}\n---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: e, namespace: shop, labels: {BOUND}}}, spec: {{hosts: ['*.example'], resolution: DYNAMIC_DNS}}}}"
    ));
    let [bound] = said(&changes, Subject::ServiceEntry, "e") else { panic!("one condition") };
    assert_eq!((bound.type_, bound.reason), ("istio.io/WaypointBound", "WaypointAccepted"));
}

#[test]
fn an_entry_may_ask_for_what_is_close() {
    let close = |metadata: &str, resolution: &str| {
        let changes = entry(metadata, &format!("hosts: [a.example], resolution: {resolution}"));
        let balancing: Option<LoadBalancing> = service(&changes, "shop/a.example").unwrap().load_balancing;
        balancing.map_or(0, |balancing| balancing.routing_preference.len())
    };
    let annotation = ", annotations: {networking.istio.io/traffic-distribution: PreferSameNode}";
    assert_eq!((close(annotation, "STATIC"), close(annotation, "NONE"), close("", "STATIC")), (5, 0, 0));
}

#[test]
fn what_stands_behind_a_waypoint_lets_in_the_waypoint_alone_where_that_is_asked_for() {
    let yaml = format!("{}\n---\n{WAYPOINT}", web(BOUND));
    let strict = Mesh { auto_allow_waypoint: true, ..Mesh::default() };
    let changes = resolver(&yaml, strict).resolve();
    let name = "shop/istio_allow_waypoint_shop_waypoint";
    let shown = show(&policy(&changes, name).unwrap());
    assert_eq!(shown, "Allow WorkloadSelector\n- (principal=cluster.local/ns/shop/sa/waypoint)");
    assert_eq!(workload(&changes, "Kubernetes//Pod/shop/web").unwrap().authorization_policies, [name]);
    let changes = resolve(&yaml);
    assert_eq!(policy(&changes, name), None);
    assert!(workload(&changes, "Kubernetes//Pod/shop/web").unwrap().authorization_policies.is_empty());
}

#[test]
fn another_network_is_entered_by_its_gateway() {
    let changes = resolve(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: east, namespace: istio-system, labels: {topology.istio.io/network: net2},\
           annotations: {gateway.istio.io/service-account: gw}}, spec: {gatewayClassName: istio-remote, addresses: [{value: 203.0.113.1}],\
           listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}\n---\n\
         {apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: far, namespace: shop}, spec: {address: 10.9.0.1, network: net2}}\n---\n\
         {apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: near, namespace: shop}, spec: {address: 10.9.0.2}}",
    );
    let gateway = workload(&changes, "NetworkGateway/net2/203.0.113.1/15008").unwrap();
    assert_eq!((gateway.network.as_str(), gateway.service_account.as_str()), ("net2", "gw"));
    let way = |name: &str| {
        let uid = format!("Kubernetes/networking.istio.io/WorkloadEntry/shop/{name}");
        workload(&changes, &uid).unwrap().network_gateway
    };
    let to_far = way("far").unwrap();
    assert_eq!(to_far.hbone_mtls_port, 15008);
    assert!(matches!(to_far.destination, Some(Destination::Address(address)) if address.address == [203, 0, 113, 1]));
    assert_eq!(way("near"), None);
}
