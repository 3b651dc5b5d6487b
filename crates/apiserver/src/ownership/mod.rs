//! Who owns which field: `metadata.managedFields`, kept for every change and decided by server-side apply.
//!
//! [`set`] holds sets of field paths, [`typed`] the walks over values that a schema guides. Here they are put together: an
//! update gives its manager what it changed; an apply merges a configuration, refuses what others own unless forced, and
//! removes what its manager applied before and no longer wants.

mod entry;
mod set;
mod typed;

use crate::schema::Schema;
use crate::status::{Cause, Result, Status};
use crate::verbs::Context;
use entry::{Entry, Identity};
use serde_json::Value;
use set::Set;

/// Metadata that the server keeps; nobody owns it.
const OWNERLESS: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Records an update (or, without an old state, a creation) in the new state.
pub(crate) fn record(context: &Context, old: Option<&Value>, new: &mut Value) {
    let schema = full_schema(context);
    let given = new.pointer("/metadata/managedFields").filter(|given| given.is_array());
    let source = given.or_else(|| old.and_then(|old| old.pointer("/metadata/managedFields")));
    let mut entries = Entry::read(source);
    let difference = typed::compare(old, Some(new), &schema);
    let changed = ownable(&difference.changed, context);
    let removed = difference.removed;
    let identity = Identity::of(context, "Update");
    let mut own = entry::take(&mut entries, &identity).map(|entry| entry.set).unwrap_or_default();
    for other in &mut entries {
        other.set = other.set.minus(&changed).minus(&removed);
    }
    own = own.union(&changed).minus(&removed);
    entries.retain(|entry| !entry.set.is_empty());
    if !own.is_empty() {
        let time = if changed.is_empty() && removed.is_empty() { previous_time(old, &identity) } else { None };
        entries.push(Entry::new(identity, own, time));
    }
    Entry::write(&entries, new);
}

fn previous_time(old: Option<&Value>, identity: &Identity) -> Option<String> {
    let entries = Entry::read(old.and_then(|old| old.pointer("/metadata/managedFields")));
    entries.into_iter().find(|entry| entry.identity == *identity).map(|entry| entry.time)
}

/// The object that a first apply makes.
pub(crate) fn apply_first(context: &Context, intent: &Value) -> Value {
    let mut value = intent.clone();
    let own = ownable(&typed::set_of(intent, &full_schema(context)), context);
    Entry::write(&[Entry::new(Identity::of(context, "Apply"), own, None)], &mut value);
    value
}

/// The object that an apply makes of what is there; a conflict when others own what it changes.
pub(crate) fn apply(context: &Context, live: &Value, intent: &Value, force: bool) -> Result<Value> {
    let schema = full_schema(context);
    let mut entries = Entry::read(live.pointer("/metadata/managedFields"));
    let identity = Identity::of(context, "Apply");
    let last = entry::take(&mut entries, &identity);
    let own = ownable(&typed::set_of(intent, &schema), context);
    let mut value = typed::merge(live, intent, &schema);
    if let Some(last) = &last {
        let keep = entries.iter().fold(own.clone(), |keep, entry| keep.union(&entry.set));
        typed::remove(&mut value, &last.set, &keep, &schema);
    }
    let changed = ownable(&typed::compare(Some(live), Some(&value), &schema).changed, context);
    let mut causes = Vec::new();
    for other in &mut entries {
        let overlap = other.set.intersection(&changed);
        if overlap.is_empty() {
            continue;
        }
        if !force {
            causes.extend(overlap.paths().into_iter().map(|field| Cause {
                field,
                reason: "FieldManagerConflict",
                message: format!("conflict with {}", other.identity.sentence()),
            }));
        }
        other.set = other.set.minus(&overlap);
    }
    if !causes.is_empty() {
        return Err(Status::apply_conflict(&causes));
    }
    entries.retain(|entry| !entry.set.is_empty());
    let time = last.filter(|last| last.set == own).map(|last| last.time);
    entries.push(Entry::new(identity, own, time));
    Entry::write(&entries, &mut value);
    Ok(value)
}

/// The schema of the whole object: custom resources leave their metadata to the built-in type.
fn full_schema(context: &Context) -> Schema {
    let mut schema = Schema::clone(context.kind.schema());
    if let Some(metadata) = crate::schema::builtin::types().get("meta.v1.ObjectMeta") {
        schema.properties.insert("metadata".into(), std::sync::Arc::clone(metadata));
    }
    schema
}

/// A set without what nobody owns and without what this request does not write.
fn ownable(set: &Set, context: &Context) -> Set {
    let mut set = set.clone();
    set.drop_path(&["apiVersion"]);
    set.drop_path(&["kind"]);
    for field in OWNERLESS {
        set.drop_path(&["metadata", field]);
    }
    if context.subresource.is_empty() && context.kind.has_subresource("status") {
        set.drop_path(&["status"]);
    }
    if context.subresource == "status" {
        set.drop_path(&["spec"]);
    }
    set
}

#[cfg(test)]
mod tests;
