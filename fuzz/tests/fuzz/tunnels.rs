//! What a peer's proxy writes into a CONNECT.

use crate::text;
use hbone::{Authority, Baggage, ConnectRequest, ServerOptions, forwarded_host, span_id};
use http::{HeaderMap, HeaderName, HeaderValue};
use runtime::drain::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A client's first bytes: preface, SETTINGS, WINDOW_UPDATE.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x0c\x04\0\0\0\0\0\0\x02\0\0\0\0\0\x04\0\x40\0\0\0\0\x04\x08\0\0\0\0\0\0\xff\0\x01";
/// CONNECT to 10.0.0.2:80 on stream 1, `ping` in it, its end.
const TUNNEL: &[u8] =
    b"\0\0\x16\x01\x04\0\0\0\x01\x02\x07CONNECT\x41\x0b10.0.0.2:80\0\0\x04\0\0\0\0\0\x01ping\0\0\0\0\x01\0\0\0\x01";
/// A server's SETTINGS, and 200 on stream 1 with `pong` and its end.
const ANSWER: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\xc8\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x04\0\0\0\0\0\x01pong\0\0\0\0\x01\0\0\0\x01";

/// Writes bytes, ends, and reads whatever comes.
async fn say(mut io: DuplexStream, bytes: Vec<u8>) {
    // The other end may have had enough.
    if io.write_all(&bytes).await.is_ok() {
        let _ended = io.shutdown().await;
    }
    let _read = io.read_to_end(&mut Vec::new()).await;
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn a_clients_frames() {
    let (whole, twice) = ([HELLO, TUNNEL].concat(), [HELLO, TUNNEL, TUNNEL].concat());
    fuzz::run("a_clients_frames", &[&whole, &twice], |bytes| {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (_drain, watch) = Drain::new();
        let echo = |incoming: hbone::Incoming| async move {
            let Ok(stream) = incoming.accept(HeaderMap::new()) else { return };
            let (mut read, mut write) = tokio::io::split(stream);
            let _copied = tokio::io::copy(&mut read, &mut write).await;
            let _ended = write.shutdown().await;
        };
        block_on(async {
            let _ended =
                tokio::join!(hbone::serve(far, ServerOptions::default(), watch, echo), say(near, bytes.to_vec()));
        });
    });
}

#[test]
fn a_servers_frames() {
    fuzz::run("a_servers_frames", &[ANSWER], |bytes| {
        let (near, far) = tokio::io::duplex(1 << 20);
        let request = ConnectRequest {
            authority: "10.0.0.2:80".parse().unwrap(),
            baggage: None,
            forwarded_for: "10.0.0.1:4000".parse().unwrap(),
            forwarded_host: None,
            traceparent: None,
            forwarded_network: None,
        };
        block_on(async {
            tokio::spawn(say(far, bytes.to_vec()));
            if let Ok(opened) = hbone::connect_once(near, &request).await {
                let mut stream = opened.stream;
                let _read = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    });
}

#[test]
fn authorities() {
    fuzz::run("authorities", &[b"10.0.0.1:80", b"[fd00::1]:80", b"web.shop.svc.cluster.local:80"], |bytes| {
        let Ok(authority) = text(bytes).parse::<Authority>() else { return };
        assert_eq!(authority.to_string().parse::<Authority>().ok(), Some(authority));
    });
}

#[test]
fn headers() {
    let seeds: &[&[u8]] = &[
        b"k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,service.version=v1",
        b"for=\"10.244.1.7:37732\";host=web.shop.svc.cluster.local",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    ];
    fuzz::run("headers", seeds, |bytes| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let names = ["baggage", "forwarded", "traceparent"].map(HeaderName::from_static);
        let headers: HeaderMap = names.into_iter().map(|name| (name, value.clone())).collect();
        let _ = (Baggage::from_headers(&headers), forwarded_host(&headers), span_id(&headers));
    });
}
