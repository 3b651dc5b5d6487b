//! Walks over values that a schema guides: which paths a value has, how two differ, how one is merged into another.
//!
//! What no schema describes is treated by its look: objects merge by field, lists are replaced as a whole.

use super::set::{self, Set};
use crate::schema::{List, Schema};
use serde_json::{Map, Value};

/// How a value is owned.
enum Shape<'a> {
    /// As a whole.
    Whole,
    /// Field by field.
    Fields(&'a Map<String, Value>),
    /// Element by element.
    Elements(&'a [Value]),
}

fn shape<'a>(value: &'a Value, schema: Option<&Schema>) -> Shape<'a> {
    match value {
        Value::Object(fields) if !schema.is_some_and(|schema| schema.atomic_map) => Shape::Fields(fields),
        Value::Array(elements) if schema.is_some_and(|schema| schema.list != List::Atomic) => Shape::Elements(elements),
        _ => Shape::Whole,
    }
}

/// The path element of a list's element.
fn identity(element: &Value, schema: Option<&Schema>) -> String {
    match schema.map(|schema| (&schema.list, schema)) {
        Some((List::Map(keys), schema)) => set::keys(keys.iter().filter_map(|key| {
            let own = element.get(key).filter(|value| !value.is_null());
            own.or_else(|| schema.element_default(key)).map(|value| (key.clone(), value.clone()))
        })),
        _ => set::value(element),
    }
}

fn items(schema: Option<&Schema>) -> Option<&Schema> {
    schema?.items.as_deref()
}

fn field<'a>(schema: Option<&'a Schema>, name: &str) -> Option<&'a Schema> {
    schema?.field(name).map(AsRef::as_ref)
}

/// Every path that a value has.
pub(super) fn set_of(value: &Value, schema: &Schema) -> Set {
    paths(value, Some(schema))
}

fn paths(value: &Value, schema: Option<&Schema>) -> Set {
    let mut out = Set::default();
    match shape(value, schema) {
        Shape::Whole => out.member = true,
        Shape::Fields(fields) => {
            out.member = fields.is_empty();
            for (name, inner) in fields {
                out.attach(set::field(name), paths(inner, field(schema, name)));
            }
        }
        Shape::Elements(elements) => {
            out.member = elements.is_empty();
            for element in elements {
                let mut inner = paths(element, items(schema));
                inner.member = true;
                out.attach(identity(element, schema), inner);
            }
        }
    }
    out
}

/// How one value became another.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Paths that are new or have another value.
    pub(super) changed: Set,
    /// Paths that are gone.
    pub(super) removed: Set,
}

pub(super) fn compare(old: Option<&Value>, new: Option<&Value>, schema: &Schema) -> Difference {
    differ(old, new, Some(schema))
}

fn differ(old: Option<&Value>, new: Option<&Value>, schema: Option<&Schema>) -> Difference {
    let (old, new) = match (old, new) {
        (None, None) => return Difference::default(),
        (None, Some(new)) => return Difference { changed: paths(new, schema), removed: Set::default() },
        (Some(old), None) => return Difference { changed: Set::default(), removed: paths(old, schema) },
        (Some(old), Some(new)) if old == new => return Difference::default(),
        (Some(old), Some(new)) => (old, new),
    };
    let mut out = Difference::default();
    let mut add = |element: String, inner: Difference| {
        out.changed.attach(element.clone(), inner.changed);
        out.removed.attach(element, inner.removed);
    };
    match (shape(old, schema), shape(new, schema)) {
        (Shape::Fields(before), Shape::Fields(after)) => {
            for (name, value) in after {
                add(set::field(name), differ(before.get(name), Some(value), field(schema, name)));
            }
            for (name, value) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
                add(set::field(name), differ(Some(value), None, field(schema, name)));
            }
        }
        (Shape::Elements(before), Shape::Elements(after)) => {
            let find =
                |list: &'_ [Value], wanted: &str| list.iter().position(|element| identity(element, schema) == wanted);
            for element in after {
                let id = identity(element, schema);
                let old = find(before, &id).map(|place| &before[place]);
                let mut inner = differ(old, Some(element), items(schema));
                inner.changed.member |= old.is_none();
                add(id, inner);
            }
            for element in before {
                let id = identity(element, schema);
                if find(after, &id).is_none() {
                    let mut inner = differ(Some(element), None, items(schema));
                    inner.removed.member = true;
                    add(id, inner);
                }
            }
        }
        _ => {
            out.changed = paths(new, schema);
            out.removed = paths(old, schema).minus(&out.changed);
        }
    }
    out
}

/// A value with a configuration laid over it.
pub(super) fn merge(live: &Value, intent: &Value, schema: &Schema) -> Value {
    lay_over(live, intent, Some(schema))
}

fn lay_over(live: &Value, intent: &Value, schema: Option<&Schema>) -> Value {
    match (shape(live, schema), shape(intent, schema)) {
        (Shape::Fields(fields), Shape::Fields(wanted)) => {
            let mut out = fields.clone();
            for (name, value) in wanted {
                let merged = match fields.get(name) {
                    Some(old) => lay_over(old, value, field(schema, name)),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Shape::Elements(elements), Shape::Elements(wanted)) => {
            let mut out = elements.to_vec();
            for value in wanted {
                let id = identity(value, schema);
                match out.iter_mut().find(|element| identity(element, schema) == id) {
                    Some(element) => *element = lay_over(element, value, items(schema)),
                    None => out.push(value.clone()),
                }
            }
            Value::Array(out)
        }
        _ => intent.clone(),
    }
}

/// Removes what is in one set and not in the other; what becomes empty by that goes too.
pub(super) fn remove(value: &mut Value, gone: &Set, keep: &Set, schema: &Schema) {
    take_out(value, gone, keep, Some(schema));
}

fn take_out(value: &mut Value, gone: &Set, keep: &Set, schema: Option<&Schema>) {
    let nothing = Set::default();
    // Whether to go on below this element, with what is to be kept there; otherwise it is dropped as a whole.
    let below = |element: &str| -> Option<(&Set, &Set)> {
        let lost = gone.children.get(element)?;
        Some((lost, keep.children.get(element).unwrap_or(&nothing)))
    };
    let dropped = |lost: &Set, kept: &Set| lost.member && kept.is_empty();
    match value {
        Value::Object(fields) if !schema.is_some_and(|schema| schema.atomic_map) => {
            fields.retain(|name, inner| {
                let Some((lost, kept)) = below(&set::field(name)) else { return true };
                if dropped(lost, kept) {
                    return false;
                }
                let had = size(inner);
                take_out(inner, lost, kept, field(schema, name));
                size(inner) > 0 || had == 0
            });
        }
        Value::Array(elements) if schema.is_some_and(|schema| schema.list != List::Atomic) => {
            elements.retain_mut(|element| {
                let Some((lost, kept)) = below(&identity(element, schema)) else { return true };
                if dropped(lost, kept) {
                    return false;
                }
                take_out(element, lost, kept, items(schema));
                true
            });
        }
        _ => {}
    }
}

/// How many parts a value has; scalars count as one.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.len(),
        Value::Array(elements) => elements.len(),
        _ => 1,
    }
}
