//! Drops what a schema does not declare, tells what was dropped, and brings loose writings to one form.

use super::{Form, Schema, builtin};
use serde_json::{Map, Value};

/// Removes undeclared fields from a whole object; returns their paths in the order met.
pub(crate) fn object(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut dropped = Vec::new();
    let Value::Object(fields) = value else { return dropped };
    resource(fields, schema, "", &mut dropped);
    dropped
}

/// An object with apiVersion, kind and metadata: these three are declared by being an object.
fn resource(fields: &mut Map<String, Value>, schema: &Schema, path: &str, dropped: &mut Vec<String>) {
    if let (Some(metadata), Some(declared)) = (fields.get_mut("metadata"), builtin::types().get("meta.v1.ObjectMeta")) {
        walk(metadata, declared, &join(path, "metadata"), dropped);
    }
    members(fields, schema, path, dropped, &["apiVersion", "kind", "metadata"]);
}

fn walk(value: &mut Value, schema: &Schema, path: &str, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) if schema.embedded => resource(fields, schema, path, dropped),
        Value::Object(fields) => members(fields, schema, path, dropped, &[]),
        Value::Array(elements) => {
            if let Some(items) = &schema.items {
                for (index, element) in elements.iter_mut().enumerate() {
                    walk(element, items, &format!("{path}[{index}]"), dropped);
                }
            }
        }
        _ => {}
    }
}

fn members(fields: &mut Map<String, Value>, schema: &Schema, path: &str, dropped: &mut Vec<String>, always: &[&str]) {
    let closed = schema.form == Form::Object && !schema.preserve_unknown && schema.additional.is_none();
    fields.retain(|name, value| {
        if always.contains(&name.as_str()) {
            return true;
        }
        match schema.field(name) {
            Some(field) => walk(value, field, &join(path, name), dropped),
            None if closed => {
                dropped.push(join(path, name));
                return false;
            }
            None => {}
        }
        true
    });
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Drops nulls from a built-in object, where an absent field and a null mean the same, and writes quantities as text.
pub(crate) fn normalise(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            if schema.preserve_unknown {
                return;
            }
            fields.retain(|_, inner| !inner.is_null());
            for (name, inner) in fields.iter_mut() {
                if let Some(field) = schema.field(name) {
                    normalise(inner, field);
                }
            }
        }
        Value::Array(elements) => {
            if let Some(items) = &schema.items {
                elements.iter_mut().for_each(|element| normalise(element, items));
            }
        }
        Value::Number(number) if schema.form == Form::Quantity => *value = Value::String(number.to_string()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin::types;
    use super::*;
    use serde_json::json;

    #[test]
    fn undeclared_fields_go_and_are_named() {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "nom": 1},
            "spec": {"containers": [{"name": "c", "imge": "x"}], "nodeSelector": {"any": "thing"}}, "extra": true});
        let dropped = object(&mut pod, &types()["core.v1.Pod"]);
        assert_eq!(dropped, ["metadata.nom", "spec.containers[0].imge", "extra"]);
        assert_eq!(
            pod,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "c"}], "nodeSelector": {"any": "thing"}}})
        );
    }

    #[test]
    fn nulls_and_bare_quantities_take_one_form() {
        let mut pod =
            json!({"metadata": {"labels": null}, "spec": {"containers": [{"resources": {"limits": {"cpu": 1}}}]}});
        normalise(&mut pod, &types()["core.v1.Pod"]);
        assert_eq!(pod, json!({"metadata": {}, "spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}}));
    }
}
