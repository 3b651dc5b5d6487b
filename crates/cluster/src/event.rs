//! Events: what a controller did with an object, for people who describe it.

use api::{Event, EventSource, MicroTime, ObjectMeta, ObjectReference, Resource, Time};
use jiff::Timestamp;
use rand::RngExt;

use crate::client::Client;
use crate::error::Result;

/// Whether an event is worth worrying about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Records events in the name of one component.
#[derive(Clone, Debug)]
pub struct Recorder {
    client: Client,
    component: String,
    instance: String,
}

impl Recorder {
    /// A recorder for `component`, run by `instance` (a pod or node).
    pub fn new(client: Client, component: impl Into<String>, instance: impl Into<String>) -> Self {
        Self { client, component: component.into(), instance: instance.into() }
    }

    /// Records what happened to an object. Callers usually log a failure and go on.
    pub async fn record<T: Resource>(
        &self,
        object: &T,
        kind: EventKind,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<()> {
        let unique: u64 = rand::rng().random();
        self.client.create(&event(object, self, kind, reason, message, now, unique)).await?;
        Ok(())
    }
}

fn event<T: Resource>(
    object: &T,
    recorder: &Recorder,
    kind: EventKind,
    reason: &str,
    message: &str,
    now: Timestamp,
    unique: u64,
) -> Event {
    let metadata = object.metadata();
    // Events about cluster-scoped objects live in the default namespace.
    let namespace = if metadata.namespace.is_empty() { "default" } else { &metadata.namespace };
    Event {
        metadata: ObjectMeta::named(namespace, format!("{}.{unique:016x}", metadata.name)),
        involved_object: ObjectReference {
            api_version: T::api_version(),
            kind: T::KIND.to_owned(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            ..ObjectReference::default()
        },
        reason: reason.to_owned(),
        message: message.to_owned(),
        source: EventSource { component: recorder.component.clone(), host: recorder.instance.clone() },
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: 1,
        type_: match kind {
            EventKind::Normal => "Normal".to_owned(),
            EventKind::Warning => "Warning".to_owned(),
        },
        event_time: Some(MicroTime(now)),
        action: reason.to_owned(),
        reporting_component: recorder.component.clone(),
        reporting_instance: recorder.instance.clone(),
        ..Event::default()
    }
}
