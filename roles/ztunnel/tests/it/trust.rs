//! Whom not to believe any more: revoked certificates, addresses that became somebody else's, policies that change.

use super::{CLIENT, OUTSIDE, SERVER, World, control, crl, deny, mesh};
use crate::lab::{Node, PATIENCE, Wire, greeting};
use base64::{Engine, prelude::BASE64_STANDARD};
use model::{NetworkAddress, PortMap, Service, TunnelProtocol, Workload};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};
use xds::wds::Address;

/// The certificate that a node's proxy has for an account, as its dump shows it.
fn certificate(node: &Node, account: &str) -> String {
    let begun = Instant::now();
    let identity = format!("spiffe://cluster.local/ns/shop/sa/{account}");
    loop {
        let dump: serde_json::Value = serde_json::from_str(&node.http("GET", 15000, "/config_dump").1).unwrap();
        let held = dump["certificates"].as_array().unwrap().iter().find(|held| held["identity"] == *identity);
        if let Some(pem) = held.and_then(|held| held["certChain"][0]["pem"].as_str()) {
            return String::from_utf8(BASE64_STANDARD.decode(pem).unwrap()).unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "no certificate of {identity}: {dump}");
        thread::yield_now();
    }
}

/// Both sides' lists are files beside each other; certificates come from one authority over the wire.
#[test]
fn a_revoked_certificate_ends_open_connections_on_both_sides_and_makes_no_new_ones() {
    for revoked_side in ["client", "server"] {
        let text = mesh("", "");
        let mut wire = Wire::new();
        let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
        client.redirect();
        server.redirect();
        server.serve(8080);
        let issuer = control::issuer();
        let folder = tempfile::tempdir().unwrap();
        let node = |name: &str| {
            let namespace = Node::namespace();
            let control = control::Control::with(&namespace, issuer.clone(), None);
            let list = folder.path().join(name);
            let settings = [&control.settings()[..], &[("CRL_PATH", list.to_str().unwrap())]].concat();
            let node = Node::launch(namespace, Some(name), &text, None, &settings, "/etc/resolv.conf".as_ref());
            (node, control)
        };
        let ((n1, _one), (n2, _two)) = (node("n1"), node("n2"));
        assert_eq!(n1.add("uid-client", "client", "client", &client), "");
        assert_eq!(n2.add("uid-server", "server", "server", &server), "");
        let mut open = client.connect("10.96.0.80:80").unwrap();
        greeting(&mut open).unwrap();

        // The side that believes the other one learns of it.
        let (believer, pem, reporter) = match revoked_side {
            "client" => (&n2, certificate(&n1, "client"), "destination"),
            _ => (&n1, certificate(&n2, "server"), "source"),
        };
        let list = folder.path().join(if revoked_side == "client" { "n2" } else { "n1" });
        std::fs::write(&list, crl::revoking(&pem)).unwrap();
        let ended = open.read(&mut [0; 1]);
        assert!(!matches!(ended, Ok(1)), "{revoked_side}: {ended:?}");
        let flag = "response_flags=\"CERT_REVOKED\"";
        let counted = format!("istio_crl_policy_rejections_total{{reporter=\"{reporter}\"}}");
        believer.metrics_until(|text| {
            text.contains(&counted)
                && text.lines().any(|line| line.contains("connections_failed") && line.contains(flag))
        });
        client.exchange("10.96.0.80:80", b"never").unwrap_err();
        // An empty list revokes nothing any more.
        std::fs::write(&list, "").unwrap();
        let begun = Instant::now();
        while client.exchange("10.96.0.80:80", b"again").is_err() {
            assert!(begun.elapsed() < PATIENCE, "{revoked_side} is never believed again");
        }
    }
}

fn pod(name: &str, uid: &str, node: &str, address: &str, service: Option<&str>) -> Address {
    let mut workload = Workload {
        uid: uid.into(),
        name: name.into(),
        namespace: "shop".into(),
        service_account: name.into(),
        node: node.into(),
        addresses: vec![address.parse().unwrap()],
        tunnel_protocol: TunnelProtocol::Hbone,
        ..Workload::default()
    };
    if let Some(service) = service {
        workload.services.insert(service.parse().unwrap(), PortMap(vec![(80, 8080)]));
    }
    Address::Workload(Box::new(workload))
}

#[test]
fn a_tunnel_to_an_address_that_became_somebody_else_s_is_cut() {
    let text = mesh("", "");
    let mut wire = Wire::new();
    let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
    client.redirect();
    server.redirect();
    server.serve(8080);
    let issuer = control::issuer();
    let namespace = Node::namespace();
    let mut control = control::Control::with(&namespace, issuer.clone(), None);
    let service = "shop/web.shop.svc.cluster.local";
    let key: model::NamespacedHostname = service.parse().unwrap();
    let web = Service {
        name: "web".into(),
        namespace: key.namespace.clone(),
        hostname: key.hostname,
        vips: vec![NetworkAddress { network: "".into(), address: "10.96.0.80".parse().unwrap() }],
        ports: vec![(80, 8080)],
        ..Service::default()
    };
    control.put_address(service, Some(&Address::Service(Box::new(web))), &["/10.96.0.80"]);
    control.put_address("u-client", Some(&pod("client", "u-client", "n1", CLIENT, None)), &[]);
    control.put_address("u-server", Some(&pod("server", "u-server", "n2", SERVER, Some(service))), &[]);
    let settings = control.settings();
    let n1 = Node::launch(namespace, Some("n1"), "{}", None, &settings, "/etc/resolv.conf".as_ref());
    let second = Node::namespace();
    let other = control::Control::with(&second, issuer, None);
    let n2 = Node::launch(second, Some("n2"), &text, None, &other.settings(), "/etc/resolv.conf".as_ref());
    assert_eq!(n1.add("uid-client", "client", "client", &client), "");
    assert_eq!(n2.add("uid-server", "server", "server", &server), "");
    let mut open = client.connect("10.96.0.80:80").unwrap();
    greeting(&mut open).unwrap();
    // Something else changes: nothing happens to the connection.
    control.put_address("u-other", Some(&pod("other", "u-other", "n2", "10.77.2.9", None)), &[]);
    n1.metrics_until(|text| {
        text.contains("istio_xds_message_total{url=\"type.googleapis.com/istio.workload.Address\"} 2")
    });
    open.write_all(b"still").unwrap();
    open.read_exact(&mut [0; 5]).unwrap();
    // The pod goes, and its address is another pod's at once.
    let begun = Instant::now();
    control.put_address("u-server", None, &[]);
    control.put_address("u-heir", Some(&pod("heir", "u-heir", "n2", SERVER, None)), &[]);
    let ended = open.read(&mut [0; 1]);
    assert!(!matches!(ended, Ok(1)), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Connections that a new DENY concerns, and as many that it does not.
const EACH: usize = 500;

fn still_open(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0; 1]).is_ok()
}

#[test]
fn a_new_deny_ends_every_connection_that_it_concerns_within_a_second_and_no_other() {
    linux::socket::raise_open_files().unwrap();
    let (world, mut control) = World::with_control(&mesh("", ""));
    let open = |pod: &crate::lab::Pod, destination: &str| -> Vec<TcpStream> {
        let connect = |_| {
            let mut stream = pod.connect(destination).unwrap();
            greeting(&mut stream).unwrap();
            stream
        };
        (0..EACH).map(connect).collect()
    };
    let mut concerned = open(&world.client, "10.96.0.80:80");
    let mut others = open(&world.outside, &format!("{SERVER}:8080"));
    assert_eq!(world.outside.address.to_string(), OUTSIDE);

    let begun = Instant::now();
    control.put("shop/live", Some(&deny("cluster.local/ns/shop/sa/client")));
    // The last of them tells when all were closed; reading the others afterwards returns at once.
    let has_ended = |stream: &mut TcpStream| !matches!(stream.read(&mut [0; 1]), Ok(1));
    let ended = concerned.iter_mut().rev().filter_map(|stream| has_ended(stream).then_some(())).count();
    let took = begun.elapsed();
    assert_eq!(ended, EACH);
    assert!(took < Duration::from_secs(1), "{EACH} connections were closed in {took:?}");
    assert_eq!(others.iter_mut().filter_map(|stream| still_open(stream).then_some(())).count(), EACH);
    println!("{EACH} of {} connections closed in {took:?}", 2 * EACH);
}
