//! What is really on the wire.

use std::time::Duration;

use linux::packet::{SYN, Sniffer};
use linux::socket::{ConnectOptions, ListenOptions, connect, listen_tcp};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::lab;

#[tokio::test]
async fn a_payload_that_is_sent_is_seen() {
    if !lab::may() {
        return;
    }
    let wire = lab::Wire::new();
    let sniffer = Sniffer::open(&wire.right, "eth0").unwrap();
    let server = listen_tcp(&wire.right, "0.0.0.0:80".parse().unwrap(), &ListenOptions::default()).unwrap();
    let server = TcpListener::from_std(server).unwrap();
    let to = "10.9.0.2:80".parse().unwrap();
    let mut client = connect(Some(&wire.left), to, &ConnectOptions::default(), Duration::from_secs(5)).await.unwrap();
    let _accepted = server.accept().await.unwrap();
    client.write_all(b"a canary in plain text").await.unwrap();
    let mut opened = false;
    loop {
        let frame = sniffer.next().await.unwrap();
        let Some(segment) = frame.segment() else { continue };
        opened |= segment.flags == SYN && segment.destination == to;
        if frame.contains(b"canary in plain") {
            assert_eq!((segment.destination, segment.payload), (to, &b"a canary in plain text"[..]));
            assert!(opened && !segment.looks_like_tls());
            return;
        }
    }
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_named() {
    if !lab::may() {
        return;
    }
    let error = Sniffer::open(&lab::namespace(), "eth7").unwrap_err();
    assert!(error.to_string().contains("find the interface eth7"), "{error}");
}
