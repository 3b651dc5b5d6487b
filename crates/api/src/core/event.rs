//! Events: what happened to an object, for people.

use super::config::ObjectReference;
use crate::macros::{object, resource};
use crate::meta::ObjectMeta;
use crate::time::{MicroTime, Time};

object! {
    /// What happened to an object.
    pub struct Event {
        metadata: ObjectMeta,
        involved_object: ObjectReference,
        related: Option<ObjectReference>,
        reason: String,
        message: String,
        source: EventSource,
        first_timestamp: Option<Time>,
        last_timestamp: Option<Time>,
        count: i32,
        #[serde(rename = "type")]
        type_: String,
        event_time: Option<MicroTime>,
        series: Option<EventSeries>,
        action: String,
        reporting_component: String,
        reporting_instance: String,
    }

    /// Who saw it.
    pub struct EventSource {
        component: String,
        host: String,
    }

    /// How often it was seen.
    pub struct EventSeries {
        count: i32,
        last_observed_time: Option<MicroTime>,
    }
}

resource!(Event, "" / "v1", "events", namespaced);
