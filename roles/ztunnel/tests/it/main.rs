//! The node proxy at work: two of them, real pods, real redirection, certificates of one authority, a mesh from a file.
#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod control;
mod crl;
mod handover;
mod hostile;
mod lab;
mod local;
mod logged;
mod modes;
mod names;
mod told;
mod trust;
mod ways;

use lab::{Node, Pod, Wire, greeting};
use std::io::{Read, Write};

/// A workload of the local document.
fn workload(name: &str, node: &str, address: &str, protocol: &str, rest: &str) -> String {
    format!(
        "- {{uid: Kubernetes//Pod/shop/{name}, name: {name}, namespace: shop, serviceAccount: {name}, node: {node}, \
         workloadIps: [\"{address}\"], protocol: {protocol}, workloadName: {name}, workloadType: pod, \
         canonicalName: {name}, canonicalRevision: v1, {rest}}}\n"
    )
}

const CLIENT: &str = "10.77.1.1";
const SERVER: &str = "10.77.2.1";
const OUTSIDE: &str = "10.77.3.1";

/// Client on n1, server on n2 behind a service, a pod outside the mesh, and policies.
fn mesh(policies: &str, server: &str) -> String {
    let service = "services: {shop/web.shop.svc.cluster.local: {80: 8080}}, ";
    format!(
        "workloads:\n{}{}{}services:\n- {{name: web, namespace: shop, hostname: web.shop.svc.cluster.local, \
         vips: [/10.96.0.80], ports: {{80: 8080}}, canonical: true}}\n{policies}\n",
        workload("client", "n1", CLIENT, "HBONE", ""),
        workload("server", "n2", SERVER, "HBONE", &format!("{service}{server}")),
        workload("outside", "n1", OUTSIDE, "TCP", ""),
    )
}

struct World {
    client: Pod,
    server: Pod,
    outside: Pod,
    n1: Node,
    n2: Node,
    _wire: Wire,
}

impl World {
    fn new(mesh: &str) -> Self {
        Self::with(mesh, |authority| Node::start("n2", mesh, authority))
    }

    /// A control plane of policies serves the server's node.
    fn with_control(mesh: &str) -> (Self, control::Control) {
        let namespace = Node::namespace();
        let control = control::Control::start(&namespace);
        let settings = [("XDS_ADDRESS", &*control.address), ("XDS_ROOT_CA", &control.root), ("AUTH_TOKEN", "token")];
        let world = Self::with(mesh, |authority| Node::start_in(namespace, "n2", mesh, authority, &settings));
        (world, control)
    }

    fn with(mesh: &str, second: impl FnOnce(std::sync::Arc<identity::IssuerSource>) -> Node) -> Self {
        let mut wire = Wire::new();
        let (client, server, outside) = (wire.pod(CLIENT), wire.pod(SERVER), wire.pod(OUTSIDE));
        client.redirect();
        server.redirect();
        server.serve(8080);
        let authority = lab::authority();
        let n1 = Node::start("n1", mesh, authority.clone());
        let n2 = second(authority);
        assert_eq!(n1.add("uid-client", "client", "client", &client), "");
        assert_eq!(n2.add("uid-server", "server", "server", &server), "");
        n1.snapshot();
        n2.snapshot();
        Self { client, server, outside, n1, n2, _wire: wire }
    }
}

const DENY_UNPROVEN: &str = "policies:\n- {name: strict, namespace: shop, scope: Namespace, action: Deny, \
                             rules: [[[{notPrincipals: [{Presence: []}]}]]]}";
const DENY_CLIENT: &str = "policies:\n- {name: deny-client, namespace: shop, scope: Namespace, action: Deny, \
                           rules: [[[{principals: [{Exact: cluster.local/ns/shop/sa/client}], \
                           destinationPorts: [8080]}]]]}";

#[test]
fn a_service_is_reached_through_a_tunnel_and_sees_the_client() {
    let world = World::new(&mesh("", ""));
    let payload = vec![7; 3 << 20];
    let seen = world.client.exchange("10.96.0.80:80", &payload).unwrap();
    assert_eq!(seen, world.client.address, "the application sees the client's own address");
    let direct = world.client.exchange(&format!("{SERVER}:8080"), b"direct").unwrap();
    assert_eq!(direct, world.client.address);

    let source = world
        .n1
        .metrics_until(|text| text.matches("istio_tcp_connections_closed_total{reporter=\"source\"").count() == 2);
    let opened = source.lines().find(|line| line.contains("opened_total") && line.contains("web.shop")).unwrap();
    for label in [
        "reporter=\"source\"",
        "source_workload=\"client\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
        "destination_service=\"web.shop.svc.cluster.local\"",
        "destination_service_name=\"web\"",
        "destination_principal=\"spiffe://cluster.local/ns/shop/sa/server\"",
        "connection_security_policy=\"mutual_tls\"",
        "response_flags=\"-\"",
    ] {
        assert!(opened.contains(label), "{label} is missing in {opened}");
    }
    let bytes = format!("}} {}", payload.len() + "direct".len());
    world.n2.metrics_until(|text| text.lines().any(|line| line.contains("received_bytes") && line.ends_with(&bytes)));
}

/// A query for the A record of `name`, which must not have a final dot.
fn dns_query(name: &str) -> Vec<u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

#[test]
fn names_of_the_mesh_are_answered_in_the_pod_over_udp_and_tcp() {
    let world = World::new(&mesh("", ""));
    let query = dns_query("web.shop");
    let resolver = "10.77.9.9:53";
    let socket = world.client.namespace.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
    socket.send_to(&query, resolver).unwrap();
    let mut answer = [0; 512];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(from.to_string(), resolver, "the answer comes from where the query went");
    assert_eq!(answer[..2], [0, 7]);
    assert_eq!(answer[length - 4..length], [10, 96, 0, 80]);

    let mut stream = world.client.connect(resolver).unwrap();
    let size = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&size[..], &query].concat()).unwrap();
    let mut size = [0; 2];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(size))];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[answer.len() - 4..], [10, 96, 0, 80]);
}

#[test]
fn plaintext_is_let_in_until_policy_says_no() {
    let world = World::new(&mesh("", ""));
    let seen = world.outside.exchange(&format!("{SERVER}:8080"), b"plain").unwrap();
    assert_eq!(seen, world.outside.address);
    drop(world);

    let strict = World::new(&mesh(DENY_UNPROVEN, ""));
    strict.outside.exchange(&format!("{SERVER}:8080"), b"plain").unwrap_err();
    strict.client.exchange("10.96.0.80:80", b"proven").unwrap();
    let denied = "response_flags=\"DENY\"";
    strict
        .n2
        .metrics_until(|text| text.lines().any(|line| line.contains("connections_failed") && line.contains(denied)));
}

#[test]
fn a_denied_identity_is_refused_with_its_flag_on_both_sides() {
    let world = World::new(&mesh(DENY_CLIENT, ""));
    world.client.exchange("10.96.0.80:80", b"denied").unwrap_err();
    world.outside.exchange(&format!("{SERVER}:8080"), b"plain").unwrap();
    for (node, flag) in [(&world.n1, "CONNECT"), (&world.n2, "DENY")] {
        let flag = format!("response_flags=\"{flag}\"");
        node.metrics_until(|text| text.lines().any(|line| line.contains("connections_failed") && line.contains(&flag)));
    }
}

#[test]
fn a_waypoint_that_cannot_be_had_is_not_gone_past() {
    let waypoint = "waypoint: {destination: shop/waypoint.shop.svc.cluster.local, hboneMtlsPort: 15008}";
    let text = mesh("", "").replace("canonical: true", &format!("canonical: true, {waypoint}"));
    let world = World::new(&text);
    world.client.exchange("10.96.0.80:80", b"never").unwrap_err();
    // Refused before the way was known, and counted all the same.
    let counted = "istio_tcp_connections_failed_total{reporter=\"source\",source_workload=\"client\"";
    world.n1.metrics_until(|text| text.contains(counted));
}

#[test]
fn a_policy_that_has_not_arrived_holds_and_then_denies() {
    let world = World::new(&mesh("", "authorizationPolicies: [shop/absent], "));
    let begun = std::time::Instant::now();
    world.client.exchange("10.96.0.80:80", b"held").unwrap_err();
    assert!(begun.elapsed() >= std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// Denies whom `principal` names.
fn deny(principal: &str) -> model::Authorization {
    let one = model::Match { principals: vec![model::StringMatch::Exact(principal.into())], ..model::Match::default() };
    model::Authorization {
        name: "live".into(),
        namespace: "shop".into(),
        scope: model::PolicyScope::Namespace,
        action: model::Action::Deny,
        rules: vec![model::Rule { clauses: vec![vec![one]], unusable: false }],
        dry_run: false,
    }
}

#[test]
fn a_change_of_policy_reaches_open_connections_and_a_lost_control_plane_none() {
    let (world, mut control) = World::with_control(&mesh("", ""));
    let mut open = world.client.connect("10.96.0.80:80").unwrap();
    greeting(&mut open).unwrap();
    control.put("shop/live", Some(&deny("cluster.local/ns/shop/sa/nobody")));
    world.n2.metrics_until(|text| {
        text.contains("istio_xds_message_total{url=\"type.googleapis.com/istio.security.Authorization\"} 2")
    });
    open.write_all(b"still").unwrap();
    open.read_exact(&mut [0; 5]).unwrap();

    let begun = std::time::Instant::now();
    control.put("shop/live", Some(&deny("cluster.local/ns/shop/sa/client")));
    // It ends by reset or in order, but at once.
    let _ended = open.read(&mut [0; 1]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
    world.client.exchange("10.96.0.80:80", b"denied").unwrap_err();

    control.put("shop/live", None);
    world.n2.metrics_until(|text| {
        text.contains("istio_xds_message_total{url=\"type.googleapis.com/istio.security.Authorization\"} 4")
    });
    world.client.exchange("10.96.0.80:80", b"allowed").unwrap();
    drop(control);
    world.n2.metrics_until(|text| text.contains("istio_xds_connection_terminations_total"));
    world.client.exchange("10.96.0.80:80", b"alone").unwrap();
    world.n2.ready();
}

#[test]
fn two_pods_of_one_node_speak_through_a_tunnel_too() {
    let text = mesh(DENY_UNPROVEN, "").replace("node: n2", "node: n1");
    let mut wire = Wire::new();
    let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
    client.redirect();
    server.redirect();
    server.serve(8080);
    let node = Node::start("n1", &text, lab::authority());
    assert_eq!(node.add("uid-client", "client", "client", &client), "");
    assert_eq!(node.add("uid-server", "server", "server", &server), "");
    node.snapshot();
    assert_eq!(client.exchange("10.96.0.80:80", b"neighbour").unwrap(), client.address);
    for reporter in ["source", "destination"] {
        let closed = format!("istio_tcp_connections_closed_total{{reporter=\"{reporter}\"");
        let text = node.metrics_until(|text| text.contains(&closed));
        assert!(text.lines().filter(|line| line.starts_with(&closed)).all(|line| line.contains("mutual_tls")));
    }
}

#[test]
fn one_process_serves_by_itself_what_it_serves_with_a_keeper() {
    let text = mesh(DENY_UNPROVEN, "");
    let settings = [("XDS_ADDRESS", ""), lab::ONE_PROCESS];
    let world = World::with(&text, |authority| Node::start_in(Node::namespace(), "n2", &text, authority, &settings));
    assert_eq!(world.client.exchange("10.96.0.80:80", b"both ways").unwrap(), world.client.address);
}

#[test]
fn half_close_passes_both_ways() {
    let world = World::new(&mesh("", ""));
    let mut stream = world.client.connect("10.96.0.80:80").unwrap();
    greeting(&mut stream).unwrap();
    for part in [&b"one"[..], b"two"] {
        stream.write_all(part).unwrap();
        let mut back = [0; 3];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, part);
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn a_deleted_pods_connections_are_cut_and_its_ports_closed() {
    let world = World::new(&mesh("", ""));
    let mut stream = world.client.connect("10.96.0.80:80").unwrap();
    greeting(&mut stream).unwrap();
    world.n2.delete("uid-server");
    let mut end = Vec::new();
    // Cut means reset or end, but not silence.
    let _ = stream.read_to_end(&mut end);
    let begun = std::time::Instant::now();
    while world.server.connect("127.0.0.1:15008").is_ok() {
        assert!(begun.elapsed() < lab::PATIENCE, "the pod's ports stay open");
    }
}

#[test]
fn a_drain_lets_connections_end_and_cuts_them_at_its_deadline() {
    let world = World::new(&mesh("", ""));
    let mut stream = world.client.connect("10.96.0.80:80").unwrap();
    greeting(&mut stream).unwrap();
    world.n1.shut_down();
    stream.write_all(b"still").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    let World { client, n1, .. } = world;
    assert_eq!(n1.ended(), Ok(()));
    assert_ne!(stream.read(&mut back).unwrap_or(0), 5);
    client.connect("10.96.0.80:80").unwrap_err();
}
