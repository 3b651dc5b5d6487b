//! Reading and writing the parts that every Kubernetes object has.

use serde_json::{Map, Value};

/// The current time as objects carry it: whole seconds.
pub(crate) fn timestamp() -> String {
    format_time(jiff::Timestamp::now())
}

/// A time as objects carry it.
pub(crate) fn format_time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Access to the common parts of an object.
pub(crate) trait Object {
    /// The text at a JSON pointer, empty when there is none.
    fn text(&self, pointer: &str) -> &str;
    /// The list at a JSON pointer, empty when there is none.
    fn list(&self, pointer: &str) -> &[Value];
    /// The metadata, made when it is missing.
    fn metadata_mut(&mut self) -> &mut Map<String, Value>;
    /// The object at a field, made when it is missing or something else.
    fn section(&mut self, name: &str) -> &mut Map<String, Value>;

    fn name(&self) -> &str {
        self.text("/metadata/name")
    }
    fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }
    fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }
    fn resource_version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }
    fn is_terminating(&self) -> bool {
        !self.text("/metadata/deletionTimestamp").is_empty()
    }
    fn has_finalizer(&self, name: &str) -> bool {
        self.list("/metadata/finalizers").iter().any(|finalizer| finalizer == name)
    }
}

impl Object for Value {
    fn text(&self, pointer: &str) -> &str {
        self.pointer(pointer).and_then(Self::as_str).unwrap_or_default()
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.pointer(pointer).and_then(Self::as_array).map_or(&[], Vec::as_slice)
    }

    fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        self.section("metadata")
    }

    fn section(&mut self, name: &str) -> &mut Map<String, Value> {
        if !self.is_object() {
            *self = Self::Object(Map::new());
        }
        let slot = &mut self[name];
        if !slot.is_object() {
            *slot = Self::Object(Map::new());
        }
        match slot {
            Self::Object(map) => map,
            _ => unreachable!("the slot was just made an object"),
        }
    }
}
