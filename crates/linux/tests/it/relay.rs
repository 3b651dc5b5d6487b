//! The byte relay over real and in-memory streams.

use std::sync::atomic::Ordering;

use linux::relay::{Counters, Side, relay, relay_sockets};
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

/// Two connected sockets.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// What one end sends, with its end.
async fn send(mut to: tokio::net::tcp::OwnedWriteHalf, pieces: Vec<Vec<u8>>) {
    for piece in pieces {
        to.write_all(&piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    to.shutdown().await.unwrap();
}

#[tokio::test]
async fn bytes_between_sockets_arrive_unchanged_small_ones_and_many() {
    let ((client, near), (far, server)) = (connected().await, connected().await);
    let relaying = tokio::spawn(async move {
        let counters = Counters::default();
        relay_sockets(&near, &far, &counters).await.unwrap();
        (counters.forward.into_inner(), counters.backward.into_inner())
    });
    // More than any pipe or socket holds, between messages that are small.
    let bulk: Vec<u8> = (0..24_u32 << 20).map(|n| (n * 7 % 251) as u8).collect();
    let there = vec![b"small".to_vec(), bulk.clone(), b"small again".to_vec()];
    let back = vec![b"an answer".to_vec(), bulk];
    let (expected_there, expected_back) = (there.concat(), back.concat());
    let (mut client_read, client_write) = client.into_split();
    let (mut server_read, server_write) = server.into_split();
    let (mut got_there, mut got_back) = (Vec::new(), Vec::new());
    let (_, _, read_there, read_back) = tokio::join!(
        send(client_write, there),
        send(server_write, back),
        server_read.read_to_end(&mut got_there),
        client_read.read_to_end(&mut got_back),
    );
    read_there.unwrap();
    read_back.unwrap();
    assert!(got_there == expected_there && got_back == expected_back);
    assert_eq!(relaying.await.unwrap(), (expected_there.len() as u64, expected_back.len() as u64));
}

#[tokio::test]
async fn a_socket_that_is_reset_is_named() {
    let ((client, near), (far, _server)) = (connected().await, connected().await);
    client.set_zero_linger().unwrap();
    drop(client);
    let failure = relay_sockets(&near, &far, &Counters::default()).await.unwrap_err();
    assert_eq!((failure.side, failure.reading), (Side::First, true));
}
