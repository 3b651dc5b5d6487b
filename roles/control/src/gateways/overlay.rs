//! Partial manifests laid over what is rendered, as `kubectl patch --type=strategic` lays them.
//!
//! Lists whose elements have names are merged by name; `null` removes a field, `$patch: delete` an element,
//! `$patch: replace` what stood there before.

use serde_json::{Map, Value};

const PATCH: &str = "$patch";

/// Lays `over` over `under`.
pub(super) fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => fields(under, over),
        (under, over) => *under = bare(over),
    }
}

fn fields(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    match over.get(PATCH).and_then(Value::as_str) {
        Some("replace") => under.clear(),
        Some("delete") => return under.clear(),
        _ => {}
    }
    for (name, value) in over.iter().filter(|(name, _)| *name != PATCH) {
        match value {
            Value::Null => drop(under.shift_remove(name)),
            Value::Array(elements) => match (under.get_mut(name), key(name, elements)) {
                (Some(Value::Array(present)), Some(key)) => list(present, elements, key),
                _ => drop(under.insert(name.clone(), bare(value))),
            },
            value => merge(under.entry(name).or_insert(Value::Null), value),
        }
    }
}

fn list(under: &mut Vec<Value>, over: &[Value], key: &str) {
    if over.iter().any(|element| element.get(key).is_none() && element[PATCH] == "replace") {
        under.clear();
    }
    for element in over.iter().filter(|element| element.get(key).is_some()) {
        let place = under.iter().position(|present| present[key] == element[key]);
        match place {
            Some(place) if element[PATCH] == "delete" => drop(under.remove(place)),
            Some(place) => merge(&mut under[place], element),
            None if element[PATCH] == "delete" => {}
            None => under.push(bare(element)),
        }
    }
}

/// A value without what only told how to merge it.
fn bare(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, value)| *name != PATCH && !value.is_null());
            kept.map(|(name, value)| (name.clone(), bare(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(elements) => {
            let kept = elements.iter().filter(|element| {
                !(element[PATCH].is_string() && element.as_object().is_some_and(|fields| fields.len() == 1))
            });
            kept.map(bare).collect()
        }
        value => value.clone(),
    }
}

/// By what the elements of a list are told apart, where Kubernetes merges them; none where it replaces the whole.
fn key(name: &str, elements: &[Value]) -> Option<&'static str> {
    match name {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "secrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "hostAliases" => Some("ip"),
        "ports" if elements.iter().any(|element| element.get("containerPort").is_some()) => Some("containerPort"),
        "ports" => Some("port"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::fields_merge(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"c": 3}}), json!({"a": {"b": 1, "c": 3}}))]
    #[case::null_removes(json!({"a": 1, "b": 2}), json!({"a": null, "c": null}), json!({"b": 2}))]
    #[case::plain_lists_are_replaced(json!({"args": [1, 2]}), json!({"args": [3]}), json!({"args": [3]}))]
    #[case::containers_merge(
        json!({"containers": [{"name": "p", "image": "x", "env": [{"name": "A", "value": "1"}]}]}),
        json!({"containers": [{"name": "p", "env": [{"name": "B", "value": "2"}]}, {"name": "q"}]}),
        json!({"containers": [{"name": "p", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}, {"name": "q"}]}),
    )]
    #[case::an_element_goes(
        json!({"volumes": [{"name": "a"}, {"name": "b"}]}), json!({"volumes": [{"name": "a", "$patch": "delete"}, {"name": "z", "$patch": "delete"}]}),
        json!({"volumes": [{"name": "b"}]}),
    )]
    #[case::a_list_is_replaced(
        json!({"volumes": [{"name": "a"}]}), json!({"volumes": [{"$patch": "replace"}, {"name": "b"}]}), json!({"volumes": [{"name": "b"}]}),
    )]
    #[case::an_object_is_replaced(
        json!({"resources": {"limits": {"cpu": "2"}}}), json!({"resources": {"$patch": "replace", "requests": {"cpu": "1"}}}),
        json!({"resources": {"requests": {"cpu": "1"}}}),
    )]
    #[case::resources_can_be_emptied(json!({"resources": {"limits": {}}}), json!({"resources": null}), json!({}))]
    #[case::ports_by_number(
        json!({"ports": [{"port": 15008, "name": "mesh"}]}), json!({"ports": [{"port": 15008, "nodePort": 31000}]}),
        json!({"ports": [{"port": 15008, "name": "mesh", "nodePort": 31000}]}),
    )]
    #[case::nothing_of_the_directives_stays(
        json!({}), json!({"a": [{"$patch": "replace"}, {"x": {"$patch": "merge", "y": null, "z": 1}}]}), json!({"a": [{"x": {"z": 1}}]}),
    )]
    fn merging(#[case] mut under: Value, #[case] over: Value, #[case] expected: Value) {
        merge(&mut under, &over);
        assert_eq!(under, expected);
    }
}
