//! Watches: a cursor into the past of one kind, turned into a stream of JSON events.
//!
//! A watcher holds nothing but its cursor and the batch it is sending, so that a slow client costs the server nothing and
//! other clients nothing; when its cursor has fallen out of the remembered past it is told to list again.

use crate::api::{Api, WatchSlot};
use crate::catalog::Kind;
use crate::object::Object;
use crate::request::negotiate::Form;
use crate::request::selector::Selector;
use crate::status::Status;
use crate::store::{Change, Past};
use crate::table;
use crate::verbs::present;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Changes sent in one piece at most.
const BATCH: usize = 128;
/// How often a quiet watch is told how far it is.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a watch lasts when the client does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(45 * 60);

/// What a watch shows and how.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) kind: Kind,
    pub(crate) form: Form,
    pub(crate) include: String,
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
}

impl View {
    fn shows(&self, object: Option<&Arc<Value>>) -> bool {
        object.is_some_and(|object| {
            self.namespace.as_ref().is_none_or(|namespace| object.namespace() == namespace)
                && self.selector.matches(object)
        })
    }

    fn event(&self, change: &Change) -> Option<Value> {
        let (before, after) = (self.shows(change.before.as_ref()), self.shows(change.after.as_ref()));
        match (before, after, &change.before, &change.after) {
            (false, true, _, Some(after)) => Some(self.framed("ADDED", after)),
            (true, true, _, Some(after)) => Some(self.framed("MODIFIED", after)),
            (true, false, Some(before), _) => {
                let mut last = before.as_ref().clone();
                last.metadata_mut().insert("resourceVersion".into(), change.revision.to_string().into());
                Some(self.framed("DELETED", &last))
            }
            _ => None,
        }
    }

    fn framed(&self, event: &str, object: &Value) -> Value {
        json!({"type": event, "object": self.object(object)})
    }

    fn object(&self, object: &Value) -> Value {
        let object = present(object, &self.kind);
        match self.form {
            Form::Table => {
                let row = table::row(&object, &self.kind, &self.include, jiff::Timestamp::now());
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": object.resource_version()},
                    "columnDefinitions": table::definitions(&self.kind), "rows": [row]})
            }
            Form::Metadata => table::metadata_only(&object),
            _ => object,
        }
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Table => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": revision.to_string()}, "columnDefinitions": [], "rows": []}),
            _ => json!({"kind": self.kind.resource.kind, "apiVersion": self.kind.api_version(), "metadata": metadata}),
        };
        json!({"type": "BOOKMARK", "object": object})
    }
}

/// One open watch.
#[derive(Debug)]
pub(crate) struct Watcher {
    view: View,
    cursor: u64,
    changed: watch::Receiver<u64>,
    initial: Vec<Arc<Value>>,
    mark_initial_end: bool,
    bookmarks: bool,
    deadline: Instant,
    gone: Option<u64>,
    ended: bool,
    _slot: WatchSlot,
}

impl Watcher {
    pub(crate) fn new(view: View, cursor: u64, changed: watch::Receiver<u64>, slot: WatchSlot) -> Self {
        Self {
            view,
            cursor,
            changed,
            initial: Vec::new(),
            mark_initial_end: false,
            bookmarks: false,
            deadline: Instant::now() + DEFAULT_LIFE,
            gone: None,
            ended: false,
            _slot: slot,
        }
    }

    /// Sends what exists first, and marks where that ends when asked.
    pub(crate) fn starting_with(mut self, objects: Vec<Arc<Value>>, mark_end: bool) -> Self {
        self.initial = objects;
        self.mark_initial_end = mark_end;
        self
    }

    pub(crate) fn bookmarks(mut self, wanted: bool) -> Self {
        self.bookmarks = wanted;
        self
    }

    pub(crate) fn lasting(mut self, seconds: Option<u64>) -> Self {
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0) {
            self.deadline = Instant::now() + Duration::from_secs(seconds.min(DEFAULT_LIFE.as_secs()));
        }
        self
    }

    /// Tells the client that its place is not known and ends.
    pub(crate) fn ending_at_once(mut self, oldest: Option<u64>) -> Self {
        self.gone = oldest;
        self
    }

    /// The next piece of the stream; none when the watch has ended.
    pub(crate) async fn next(&mut self, api: &Api) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(oldest) = self.gone {
            return Some(self.too_old(oldest));
        }
        if let Some(first) = self.take_initial() {
            return Some(first);
        }
        loop {
            self.changed.borrow_and_update();
            match api.store.after(&self.view.kind.resource.storage, self.cursor, BATCH) {
                Past::Gone { oldest } => return Some(self.too_old(oldest)),
                Past::Changes(changes) => {
                    if let Some(last) = changes.last() {
                        self.cursor = last.revision;
                        let events: Vec<Value> = changes.iter().filter_map(|change| self.view.event(change)).collect();
                        if !events.is_empty() {
                            return Some(lines(&events));
                        }
                        continue;
                    }
                }
            }
            // Everything up to here has been seen, of this kind and so of all.
            let seen = api.store.revision();
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = tokio::time::sleep(BOOKMARK_INTERVAL), if self.bookmarks => {
                    if !self.changed.has_changed().unwrap_or(false) {
                        self.cursor = self.cursor.max(seen);
                        return Some(lines(&[self.view.bookmark(self.cursor, false)]));
                    }
                }
            }
        }
    }

    fn take_initial(&mut self) -> Option<Bytes> {
        let objects = std::mem::take(&mut self.initial);
        let mut events: Vec<Value> = objects
            .iter()
            .filter(|object| self.view.shows(Some(object)))
            .map(|object| self.view.framed("ADDED", object))
            .collect();
        if std::mem::take(&mut self.mark_initial_end) {
            events.push(self.view.bookmark(self.cursor, true));
        }
        (!events.is_empty()).then(|| lines(&events))
    }

    fn too_old(&mut self, oldest: u64) -> Bytes {
        self.ended = true;
        let status = Status::expired(format!("too old resource version: {} ({oldest})", self.cursor));
        lines(&[json!({"type": "ERROR", "object": status.json()})])
    }
}

fn lines(events: &[Value]) -> Bytes {
    let mut out = Vec::new();
    for event in events {
        // Writing JSON values to memory cannot fail.
        serde_json::to_writer(&mut out, event).ok();
        out.push(b'\n');
    }
    out.into()
}
