//! Fills in what a schema says an absent field means.

use super::{Form, Schema};
use serde_json::Value;

/// Puts defaults into a value, from the outside in: the default of an object is itself completed.
pub(crate) fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, field) in &schema.properties {
                let absent = match fields.get(name) {
                    None => true,
                    Some(Value::Null) => !field.nullable,
                    Some(_) => false,
                };
                if absent && let Some(default) = &field.default {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, inner) in fields.iter_mut() {
                if let Some(field) = schema.field(name) {
                    fill(inner, field);
                }
            }
        }
        Value::Array(elements) => {
            if let Some(items) = schema.items.as_ref().filter(|_| schema.form == Form::Array) {
                elements.iter_mut().for_each(|element| fill(element, items));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin::types;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_is_completed_down_to_its_containers() {
        let mut value =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}}});
        fill(&mut value, &types()["apps.v1.Deployment"]);
        assert_eq!(value.pointer("/spec/replicas"), Some(&json!(1)));
        assert_eq!(value.pointer("/spec/strategy/type"), Some(&json!("RollingUpdate")));
        assert_eq!(value.pointer("/spec/template/spec/dnsPolicy"), Some(&json!("ClusterFirst")));
        assert_eq!(value.pointer("/spec/template/spec/containers/0/ports/0/protocol"), Some(&json!("TCP")));
    }
}
