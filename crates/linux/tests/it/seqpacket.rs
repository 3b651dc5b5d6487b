//! Messages with descriptors.

use std::os::fd::AsFd;

use linux::netns::NetNs;
use linux::seqpacket::{Listener, Stream};

use crate::lab;

#[tokio::test]
async fn a_namespace_travels_by_descriptor() {
    if !lab::may() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("seqpacket-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("ztunnel.sock");
    let listener = Listener::bind(&path).unwrap();
    let client = Stream::connect(&path).unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(server.peer_pid().unwrap().cast_unsigned(), std::process::id());
    let ns = NetNs::new_anonymous().unwrap();
    server.send(b"add", &[ns.as_fd()]).await.unwrap();
    server.send(b"second", &[]).await.unwrap();
    let mut buffer = [0; 1024];
    let mut first = client.recv(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..first.len], first.fds.len()), (&b"add"[..], 1));
    assert_eq!(NetNs::from_fd(first.fds.remove(0)).unwrap(), ns);
    let second = client.recv(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..second.len], second.fds.len()), (&b"second"[..], 0));
    drop(server);
    assert_eq!(client.recv(&mut buffer).await.unwrap().len, 0, "closed");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_message_that_does_not_fit_is_an_error() {
    let (a, b) = Stream::pair().unwrap();
    a.send(&[7; 100], &[]).await.unwrap();
    assert!(b.recv(&mut [0; 99]).await.is_err());
    a.send(&[7; 100], &[]).await.unwrap();
    assert_eq!(b.recv(&mut [0; 100]).await.unwrap().len, 100);
}

#[test]
fn a_file_is_no_namespace() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(NetNs::from_fd(file.into()).is_err());
}
