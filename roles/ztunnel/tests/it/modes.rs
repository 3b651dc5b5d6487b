//! Other ways to run: for one workload alone, asking for addresses one by one, with certificates of its own making; and the
//! proxy as a member of the mesh itself.

use super::{CLIENT, SERVER, control, mesh, workload};
use crate::lab::{Node, Wire, authority, greeting};
use model::{NetworkAddress, PortMap, Service, TunnelProtocol, Workload};
use std::io::{Read, Write};
use xds::wds::Address;

#[test]
fn a_dedicated_proxy_serves_the_one_workload_that_it_runs_beside() {
    let text = mesh("", "");
    let mut wire = Wire::new();
    let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
    client.redirect();
    server.redirect();
    server.serve(8080);
    let issuer = control::issuer();
    let start = |pod: &crate::lab::Pod, name: &str| {
        let own = format!("spiffe://cluster.local/ns/shop/sa/{name}").parse().unwrap();
        let control = control::Control::with(&pod.namespace, issuer.clone(), Some(own));
        let info = format!("shop/{name}/{name}");
        // The redirection tells the proxy's own connections by their mark.
        let more = [("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", &*info), ("PACKET_MARK", "1337")];
        let settings = [&control.settings()[..], &more].concat();
        let node = Node::launch(pod.namespace.clone(), None, &text, None, &settings, "/etc/resolv.conf".as_ref());
        node.ready();
        (node, control)
    };
    let ((near, _one), (far, _two)) = (start(&client, "client"), start(&server, "server"));
    assert_eq!(client.exchange("10.96.0.80:80", b"alone").unwrap(), client.address);
    let principal = "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"";
    far.metrics_until(|text| text.lines().any(|line| line.contains("closed_total") && line.contains(principal)));
    let dump: serde_json::Value = serde_json::from_str(&near.http("GET", 15000, "/config_dump").1).unwrap();
    assert_eq!(dump["config"]["proxyMode"], "Dedicated");
    assert!(dump.get("workloadState").is_none());
    near.shut_down();
    assert_eq!(near.ended(), Ok(()));
}

#[test]
fn two_proxies_cannot_be_dedicated_to_one_place() {
    let mut wire = Wire::new();
    let pod = wire.pod(CLIENT);
    let dedicated = [
        ("XDS_ADDRESS", ""),
        ("PROXY_MODE", "dedicated"),
        ("PROXY_WORKLOAD_INFO", "shop/client/client"),
        ("INPOD_PORT_REUSE", "false"),
    ];
    let taken = pod.namespace.run(|| std::net::TcpListener::bind("0.0.0.0:15001").unwrap()).unwrap();
    let text = mesh("", "");
    let start = || {
        let namespace = pod.namespace.clone();
        Node::launch(namespace, None, &text, Some(authority()), &dedicated, "/etc/resolv.conf".as_ref())
    };
    let error = start().ended().unwrap_err();
    assert!(error.contains("15001"), "{error}");
    drop(taken);
    start().ready();
}

#[test]
fn certificates_of_its_own_making_serve_the_pods_of_one_proxy() {
    let text = mesh("", "").replace("node: n2", "node: n1");
    let mut wire = Wire::new();
    let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
    client.redirect();
    server.redirect();
    server.serve(8080);
    let settings = [("XDS_ADDRESS", ""), ("CA_ADDRESS", ""), ("FAKE_CA", "true")];
    let node = Node::launch(Node::namespace(), Some("n1"), &text, None, &settings, "/etc/resolv.conf".as_ref());
    assert_eq!(node.add("uid-client", "client", "client", &client), "");
    assert_eq!(node.add("uid-server", "server", "server", &server), "");
    client.exchange("10.96.0.80:80", b"trial").unwrap();
    node.metrics_until(|text| text.lines().any(|l| l.contains("closed_total") && l.contains("mutual_tls")));
}

#[test]
fn a_proxy_that_asks_on_demand_learns_of_what_is_connected_to_and_of_nothing_else() {
    let text = mesh("", "");
    let mut wire = Wire::new();
    let (client, server) = (wire.pod(CLIENT), wire.pod(SERVER));
    client.redirect();
    server.redirect();
    server.serve(8080);
    let issuer = control::issuer();
    let namespace = Node::namespace();
    let mut control = control::Control::with(&namespace, issuer.clone(), None);
    let name = "shop/web.shop.svc.cluster.local";
    let key: model::NamespacedHostname = name.parse().unwrap();
    let service = Service {
        name: "web".into(),
        namespace: key.namespace.clone(),
        hostname: key.hostname.clone(),
        vips: vec![NetworkAddress { network: "".into(), address: "10.96.0.80".parse().unwrap() }],
        ports: vec![(80, 8080)],
        ..Service::default()
    };
    let pod = |name: &str, node: &str, address: &str, member: bool| {
        let services = member.then(|| (key.clone(), PortMap(vec![(80, 8080)])));
        Address::Workload(Box::new(Workload {
            uid: format!("Kubernetes//Pod/shop/{name}").into(),
            name: name.into(),
            namespace: "shop".into(),
            service_account: name.into(),
            node: node.into(),
            addresses: vec![address.parse().unwrap()],
            tunnel_protocol: TunnelProtocol::Hbone,
            services: services.into_iter().collect(),
            ..Workload::default()
        }))
    };
    let mut put = |address: Address, aliases: &[&str]| control.put_address(&address.name(), Some(&address), aliases);
    // Who serves a service is told with the service.
    put(pod("server", "n2", SERVER, true), &["/10.77.2.1", name, "/10.96.0.80"]);
    put(Address::Service(Box::new(service)), &["/10.96.0.80"]);
    put(pod("client", "n1", CLIENT, false), &["/10.77.1.1"]);
    put(pod("unasked", "n2", "10.77.2.2", false), &["/10.77.2.2"]);
    let settings =
        [&control.settings()[..], &[("XDS_ON_DEMAND", "true"), ("ISTIO_META_DNS_CAPTURE", "false")]].concat();
    let n1 = Node::launch(namespace, Some("n1"), "{}", None, &settings, "/etc/resolv.conf".as_ref());
    let second = Node::namespace();
    let other = control::Control::with(&second, issuer, None);
    let n2 = Node::launch(second, Some("n2"), &text, None, &other.settings(), "/etc/resolv.conf".as_ref());
    assert_eq!(n1.add("uid-client", "client", "client", &client), "");
    assert_eq!(n2.add("uid-server", "server", "server", &server), "");
    assert_eq!(client.exchange("10.96.0.80:80", b"asked").unwrap(), client.address);
    let dump: serde_json::Value = serde_json::from_str(&n1.http("GET", 15000, "/config_dump").1).unwrap();
    let names: Vec<_> = dump["workloads"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["client", "server"]);
    assert_eq!(n1.http("GET", 15021, "/healthz/ready").0, 500, "the agent's snapshot is still to end");
    n1.snapshot();
    n1.ready();
}

#[test]
fn the_proxy_itself_is_scraped_through_the_mesh() {
    const PROXY: &str = "10.77.8.1";
    let own = workload("proxy", "n2", PROXY, "HBONE", "");
    let text = mesh("", "").replace("services:\n", &format!("{own}services:\n"));
    let mut wire = Wire::new();
    let (client, proxy) = (wire.pod(CLIENT), wire.pod(PROXY));
    client.redirect();
    let authority = authority();
    let n1 = Node::start("n1", &text, authority.clone());
    let settings =
        [("XDS_ADDRESS", ""), ("POD_NAME", "proxy"), ("POD_NAMESPACE", "shop"), ("SERVICE_ACCOUNT", "proxy")];
    let n2 = Node::start_in(proxy.namespace, "n2", &text, authority, &settings);
    assert_eq!(n1.add("uid-client", "client", "client", &client), "");
    n1.snapshot();
    n2.snapshot();
    n2.ready();
    let mut stream = client.connect(&format!("{PROXY}:15020")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut scrape = String::new();
    stream.read_to_string(&mut scrape).unwrap();
    assert!(scrape.contains("istio_build{component=\"ztunnel\"") && scrape.ends_with("# EOF\n"), "{scrape}");
    drop(stream);
    let principal = "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"";
    n2.metrics_until(|text| text.lines().any(|line| line.contains("closed_total") && line.contains(principal)));
    // Its other ports are none of the mesh's business.
    for port in [15008, 15000] {
        let mut refused = client.connect(&format!("{PROXY}:{port}")).unwrap();
        greeting(&mut refused).unwrap_err();
    }
    n2.metrics_until(|text| text.contains("istio_tcp_connections_failed_total{reporter=\"destination\""));
    let dump: serde_json::Value = serde_json::from_str(&n2.http("GET", 15000, "/config_dump").1).unwrap();
    assert_eq!(dump["workloadState"], serde_json::json!({}), "it is no pod of the agent's");
}
