//! Entries of `metadata.managedFields`.

use super::set::Set;
use crate::object::{Object, timestamp};
use crate::verbs::Context;
use serde_json::{Value, json};

/// More entries than this are not kept: the oldest go.
const MOST_ENTRIES: usize = 64;

/// What makes two entries the same manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
}

impl Identity {
    pub(super) fn of(context: &Context, operation: &str) -> Self {
        Self {
            manager: context.manager.clone(),
            operation: operation.to_owned(),
            api_version: context.kind.api_version(),
            subresource: context.subresource.clone(),
        }
    }

    /// How a conflict names it.
    pub(super) fn sentence(&self) -> String {
        let subresource = match self.subresource.as_str() {
            "" => String::new(),
            name => format!(" with subresource \"{name}\""),
        };
        format!("\"{}\"{subresource} using {}", self.manager, self.api_version)
    }

    /// Whether a later change by the same manager continues this entry: appliers are one whatever version they use.
    fn continues(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == "Apply" || self.api_version == other.api_version)
    }
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    pub(super) time: String,
    pub(super) set: Set,
}

impl Entry {
    pub(super) fn new(identity: Identity, set: Set, time: Option<String>) -> Self {
        Self { identity, time: time.unwrap_or_else(timestamp), set }
    }

    /// Entries as an object carries them; what cannot be read is dropped.
    pub(super) fn read(value: Option<&Value>) -> Vec<Self> {
        let entries = value.and_then(Value::as_array).into_iter().flatten();
        entries
            .filter_map(|entry| {
                let identity = Identity {
                    manager: entry.text("/manager").to_owned(),
                    operation: entry.text("/operation").to_owned(),
                    api_version: entry.text("/apiVersion").to_owned(),
                    subresource: entry.text("/subresource").to_owned(),
                };
                let set = Set::from_json(entry.get("fieldsV1")?)?;
                let known = matches!(identity.operation.as_str(), "Apply" | "Update");
                known.then(|| Self { identity, time: entry.text("/time").to_owned(), set })
            })
            .collect()
    }

    pub(super) fn write(entries: &[Self], object: &mut Value) {
        let mut kept: Vec<&Self> = entries.iter().collect();
        if kept.len() > MOST_ENTRIES {
            kept.sort_by(|a, b| b.time.cmp(&a.time));
            kept.truncate(MOST_ENTRIES);
        }
        // As Kubernetes orders them; an apply that changes nothing must not change the order either.
        let rank = |entry: &Self| {
            (
                entry.identity.operation != "Apply",
                entry.time.clone(),
                entry.identity.manager.clone(),
                entry.identity.subresource.clone(),
            )
        };
        kept.sort_by_key(|entry| rank(entry));
        let list: Vec<Value> = kept.into_iter().map(Self::json).collect();
        if list.is_empty() {
            object.metadata_mut().remove("managedFields");
        } else {
            object.metadata_mut().insert("managedFields".into(), list.into());
        }
    }

    fn json(&self) -> Value {
        let mut entry = json!({"manager": self.identity.manager, "operation": self.identity.operation,
            "apiVersion": self.identity.api_version, "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.set.to_json()});
        if !self.identity.subresource.is_empty() {
            entry["subresource"] = self.identity.subresource.clone().into();
        }
        entry
    }
}

/// Takes the entry that this manager continues.
pub(super) fn take(entries: &mut Vec<Entry>, identity: &Identity) -> Option<Entry> {
    let place = entries.iter().position(|entry| entry.identity.continues(identity))?;
    Some(entries.remove(place))
}
