//! Strategic merge patch: a merge patch that knows, from the schema, which lists merge and by which key.
//!
//! Directives in a patch: `$patch` (`replace`, `delete`, `merge`), `$retainKeys`, `$deleteFromPrimitiveList/<field>` and
//! `$setElementOrder/<field>`.

use crate::object::Object;
use crate::schema::{Form, Schema};
use crate::status::{Result, Status};
use serde_json::{Map, Value};
use std::sync::OnceLock;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Applies a patch to a document of this schema.
pub(super) fn apply(document: &Value, patch: &Value, schema: &Schema) -> Result<Value> {
    let (Some(fields), Some(changes)) = (document.as_object(), patch.as_object()) else {
        return Err(Status::bad_request("a strategic merge patch must be an object"));
    };
    let mut fields = fields.clone();
    object(&mut fields, changes, schema)?;
    Ok(Value::Object(fields))
}

fn object(fields: &mut Map<String, Value>, changes: &Map<String, Value>, schema: &Schema) -> Result<()> {
    match changes.get(PATCH).and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => {
            *fields = without_directives(changes);
            return Ok(());
        }
        Some("delete") => {
            fields.clear();
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other)),
    }
    if let Some(kept) = changes.get(RETAIN_KEYS).and_then(Value::as_array) {
        fields.retain(|name, _| kept.iter().any(|key| key == name));
    }
    for (name, change) in changes.iter().filter(|(name, _)| !name.starts_with('$')) {
        let field = schema.field(name);
        match change {
            Value::Null => {
                fields.shift_remove(name);
            }
            Value::Object(inner) => {
                let slot = fields.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    object(slot, inner, field.map_or_else(unknown, AsRef::as_ref))?;
                }
            }
            Value::Array(elements) => {
                let slot = fields.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(current) = slot else {
                    *slot = change.clone();
                    continue;
                };
                let order = changes.get(&format!("{ELEMENT_ORDER}{name}")).and_then(Value::as_array);
                list(current, elements, field.map(AsRef::as_ref), order.map(Vec::as_slice))?;
            }
            other => {
                fields.insert(name.clone(), other.clone());
            }
        }
    }
    lists_by_directive(fields, changes, schema);
    Ok(())
}

/// What `$deleteFromPrimitiveList` and a `$setElementOrder` without new elements do.
fn lists_by_directive(fields: &mut Map<String, Value>, changes: &Map<String, Value>, schema: &Schema) {
    for (directive, argument) in changes {
        let Value::Array(argument) = argument else { continue };
        if let Some(name) = directive.strip_prefix(DELETE_FROM_LIST)
            && let Some(Value::Array(current)) = fields.get_mut(name)
        {
            current.retain(|element| !argument.contains(element));
        }
        if let Some(name) = directive.strip_prefix(ELEMENT_ORDER)
            && !changes.contains_key(name)
            && let Some(Value::Array(current)) = fields.get_mut(name)
        {
            reorder(current, argument, merge_key(schema.field(name).map(AsRef::as_ref)));
        }
    }
}

/// What no schema describes merges by field and replaces lists.
fn unknown<'a>() -> &'a Schema {
    static UNKNOWN: OnceLock<Schema> = OnceLock::new();
    UNKNOWN.get_or_init(Schema::default)
}

fn merge_key(schema: Option<&Schema>) -> Option<&str> {
    schema?.merge.as_ref()?.key.as_deref()
}

fn list(current: &mut Vec<Value>, elements: &[Value], schema: Option<&Schema>, order: Option<&[Value]>) -> Result<()> {
    let merges = schema.is_some_and(|schema| schema.form == Form::Array && schema.merge.is_some());
    let replace = elements.iter().any(|element| {
        element.text("/$patch") == "replace" && element.as_object().is_some_and(|element| element.len() == 1)
    });
    if !merges || replace {
        *current = elements.iter().filter(|element| element.get(PATCH).is_none()).cloned().collect();
        return Ok(());
    }
    let Some(key) = merge_key(schema) else {
        for element in elements {
            if !current.contains(element) {
                current.push(element.clone());
            }
        }
        if let Some(order) = order {
            reorder(current, order, None);
        }
        return Ok(());
    };
    let items = schema.and_then(|schema| schema.items.as_deref());
    for element in elements {
        merge_element(current, element, key, items)?;
    }
    if let Some(order) = order {
        reorder(current, order, Some(key));
    }
    Ok(())
}

fn merge_element(current: &mut Vec<Value>, element: &Value, key: &str, items: Option<&Schema>) -> Result<()> {
    let Some(changes) = element.as_object() else {
        return Err(Status::bad_request(format!("an element of a list that merges by {key} is no object")));
    };
    let Some(identity) = changes.get(key) else {
        return Err(Status::bad_request(format!("map: {element} does not contain declared merge key: {key}")));
    };
    let place = current.iter().position(|candidate| candidate.get(key) == Some(identity));
    match (changes.get(PATCH).and_then(Value::as_str), place) {
        (Some("delete"), _) => current.retain(|candidate| candidate.get(key) != Some(identity)),
        (Some("replace"), Some(place)) => current[place] = Value::Object(without_directives(changes)),
        (None | Some("merge"), Some(place)) => {
            if let Value::Object(fields) = &mut current[place] {
                object(fields, changes, items.unwrap_or_else(unknown))?;
            }
        }
        (None | Some("merge" | "replace"), None) => {
            let mut fields = Map::new();
            object(&mut fields, changes, items.unwrap_or_else(unknown))?;
            current.push(Value::Object(fields));
        }
        (Some(other), _) => return Err(unknown_directive(other)),
    }
    Ok(())
}

/// Puts the named elements into the given order; the others keep their places behind the element they followed.
fn reorder(current: &mut [Value], order: &[Value], key: Option<&str>) {
    let identity =
        |element: &Value| key.map_or_else(|| element.clone(), |key| element.get(key).cloned().unwrap_or_default());
    let rank = |element: &Value| order.iter().position(|wanted| identity(wanted) == identity(element));
    let mut named: Vec<Value> = current.iter().filter(|element| rank(element).is_some()).cloned().collect();
    named.sort_by_key(|element| rank(element));
    let mut named = named.into_iter();
    for element in current.iter_mut() {
        if rank(element).is_some()
            && let Some(next) = named.next()
        {
            *element = next;
        }
    }
}

fn without_directives(changes: &Map<String, Value>) -> Map<String, Value> {
    changes
        .iter()
        .filter(|(name, _)| !name.starts_with('$'))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn unknown_directive(directive: &str) -> Status {
    Status::bad_request(format!("Unknown patch type found: {directive}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin::types;
    use rstest::rstest;
    use serde_json::json;

    fn spec(containers: Value) -> Value {
        json!({"spec": {"containers": containers}})
    }

    #[rstest]
    #[case::containers_merge_by_name(
        spec(json!([{"name": "a", "image": "x", "env": [{"name": "K", "value": "1"}]}, {"name": "b", "image": "y"}])),
        spec(json!([{"name": "a", "image": "z", "env": [{"name": "L", "value": "2"}]}])),
        spec(json!([{"name": "a", "image": "z", "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}]}, {"name": "b", "image": "y"}])))]
    #[case::an_element_is_deleted(
        spec(json!([{"name": "a"}, {"name": "b"}])),
        spec(json!([{"name": "a", "$patch": "delete"}])),
        spec(json!([{"name": "b"}])))]
    #[case::a_list_is_replaced(
        spec(json!([{"name": "a"}, {"name": "b"}])),
        spec(json!([{"name": "c"}, {"$patch": "replace"}])),
        spec(json!([{"name": "c"}])))]
    #[case::order_is_set(
        spec(json!([{"name": "a"}, {"name": "b"}])),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": "x"}]}}),
        spec(json!([{"name": "b", "image": "x"}, {"name": "a"}])))]
    #[case::atomic_lists_are_replaced(
        spec(json!([{"name": "a", "args": ["1", "2"]}])),
        spec(json!([{"name": "a", "args": ["3"]}])),
        spec(json!([{"name": "a", "args": ["3"]}])))]
    #[case::sets_gain_and_lose(
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}),
        json!({"metadata": {"finalizers": ["b", "c"]}}))]
    #[case::null_removes(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
        json!({"metadata": {"labels": {"a": null}}}),
        json!({"metadata": {"labels": {"b": "2"}}}))]
    #[case::an_object_is_replaced(
        json!({"spec": {"securityContext": {"runAsUser": 1, "runAsGroup": 2}}}),
        json!({"spec": {"securityContext": {"$patch": "replace", "runAsUser": 3}}}),
        json!({"spec": {"securityContext": {"runAsUser": 3}}}))]
    #[case::keys_are_retained(
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}}),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}))]
    fn as_kubernetes_merges(#[case] document: Value, #[case] patch: Value, #[case] expected: Value) {
        assert_eq!(apply(&document, &patch, &types()["core.v1.Pod"]).unwrap(), expected);
    }

    #[rstest]
    #[case(spec(json!([{"image": "x"}])))]
    #[case(json!({"spec": {"$patch": "explode"}}))]
    #[case(json!(["no"]))]
    fn a_bad_patch_is_refused(#[case] patch: Value) {
        assert_eq!(apply(&spec(json!([])), &patch, &types()["core.v1.Pod"]).unwrap_err().code(), 400);
    }
}
