//! Ways through something in between: a network's gateway, a sandwiched waypoint, SOCKS5.

use super::{CLIENT, OUTSIDE, SERVER, World, mesh, workload};
use crate::lab::{Node, PATIENCE, Pod, Wire, authority, greeting};
use identity::IssuerSource;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

const GATEWAY: &str = "10.77.5.1";

/// What a gateway saw of an outer tunnel: its authority and its headers.
struct Outer {
    authority: String,
    network: Option<String>,
}

/// An east-west gateway: ends the outer tunnel and hands the bytes within to `target`, opaquely.
fn serve_gateway(pod: &Pod, source: &IssuerSource, target: SocketAddr) -> mpsc::Receiver<Outer> {
    let (seen, outer) = mpsc::channel();
    let identity = "spiffe://cluster.local/ns/shop/sa/gateway".parse().unwrap();
    let certificate = Arc::new(source.certificate(&identity).unwrap());
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("0.0.0.0:15443").await.unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (certificate, seen) = (certificate.clone(), seen.clone());
                tokio::spawn(async move {
                    let secured = certificate.acceptor().accept(stream).await.unwrap();
                    let (_drain, watch) = runtime::drain::Drain::new();
                    let handler = move |incoming: hbone::Incoming| {
                        let network = incoming.forwarded_network().map(str::to_owned);
                        let authority = incoming.authority().unwrap().to_string();
                        // The test may have ended.
                        let _told = seen.send(Outer { authority, network });
                        async move {
                            let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
                            let mut tunnel = incoming.accept(http::HeaderMap::new()).unwrap();
                            let _ended = tokio::io::copy_bidirectional(&mut tunnel, &mut server).await;
                        }
                    };
                    let _ended = hbone::serve(secured, hbone::ServerOptions::default(), watch, handler).await;
                });
            }
        });
    };
    // A thread is born into the namespace of the thread that starts it.
    pod.namespace.run(|| thread::spawn(serve)).unwrap();
    outer
}

/// The mesh as seen from the near network: the server is behind the far network's gateway and has no address here.
fn near(server_account: &str) -> String {
    let client = workload("client", "n1", CLIENT, "HBONE", "network: net1");
    let gateway = workload("gateway", "n9", GATEWAY, "HBONE", "network: net1");
    format!(
        "workloads:\n{client}{gateway}- {{uid: far, name: far, namespace: shop, serviceAccount: server, network: net2, \
         protocol: HBONE, networkGateway: {{destination: net1/{GATEWAY}, hboneMtlsPort: 15443}}, \
         services: {{shop/web.shop.svc.cluster.local: {{80: 8080}}}}}}\n\
         services:\n- {{name: web, namespace: shop, hostname: web.shop.svc.cluster.local, vips: [net1/10.96.0.80], \
         ports: {{80: 8080}}, subjectAltNames: [\"spiffe://cluster.local/ns/shop/sa/{server_account}\"]}}\n"
    )
}

/// The same as seen from the far network, where only the client may come in.
fn far() -> String {
    let service = "services: {shop/web.shop.svc.cluster.local: {80: 8080}}, network: net2";
    format!(
        "workloads:\n{}services:\n- {{name: web, namespace: shop, hostname: web.shop.svc.cluster.local, \
         vips: [net2/10.97.0.80], ports: {{80: 8080}}}}\n\
         policies:\n- {{name: only-client, namespace: shop, scope: Namespace, action: Allow, \
         rules: [[[{{principals: [{{Exact: cluster.local/ns/shop/sa/client}}]}}]]]}}\n",
        workload("server", "n2", SERVER, "HBONE", service)
    )
}

struct Networks {
    client: Pod,
    gateway: Pod,
    n1: Node,
    n2: Node,
    outer: mpsc::Receiver<Outer>,
    _wire: Wire,
}

fn networks(server_account: &str) -> Networks {
    let mut wire = Wire::new();
    let (client, server, gateway) = (wire.pod(CLIENT), wire.pod(SERVER), wire.pod(GATEWAY));
    client.redirect();
    server.redirect();
    server.serve(8080);
    let authority = authority();
    let outer = serve_gateway(&gateway, &authority, format!("{SERVER}:15008").parse().unwrap());
    let no_control = ("XDS_ADDRESS", "");
    let (one, two) = ([no_control, ("NETWORK", "net1")], [no_control, ("NETWORK", "net2")]);
    let n1 = Node::start_in(Node::namespace(), "n1", &near(server_account), authority.clone(), &one);
    let n2 = Node::start_in(Node::namespace(), "n2", &far(), authority, &two);
    assert_eq!(n1.add("uid-client", "client", "client", &client), "");
    assert_eq!(n2.add("uid-server", "server", "server", &server), "");
    n1.snapshot();
    n2.snapshot();
    Networks { client, gateway, n1, n2, outer, _wire: wire }
}

#[test]
fn another_network_is_reached_through_its_gateway_by_a_tunnel_within_a_tunnel() {
    let world = networks("server");
    let payload = vec![3; 1 << 20];
    let seen = world.client.exchange("10.96.0.80:80", &payload).unwrap();
    assert_eq!(seen, world.gateway.address, "the far side sees the gateway");
    let outer = world.outer.recv_timeout(PATIENCE).unwrap();
    assert_eq!(outer.authority, "web.shop.svc.cluster.local:80");
    assert_eq!(outer.network, None, "only the inner tunnel tells of its network");

    // Far: who the client is comes from its certificate and its baggage, not from the gateway's address.
    let text = world.n2.metrics_until(|text| text.contains("istio_tcp_connections_closed_total"));
    let closed = text.lines().find(|line| line.starts_with("istio_tcp_connections_closed_total")).unwrap();
    for label in [
        "source_workload=\"client\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
        "connection_security_policy=\"mutual_tls\"",
        "response_flags=\"-\"",
    ] {
        assert!(closed.contains(label), "{label} is missing in {closed}");
    }
    // Near: the destination is who answered behind the gateway, not the gateway.
    let text = world.n1.metrics_until(|text| text.contains("istio_tcp_connections_closed_total"));
    let closed = text.lines().find(|line| line.starts_with("istio_tcp_connections_closed_total")).unwrap();
    for label in [
        "destination_workload=\"server\"",
        "destination_principal=\"spiffe://cluster.local/ns/shop/sa/server\"",
        "destination_service=\"web.shop.svc.cluster.local\"",
    ] {
        assert!(closed.contains(label), "{label} is missing in {closed}");
    }
}

#[test]
fn behind_a_gateway_only_the_service_s_own_names_are_believed() {
    let world = networks("somebody");
    world.client.exchange("10.96.0.80:80", b"never").unwrap_err();
    let flag = "response_flags=\"TLS_FAILURE\"";
    world.n1.metrics_until(|text| text.lines().any(|line| line.contains("connections_failed") && line.contains(flag)));
}

/// A PROXY protocol header as an application reads it: source, destination, the field that names the client.
fn read_proxy_header(stream: &mut TcpStream) -> io::Result<(SocketAddr, SocketAddr, String)> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    assert_eq!(head[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(head[12..14], [0x21, 0x11], "version 2, PROXY, TCP over IPv4");
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
    stream.read_exact(&mut body)?;
    let address = |at: usize, port: usize| {
        let octets: [u8; 4] = body[at..at + 4].try_into().unwrap();
        SocketAddr::from((octets, u16::from_be_bytes([body[port], body[port + 1]])))
    };
    assert_eq!(body[12], 0xD0);
    let length = usize::from(u16::from_be_bytes([body[13], body[14]]));
    assert_eq!(body.len(), 15 + length, "nothing else is said");
    Ok((address(0, 8), address(4, 10), String::from_utf8(body[15..].to_vec()).unwrap()))
}

#[test]
fn a_sandwiched_waypoint_is_told_client_destination_and_identity_over_loopback() {
    let waypoint = "waypoint: {destination: shop/way.shop.svc.cluster.local, hboneMtlsPort: 15008}";
    let way = "services: {shop/way.shop.svc.cluster.local: {15008: 15008}}, \
               applicationTunnel: {protocol: PROXY, port: 15088}";
    let text = mesh("", "").replace("canonical: true", &format!("canonical: true, {waypoint}"));
    let text = text.replace(
        "services:\n",
        &format!(
            "{}services:\n- {{name: way, namespace: shop, hostname: way.shop.svc.cluster.local, vips: [/10.96.0.90]}}\n",
            workload("way", "n2", GATEWAY, "HBONE", way)
        ),
    );
    let world = World::new(&text);
    let mut wire = world._wire;
    let sandwiched = wire.pod(GATEWAY);
    sandwiched.redirect();
    assert_eq!(world.n2.add("uid-way", "way", "way", &sandwiched), "");
    // Not to be had from anywhere but the pod itself.
    let listener = sandwiched.namespace.run(|| TcpListener::bind("127.0.0.1:15088").unwrap()).unwrap();
    let read = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let header = read_proxy_header(&mut stream).unwrap();
        stream.write_all(b"10.77.5.1\n").unwrap();
        let mut payload = Vec::new();
        stream.read_to_end(&mut payload).unwrap();
        stream.write_all(&payload).unwrap();
        (header, peer)
    });
    assert_eq!(world.client.exchange("10.96.0.80:80", b"sandwich").unwrap(), sandwiched.address);
    let ((source, destination, identity), peer) = read.join().unwrap();
    assert_eq!(source.ip(), world.client.address);
    assert_eq!(destination.to_string(), "10.96.0.80:80", "where the client wanted to go");
    assert_eq!(identity, "spiffe://cluster.local/ns/shop/sa/client");
    assert!(peer.ip().is_loopback());
}

/// A SOCKS5 request; the answer's code, and the connection if that is 0.
fn socks(pod: &Pod, kind: u8, host: &[u8], port: u16) -> (u8, TcpStream) {
    let mut stream = pod.connect("127.0.0.1:15080").unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    stream.write_all(&[&[5, 1, 0, kind], host, &port.to_be_bytes()[..]].concat()).unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!((reply[0], &reply[2..]), (5, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
    (reply[1], stream)
}

#[test]
fn socks_clients_name_their_destination_and_are_told_what_became_of_it() {
    let text = mesh("", "");
    let mut wire = Wire::new();
    let (client, server, outside) = (wire.pod(CLIENT), wire.pod(SERVER), wire.pod(OUTSIDE));
    client.redirect();
    server.redirect();
    server.serve(8080);
    let authority = authority();
    let settings = [("XDS_ADDRESS", ""), ("UNSTABLE_ENABLE_SOCKS5", "true")];
    let n1 = Node::start_in(Node::namespace(), "n1", &text, authority.clone(), &settings);
    let n2 = Node::start("n2", &text, authority);
    assert_eq!(n1.add("uid-client", "client", "client", &client), "");
    assert_eq!(n2.add("uid-server", "server", "server", &server), "");

    let name = b"web.shop.svc.cluster.local";
    let by_name = [&[u8::try_from(name.len()).unwrap()][..], name].concat();
    for (kind, host, port) in [(1, vec![10, 96, 0, 80], 80), (3, by_name.clone(), 80)] {
        let (code, mut stream) = socks(&client, kind, &host, port);
        assert_eq!(code, 0);
        assert_eq!(greeting(&mut stream).unwrap(), client.address);
        stream.write_all(b"through").unwrap();
        let mut back = [0; 7];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"through");
    }
    n2.metrics_until(|text| text.contains("source_principal=\"spiffe://cluster.local/ns/shop/sa/client\""));
    // Told before anything is sent, and not "succeeded": nobody serves there, no such port, the proxy itself.
    let outside: std::net::Ipv4Addr = outside.address.to_string().parse().unwrap();
    assert_eq!(socks(&client, 1, &outside.octets(), 9).0, 5, "refused");
    assert_eq!(socks(&client, 3, &by_name, 81).0, 4, "no healthy upstream");
    assert_eq!(socks(&client, 1, &[127, 0, 0, 1], 15001).0, 2, "into the proxy");
}
