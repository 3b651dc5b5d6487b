//! Sockets made inside namespaces.

use std::net::SocketAddr;
use std::time::Duration;

use linux::socket::{ConnectOptions, Keepalive, ListenOptions, bind_udp, connect, listen_tcp, original_dst};
use tokio::net::TcpListener;

use crate::lab;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_connection_may_come_from_an_address_that_is_not_ours() {
    if !lab::may() {
        return;
    }
    let wire = lab::Wire::new();
    let server = listen_tcp(&wire.right, "[::]:80".parse().unwrap(), &ListenOptions::default()).unwrap();
    let server = TcpListener::from_std(server).unwrap();
    let options = ConnectOptions {
        mark: Some(0x539),
        source: Some("10.9.0.1".parse().unwrap()),
        keepalive: Some(Keepalive::default()),
        user_timeout: Some(SOON),
    };
    let to: SocketAddr = "10.9.0.2:80".parse().unwrap();
    let client = connect(Some(&wire.left), to, &options, SOON).await.unwrap();
    let (accepted, from) = server.accept().await.unwrap();
    assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
    assert_eq!(original_dst(&accepted).unwrap(), to, "not redirected: the local address");
    assert!(client.nodelay().unwrap());
}

#[tokio::test]
async fn refusals_and_silence_differ() {
    if !lab::may() {
        return;
    }
    let wire = lab::Wire::new();
    let options = ConnectOptions::default();
    let refused = connect(Some(&wire.left), "10.9.0.2:81".parse().unwrap(), &options, SOON).await.unwrap_err();
    assert_eq!(refused.errno(), Some(libc::ECONNREFUSED), "{refused}");
    let wait = Duration::from_millis(50);
    let silent = connect(Some(&wire.left), "10.9.0.77:81".parse().unwrap(), &options, wait).await.unwrap_err();
    assert_eq!(silent.kind(), std::io::ErrorKind::TimedOut, "{silent}");
}

#[tokio::test]
async fn two_listeners_share_a_port_only_when_both_agree() {
    if !lab::may() {
        return;
    }
    let ns = lab::namespace();
    let addr = "127.0.0.1:15008".parse().unwrap();
    let sharing = ListenOptions { reuse_port: true, transparent: true, mark: Some(1), ..ListenOptions::default() };
    let _first = listen_tcp(&ns, addr, &sharing).unwrap();
    let _second = listen_tcp(&ns, addr, &sharing).unwrap();
    let _dns = bind_udp(&ns, addr, &sharing).unwrap();
    let error = listen_tcp(&ns, addr, &ListenOptions::default()).unwrap_err();
    assert!(error.to_string().contains("listen on 127.0.0.1:15008 (tcp)"), "{error}");
}
