//! DNS in the pods that the mesh does not answer itself, asked of a real name server.

use super::{CLIENT, dns_query, mesh};
use crate::lab::{Node, PATIENCE, Pod, Wire, authority};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    str::FromStr,
    sync::mpsc,
    thread,
};

const SERVER: &str = "10.77.9.9";

/// What a name server was asked: name, type, over which protocol, by whom.
type Asked = (String, RecordType, &'static str, SocketAddr);

/// A name server that knows `outside.example` and a service record, over UDP and TCP.
fn serve_names(pod: &Pod) -> mpsc::Receiver<Asked> {
    let (told, asked) = mpsc::channel();
    let (udp, tcp) = pod
        .namespace
        .run(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()))
        .unwrap();
    let udp_told = told.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&answer(&buffer[..length], "udp", from, &udp_told), from).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let from = stream.peer_addr().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let answer = answer(&query, "tcp", from, &told);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).unwrap();
        }
    });
    asked
}

fn answer(query: &[u8], protocol: &'static str, from: SocketAddr, told: &mpsc::Sender<Asked>) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let (name, kind) = (question.name().to_string(), question.query_type());
    // The test may have ended.
    let _told = told.send((name.clone(), kind, protocol, from));
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.queries = query.queries;
    let own = question.name().clone();
    match (&*name, kind) {
        ("outside.example.", RecordType::A) => {
            message.answers.push(Record::from_rdata(own, 60, RData::A(rdata::A([192, 0, 2, 7].into()))));
        }
        ("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV) => {
            let target = Name::from_str("pod.web.shop.svc.cluster.local.").unwrap();
            let service = rdata::SRV::new(0, 100, 8080, target.clone());
            message.answers.push(Record::from_rdata(own, 60, RData::SRV(service)));
            message.additionals.push(Record::from_rdata(target, 60, RData::A(rdata::A([10, 0, 0, 9].into()))));
        }
        _ => message.metadata.response_code = ResponseCode::NXDomain,
    }
    message.to_vec().unwrap()
}

/// One node whose proxy asks `SERVER`, with settings, and a pod that asks for names through it.
struct World {
    client: Pod,
    node: Node,
    asked: mpsc::Receiver<Asked>,
    _wire: Wire,
    _file: tempfile::NamedTempFile,
}

fn world(settings: &[(&str, &str)]) -> World {
    let mut wire = Wire::new();
    let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
    let asked = serve_names(&server);
    client.redirect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "search shop.svc.cluster.local\nnameserver {SERVER}").unwrap();
    let settings: Vec<_> = [("XDS_ADDRESS", "")].into_iter().chain(settings.iter().copied()).collect();
    let (text, authority) = (mesh("", ""), Some(authority()));
    let node = Node::launch(Node::namespace(), Some("n1"), &text, authority, &settings, file.path());
    assert_eq!(node.add("uid-client", "client", "client", &client), "");
    World { client, node, asked, _wire: wire, _file: file }
}

impl World {
    /// Asks some other server, as the pod's resolver would; the proxy takes it from there.
    fn ask(&self, query: &[u8]) -> Message {
        let socket = self.client.namespace.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(query, "10.77.9.8:53").unwrap();
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).unwrap();
        Message::from_vec(&answer[..length]).unwrap()
    }
}

fn query_of(name: &str, kind: u16) -> Vec<u8> {
    let mut query = dns_query(name);
    let at = query.len() - 4;
    query[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    query
}

#[test]
fn what_the_mesh_does_not_know_is_asked_of_a_name_server_from_within_the_pod() {
    let world = world(&[]);
    let answer = world.ask(&dns_query("outside.example"));
    assert_eq!(answer.metadata.id, 7, "under the client's id");
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    assert_eq!(answer.answers[0].data, RData::A(rdata::A([192, 0, 2, 7].into())));
    let (name, _, protocol, from) = world.asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&*name, protocol, from.ip()), ("outside.example.", "udp", world.client.address));

    let unknown = world.ask(&dns_query("nobody.example"));
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain, "the code is passed on");
    // Names of the mesh are answered without asking anybody.
    assert!(world.ask(&dns_query("web.shop")).metadata.authoritative);
    world.node.metrics_until(|text| {
        let line = |name: &str, count| text.lines().any(|line| line.starts_with(name) && line.ends_with(count));
        line("istio_dns_requests_total{request_query_type=\"a\",request_protocol=\"udp\"", " 3")
            && line("istio_dns_upstream_requests_total{request_query_type=\"a\"", " 2")
            && line("istio_dns_upstream_request_duration_seconds_count{request_query_type=\"a\"", " 2")
    });
}

#[test]
fn service_records_are_passed_on_whole_and_tcp_is_asked_over_tcp() {
    let world = world(&[]);
    let answer = world.ask(&query_of("_http._tcp.web.shop.svc.cluster.local", 33));
    assert!(matches!(&answer.answers[0].data, RData::SRV(service) if service.port == 8080), "{answer:?}");
    assert_eq!(answer.additionals[0].data, RData::A(rdata::A([10, 0, 0, 9].into())));

    let mut stream = world.client.connect("10.77.9.8:53").unwrap();
    let query = dns_query("outside.example");
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
    let protocols: Vec<_> = world.asked.try_iter().map(|(_, _, protocol, _)| protocol).collect();
    assert_eq!(protocols, ["udp", "tcp"]);
}

#[test]
fn without_proxying_dns_is_still_served_and_nothing_else() {
    let world = world(&[("ENABLE_PROXY", "false")]);
    assert!(world.ask(&dns_query("web.shop")).metadata.authoritative);
    assert_eq!(world.ask(&dns_query("outside.example")).answers.len(), 1);
    for port in [15001, 15006, 15008] {
        world.client.connect(&format!("127.0.0.1:{port}")).unwrap_err();
    }
}

/// Families of a scrape: type, and the names of the labels of their series.
fn families(text: &str) -> std::collections::BTreeMap<String, (String, std::collections::BTreeSet<String>)> {
    let mut families = std::collections::BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.insert(name.to_owned(), (kind.to_owned(), std::collections::BTreeSet::new()));
        } else if let Some((series, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let family: &mut (String, _) =
                families.iter_mut().rev().find(|(name, _)| series.starts_with(name.as_str())).unwrap().1;
            let names = labels.split("=\"").filter_map(|part| part.rsplit(['{', ',']).next());
            let names =
                names.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !name.is_empty());
            family.1.extend(names.map(str::to_owned));
        }
    }
    families
}

#[test]
fn every_recorded_family_is_there_with_its_type_and_labels() {
    let world = world(&[]);
    world.ask(&dns_query("outside.example"));
    // A destination that nobody serves: a connection that failed.
    world.client.exchange("10.96.0.80:80", b"nobody").unwrap_err();
    let resolved = world.node.metrics_until(|text| {
        text.contains("istio_dns_upstream_request_duration_seconds_count") && text.contains("connections_failed_total")
    });
    let (with_control, _control) = super::World::with_control(&mesh("", ""));
    with_control.client.exchange("10.96.0.80:80", b"counted").unwrap();
    let synchronised = with_control.n2.metrics_until(|text| {
        text.contains("istio_xds_message_total") && text.contains("istio_tcp_connections_closed_total")
    });
    let (resolved, synchronised) = (families(&resolved), families(&synchronised));
    for (name, (kind, labels)) in families(include_str!("../data/ztunnel-metrics.txt")) {
        let ours = [&synchronised, &resolved].into_iter().find_map(|families| families.get(&name));
        let (our_kind, our_labels) = ours.unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(*our_kind, kind, "{name}");
        assert!(labels.is_subset(our_labels), "{name}: {labels:?} and {our_labels:?}");
    }
}
