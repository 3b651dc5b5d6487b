//! Pods meet nodes: binding, and requests that are handed to a node.

use crate::server::Lab;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn pod(lab: &Lab) {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    assert_eq!(lab.post(PODS, pod).await.code, 201);
}

async fn node(lab: &Lab, port: u16) {
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
    assert_eq!(lab.post("/api/v1/nodes", json!({"metadata": {"name": "n1"}, "status": status})).await.code, 201);
}

async fn bind(lab: &Lab) -> u16 {
    lab.post(&format!("{PODS}/p/binding"), json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}))
        .await
        .code
}

/// Reads a request's head from a connection.
async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let lab = Lab::start().await;
    pod(&lab).await;
    assert_eq!(bind(&lab).await, 201);
    let value = lab.get(&format!("{PODS}/p")).await.body;
    assert_eq!(value["spec"]["nodeName"], "n1");
    assert_eq!(value["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(bind(&lab).await, 409);
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let lab = Lab::start().await;
    let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    pod(&lab).await;
    assert_eq!(lab.get(&format!("{PODS}/p/log")).await.body["message"], "pod p does not have a host assigned");
    node(&lab, kubelet.local_addr().unwrap().port()).await;
    bind(&lab).await;
    let answers = tokio::spawn(async move {
        let mut seen = Vec::new();
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n\r\nwaiting",
        ] {
            let (mut stream, _) = kubelet.accept().await.unwrap();
            seen.push(head(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        seen
    });
    assert_eq!(lab.get(&format!("{PODS}/p/log?tailLines=3")).await.body, Value::from("hello"));
    let refused = lab.get(&format!("{PODS}/p/log")).await;
    assert_eq!((refused.code, refused.body["message"].as_str()), (400, Some("waiting")));
    let seen = answers.await.unwrap();
    assert!(seen[0].starts_with("GET /containerLogs/default/p/a?tailLines=3 HTTP/1.1"), "{}", seen[0]);
    assert!(!seen[0].to_lowercase().contains("authorization"));
}

#[tokio::test]
async fn an_upgraded_connection_is_joined_end_to_end() {
    let lab = Lab::start().await;
    let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    pod(&lab).await;
    node(&lab, kubelet.local_addr().unwrap().port()).await;
    bind(&lab).await;
    let far = tokio::spawn(async move {
        let (mut stream, _) = kubelet.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        (head, four)
    });
    let mut near = TcpStream::connect(lab.address).await.unwrap();
    let request = format!(
        "GET {PODS}/p/exec?command=ls&stdout=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n",
        crate::server::ADMIN
    );
    near.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut near).await.starts_with("HTTP/1.1 101"));
    near.write_all(b"ping").await.unwrap();
    let mut four = [0; 4];
    near.read_exact(&mut four).await.unwrap();
    let (head, sent) = far.await.unwrap();
    assert_eq!((&four, &sent), (b"pong", b"ping"));
    assert!(head.starts_with("GET /exec/default/p/a?command=ls&output=1 HTTP/1.1"), "{head}");
    assert!(head.contains("v5.channel.k8s.io"));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named() {
    let lab = Lab::start().await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    pod(&lab).await;
    node(&lab, port).await;
    bind(&lab).await;
    let answer = lab.get(&format!("{PODS}/p/log")).await;
    assert_eq!(answer.code, 503);
    assert!(answer.body["message"].as_str().unwrap().contains("is its kubelet running?"), "{answer:?}");
}
