//! Watches tell every change once, in order.

use crate::server::Lab;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::time::Duration;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The events of a watch, as they come.
struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    async fn open(lab: &Lab, query: &str) -> Self {
        let response = lab.send("GET", &format!("{MAPS}?watch=true&{query}"), &[], "").await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event; none when the watch has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.expect("an event comes");
            self.buffer.extend_from_slice(frame?.unwrap().data_ref().unwrap());
        }
    }

    async fn told(&mut self) -> (String, String) {
        let event = self.next().await.unwrap();
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("/type"), text("/object/metadata/name"))
    }
}

fn map(name: &str, app: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": app}}})
}

fn pair(event: &str, name: &str) -> (String, String) {
    (event.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_continues_a_list() {
    let lab = Lab::start().await;
    lab.post(MAPS, map("old", "x")).await;
    let revision = lab.get(MAPS).await.body["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    lab.post(MAPS, map("a", "x")).await;
    let mut events = Events::open(&lab, &format!("resourceVersion={revision}")).await;
    assert_eq!(events.told().await, pair("ADDED", "a"));
    lab.patch(&format!("{MAPS}/a"), "merge-patch+json", json!({"data": {"k": "v"}})).await;
    assert_eq!(events.told().await, pair("MODIFIED", "a"));
    lab.delete(&format!("{MAPS}/a")).await;
    let last = events.next().await.unwrap();
    assert_eq!((&last["type"], &last["object"]["data"]["k"]), (&json!("DELETED"), &json!("v")));
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let lab = Lab::start().await;
    let mut events = Events::open(&lab, "labelSelector=app%3Dx").await;
    lab.post(MAPS, map("a", "y")).await;
    let relabel = async |app: &str| {
        lab.patch(&format!("{MAPS}/a"), "merge-patch+json", json!({"metadata": {"labels": {"app": app}}})).await
    };
    relabel("x").await;
    assert_eq!(events.told().await, pair("ADDED", "a"));
    relabel("y").await;
    assert_eq!(events.told().await, pair("DELETED", "a"));
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_mark() {
    let lab = Lab::start().await;
    lab.post(MAPS, map("a", "x")).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&lab, query).await;
    assert_eq!(events.told().await, pair("ADDED", "a"));
    let mark = events.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_place_that_is_gone_is_told_as_expired() {
    let lab = Lab::start().await;
    for revision in ["1", "99999999999999"] {
        let mut events = Events::open(&lab, &format!("resourceVersion={revision}")).await;
        let event = events.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_watch_ends_at_its_time() {
    let lab = Lab::start().await;
    let mut events = Events::open(&lab, "timeoutSeconds=1").await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_nobody_up() {
    let lab = Lab::start().await;
    let slow = Events::open(&lab, "").await;
    lab.post(MAPS, map("a", "x")).await;
    for turn in 0..500 {
        let patch = json!({"data": {"k": format!("{turn}{}", "x".repeat(2000))}});
        assert_eq!(lab.patch(&format!("{MAPS}/a"), "merge-patch+json", patch).await.code, 200);
    }
    drop(slow);
}
