//! A pod's rules, with the traffic that they are for.

use std::net::{SocketAddr, UdpSocket};

use cni::{Enrolment, PodRules};
use linux::netlink::Netlink;
use linux::nft::{self, Family};
use linux::socket::{ConnectOptions, ListenOptions, bind_udp, original_dst};
use tokio::net::TcpListener;

use crate::lab::{self, Lab, NODE, POD, PROBE_V4, PROBE_V6, at, listen, reach};

fn rules(enrolment: Enrolment) -> PodRules {
    PodRules { enrolment, probe_v4: PROBE_V4.parse().unwrap(), probe_v6: PROBE_V6.parse().unwrap(), ipv6: true }
}

fn everything() -> Enrolment {
    Enrolment { dns_capture: true, ..Enrolment::default() }
}

fn captured() -> Lab {
    let lab = Lab::new().with_probe_addresses();
    assert!(rules(everything()).apply(&lab.pod).unwrap());
    lab
}

fn proxy_options() -> ConnectOptions {
    ConnectOptions { mark: Some(0x539), ..ConnectOptions::default() }
}

/// Where the next connection to this listener was going.
async fn destination(listener: &TcpListener) -> SocketAddr {
    original_dst(&listener.accept().await.unwrap().0).unwrap()
}

#[test]
fn the_rules_are_these() {
    let with_machine = Enrolment { virtual_interfaces: vec!["vnet0".to_owned()], ..everything() };
    let text: Vec<_> = rules(with_machine).tables().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[tokio::test]
async fn inbound_goes_to_the_proxy() {
    if !lab::may() {
        return;
    }
    let lab = captured();
    let (proxy, tunnel) = (listen(&lab.pod, 15006), listen(&lab.pod, 15008));
    for pod in POD {
        let _client = reach(&lab.node, at(pod, 8080), &ConnectOptions::default()).await.unwrap();
        assert_eq!(destination(&proxy).await, at(pod, 8080));
        let _client = reach(&lab.node, at(pod, 15008), &ConnectOptions::default()).await.unwrap();
        assert_eq!(destination(&tunnel).await, at(pod, 15008), "tunnels are not redirected");
    }
}

#[tokio::test]
async fn probes_of_the_node_reach_the_application() {
    if !lab::may() {
        return;
    }
    let lab = captured();
    let application = listen(&lab.pod, 8080);
    for (pod, probe) in POD.into_iter().zip([PROBE_V4, PROBE_V6]) {
        let options = ConnectOptions { source: Some(probe.parse().unwrap()), ..ConnectOptions::default() };
        let _client = reach(&lab.node, at(pod, 8080), &options).await.unwrap();
        let (_, from) = application.accept().await.unwrap();
        assert_eq!(from.ip().to_canonical(), options.source.unwrap());
    }
}

#[tokio::test]
async fn outbound_goes_to_the_proxy_unless_the_proxy_sends_it() {
    if !lab::may() {
        return;
    }
    let lab = captured();
    let (proxy, far) = (listen(&lab.pod, 15001), listen(&lab.node, 80));
    for node in NODE {
        let _client = reach(&lab.pod, at(node, 80), &ConnectOptions::default()).await.unwrap();
        assert_eq!(destination(&proxy).await, at(node, 80));
        let _client = reach(&lab.pod, at(node, 80), &proxy_options()).await.unwrap();
        assert_eq!(destination(&far).await, at(node, 80));
    }
}

#[tokio::test]
async fn a_pod_may_call_itself() {
    if !lab::may() {
        return;
    }
    let lab = captured();
    let application = listen(&lab.pod, 8080);
    for own in [POD[0], POD[1], "127.0.0.1", "::1"] {
        let _client = reach(&lab.pod, at(own, 8080), &ConnectOptions::default()).await.unwrap();
        assert_eq!(destination(&application).await, at(own, 8080));
    }
}

#[tokio::test]
async fn the_proxy_may_borrow_the_clients_address() {
    if !lab::may() {
        return;
    }
    let lab = captured();
    let application = listen(&lab.pod, 8080);
    for (pod, client) in POD.into_iter().zip(NODE) {
        let options = ConnectOptions { source: Some(client.parse().unwrap()), ..proxy_options() };
        // The handshake completes only if the answers come back to the proxy and do not leave for the client.
        let stream = reach(&lab.pod, at(pod, 8080), &options).await.unwrap();
        let (_, from) = application.accept().await.unwrap();
        assert_eq!(from.ip().to_canonical(), stream.local_addr().unwrap().ip());
    }
}

#[tokio::test]
async fn dns_goes_to_the_proxy() {
    if !lab::may() {
        return;
    }
    let lab = captured();
    let proxy_tcp = listen(&lab.pod, 15053);
    for (node, loopback) in NODE.into_iter().zip(["127.0.0.1", "::1"]) {
        let proxy = bind_udp(&lab.pod, at(loopback, 15053), &ListenOptions::default()).unwrap();
        let proxy = tokio::net::UdpSocket::from_std(proxy).unwrap();
        let client = query(&lab, node);
        let mut buffer = [0; 16];
        let (len, from) = proxy.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"query");
        proxy.send_to(b"answer", from).await.unwrap();
        let client = tokio::net::UdpSocket::from_std(client).unwrap();
        let (len, answered) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], answered), (&b"answer"[..], at(node, 53)), "as if the server had answered");
        let _client = reach(&lab.pod, at(node, 53), &ConnectOptions::default()).await.unwrap();
        assert_eq!(destination(&proxy_tcp).await, at(node, 53));
    }
}

fn query(lab: &Lab, server: &str) -> UdpSocket {
    let any = if server.contains(':') { "::" } else { "0.0.0.0" };
    let client = bind_udp(&lab.pod, at(any, 0), &ListenOptions::default()).unwrap();
    client.send_to(b"query", at(server, 53)).unwrap();
    client
}

#[tokio::test]
async fn gateways_receive_without_the_proxy() {
    if !lab::may() {
        return;
    }
    let lab = Lab::new();
    rules(Enrolment { bypass_inbound: true, ..everything() }).apply(&lab.pod).unwrap();
    let (application, proxy) = (listen(&lab.pod, 8080), listen(&lab.pod, 15001));
    let _client = reach(&lab.node, at(POD[0], 8080), &ConnectOptions::default()).await.unwrap();
    assert_eq!(destination(&application).await, at(POD[0], 8080));
    let _client = reach(&lab.pod, at(NODE[0], 80), &ConnectOptions::default()).await.unwrap();
    assert_eq!(destination(&proxy).await, at(NODE[0], 80));
}

#[test]
fn applied_once_repaired_when_changed_and_gone_without_a_trace() {
    if !lab::may() {
        return;
    }
    let lab = Lab::new();
    let wanted = rules(everything());
    assert!(wanted.apply(&lab.pod).unwrap());
    assert!(!wanted.apply(&lab.pod).unwrap(), "in place already");
    nft::delete(&lab.pod, Family::Inet, "istio-ambient-raw").unwrap();
    assert!(wanted.apply(&lab.pod).unwrap(), "somebody took a table away");
    assert!(rules(Enrolment::default()).apply(&lab.pod).unwrap(), "DNS is no longer captured");
    assert_eq!(nft::tables(&lab.pod).unwrap().len(), 2);
    PodRules::remove(&lab.pod).unwrap();
    PodRules::remove(&lab.pod).unwrap();
    assert_eq!(nft::tables(&lab.pod).unwrap(), []);
    let mut netlink = Netlink::open(&lab.pod).unwrap();
    assert_eq!((netlink.rules().unwrap(), netlink.routes(100).unwrap()), (vec![], vec![]));
}
