//! Events have two forms, one per group, over the same stored objects; they are stored in the core form.

use crate::object::Object;
use serde_json::Value;

/// Field names of the core group and of `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// From the stored form to that of `events.k8s.io/v1`.
pub(crate) fn to_events_group(event: &mut Value) {
    rename(event, |(core, events)| (core, events), "events.k8s.io/v1");
}

/// From the form of `events.k8s.io/v1` to the stored one.
pub(crate) fn to_core_group(event: &mut Value) {
    rename(event, |(core, events)| (events, core), "v1");
    if event.text("/source/component").is_empty() && event.pointer("/source").is_some() {
        event.as_object_mut().map(|fields| fields.remove("source"));
    }
}

fn rename(
    event: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
    version: &str,
) {
    if let Some(fields) = event.as_object_mut() {
        for (from, to) in NAMES.into_iter().map(direction) {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.into(), value);
            }
        }
        fields.insert("apiVersion".into(), version.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_keeps_its_meaning_both_ways() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "p"}, "note": "hello",
            "reportingController": "kubelet"});
        let mut event = new.clone();
        to_core_group(&mut event);
        assert_eq!(event.text("/involvedObject/name"), "p");
        assert_eq!(event.text("/message"), "hello");
        to_events_group(&mut event);
        assert_eq!(event, new);
    }
}
