//! The byte relay over real and in-memory streams.

use std::sync::atomic::Ordering;

use linux::relay::{Counters, Side, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn one_side_may_finish_while_the_other_goes_on() {
    let (mut client, mut near) = duplex(4096);
    let (mut far, mut server) = duplex(4096);
    let counters = Counters::default();
    let talk = async {
        client.write_all(b"request").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"request");
        let answer = vec![7; 1 << 20];
        let send = async {
            server.write_all(&answer).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (_, read) = tokio::join!(send, client.read_to_end(&mut back));
        assert_eq!((read.unwrap(), back == answer), (1 << 20, true));
    };
    let (relayed, ()) = tokio::join!(relay(&mut near, &mut far, &counters), talk);
    relayed.unwrap();
    assert_eq!(counters.forward.load(Ordering::Relaxed), 7);
    assert_eq!(counters.backward.load(Ordering::Relaxed), 1 << 20);
}

#[tokio::test]
async fn a_reset_is_no_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut near, _) = listener.accept().await.unwrap();
    let (mut far, _server) = duplex(64);
    // Closing with a linger of zero sends a reset.
    client.set_zero_linger().unwrap();
    drop(client);
    let failure = relay(&mut near, &mut far, &Counters::default()).await.unwrap_err();
    assert_eq!((failure.side, failure.reading), (Side::First, true));
    assert_eq!(failure.source.kind(), std::io::ErrorKind::ConnectionReset);
}
