//! Two pods of one node: no tunnel between them, and nothing else that differs from one.

use crate::{
    CLIENT, DENY_CLIENT, SERVER,
    lab::{self, Node, Pod, Wire, greeting},
    mesh,
};

/// The usual mesh with its server on the client's node.
struct World {
    client: Pod,
    _server: Pod,
    node: Node,
    _wire: Wire,
}

impl World {
    fn new(policies: &str, setting: &str) -> Self {
        let text = mesh(policies, "").replace("node: n2", "node: n1");
        let mut wire = Wire::new();
        let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
        client.redirect();
        server.redirect();
        server.serve(8080);
        let settings = [("XDS_ADDRESS", ""), ("SAME_NODE_TUNNEL", setting)];
        let node = Node::start_in(Node::namespace(), "n1", &text, lab::authority(), &settings);
        assert_eq!(node.add("uid-client", "client", "client", &client), "");
        assert_eq!(node.add("uid-server", "server", "server", &server), "");
        Self { client, _server: server, node, _wire: wire }
    }
}

/// Whether a line of a family has all these labels and this value.
fn says(text: &str, family: &str, labels: &[&str], value: &str) -> bool {
    text.lines().any(|line| {
        line.starts_with(family)
            && labels.iter().all(|label| line.contains(label))
            && line.ends_with(&format!(" {value}"))
    })
}

/// A connection that was accepted on 15008 says that there is a tunnel.
fn has_tunnel(text: &str) -> bool {
    text.lines().any(|line| {
        line.starts_with("istio_tcp_sockets_open") && line.contains("reporter=\"destination\"") && !line.ends_with(" 0")
    })
}

#[rstest::rstest]
#[case("never", false)]
#[case("always", true)]
fn both_sides_count_the_same_with_a_tunnel_and_without(#[case] setting: &str, #[case] tunnel: bool) {
    let world = World::new("", setting);
    let payload = vec![7; 3 << 20];
    let seen = world.client.exchange("10.96.0.80:80", &payload).unwrap();
    assert_eq!(seen.to_string(), CLIENT, "the application sees the client");
    let mut open = world.client.connect("10.96.0.80:80").unwrap();
    greeting(&mut open).unwrap();
    let closed = "istio_tcp_connections_closed_total";
    let labels = |reporter| [reporter, "connection_security_policy=\"mutual_tls\"", "response_flags=\"-\""];
    let text = world.node.metrics_until(|text| {
        ["reporter=\"source\"", "reporter=\"destination\""].iter().all(|side| says(text, closed, &labels(side), "1"))
    });
    assert_eq!(has_tunnel(&text), tunnel, "{text}");
    for side in ["reporter=\"source\"", "reporter=\"destination\""] {
        assert!(says(&text, "istio_tcp_connections_opened_total", &[side], "2"), "{side}\n{text}");
        let sent = |line: &&str| line.starts_with("istio_tcp_received_bytes_total") && line.contains(side);
        let line = text.lines().find(sent).unwrap();
        let bytes: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(bytes, payload.len() as u64, "{line}");
    }
}

#[rstest::rstest]
#[case("never")]
#[case("always")]
fn the_destination_s_policies_decide(#[case] setting: &str) {
    let world = World::new(DENY_CLIENT, setting);
    assert!(world.client.exchange("10.96.0.80:80", b"in").is_err());
    let text = world.node.metrics_until(|text| {
        says(text, "istio_tcp_connections_failed_total", &["reporter=\"destination\"", "response_flags=\"DENY\""], "1")
    });
    assert!(says(&text, "istio_tcp_connections_failed_total", &["reporter=\"source\""], "1"), "{text}");
}
