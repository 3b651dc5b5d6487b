//! Checks a value against its schema.
//!
//! Two strictnesses: [`types`] finds only values of the wrong form (what a decoder into typed fields would refuse, used for
//! built-in kinds), [`check`] keeps every rule of a structural schema (used for custom resources).

use super::{Form, Limits, List, Schema};
use crate::status::Cause;
use serde_json::{Map, Value};

/// More than this helps nobody.
const MOST_CAUSES: usize = 64;

/// The first value that has the wrong form, said as a decoder says it.
pub(crate) fn types(value: &Value, schema: &Schema, kind: &str) -> Option<String> {
    wrong_form(value, schema, "").map(|(path, found, wanted)| {
        format!("json: cannot unmarshal {found} into Go struct field {kind}.{path} of type {wanted}")
    })
}

fn wrong_form(value: &Value, schema: &Schema, path: &str) -> Option<(String, &'static str, &'static str)> {
    if value.is_null() {
        return None;
    }
    if !fits(value, schema) {
        return Some((path.to_owned(), found(value), wanted(schema)));
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .find_map(|(name, inner)| schema.field(name).and_then(|field| wrong_form(inner, field, &join(path, name)))),
        Value::Array(elements) => {
            let items = schema.items.as_ref()?;
            elements.iter().find_map(|element| wrong_form(element, items, path))
        }
        _ => None,
    }
}

fn fits(value: &Value, schema: &Schema) -> bool {
    match schema.form {
        Form::Any => true,
        Form::Object => value.is_object(),
        Form::Array => value.is_array(),
        Form::String => value.is_string(),
        Form::Boolean => value.is_boolean(),
        Form::Number => value.is_number(),
        Form::Integer => match value.as_i64() {
            Some(number) => schema.format.as_deref() != Some("int32") || i32::try_from(number).is_ok(),
            None => value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() < 9e15),
        },
        Form::IntOrString => value.is_string() || value.is_i64(),
        Form::Quantity => value.is_string() || value.is_number(),
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wanted(schema: &Schema) -> &'static str {
    match schema.form {
        Form::Any => "any",
        Form::Object => "object",
        Form::Array => "array",
        Form::String => "string",
        Form::Integer if schema.format.as_deref() == Some("int32") => "int32",
        Form::Integer => "integer",
        Form::Number => "number",
        Form::Boolean => "bool",
        Form::IntOrString => "intstr.IntOrString",
        Form::Quantity => "resource.Quantity",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Every way in which a custom resource breaks its schema.
pub(crate) fn check(value: &Value, schema: &Schema) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(value, schema, "", &mut causes);
    causes.truncate(MOST_CAUSES);
    causes
}

fn walk(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if causes.len() > MOST_CAUSES || (value.is_null() && schema.nullable) {
        return;
    }
    if !fits(value, schema) {
        let wanted = match schema.form {
            Form::IntOrString => "integer,string",
            Form::Boolean => "boolean",
            Form::Integer => "integer",
            _ => wanted(schema),
        };
        let shown = Value::from(found(value));
        let detail = format!("{} in body must be of type {wanted}: \"{}\"", named(path), found(value));
        causes.push(Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(named(path), &shown, detail) });
        return;
    }
    match value {
        Value::Object(fields) => members(fields, schema, path, causes),
        Value::Array(elements) => list(elements, schema, path, causes),
        Value::String(text) => string(text, value, schema, path, causes),
        Value::Number(number) => bounds(number.as_f64().unwrap_or_default(), value, &schema.limits, path, causes),
        _ => {}
    }
    if let Some(supported) = schema.limits.enumeration.as_ref().filter(|supported| !supported.contains(value)) {
        causes.push(Cause::unsupported(named(path), value, supported));
    }
    logic(value, schema, path, causes);
}

fn named(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

fn members(fields: &Map<String, Value>, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
        causes.push(Cause::required(join(path, name), ""));
    }
    let count = fields.len() as u64;
    let value = || Value::from(count);
    if let Some(least) = schema.limits.min_properties.filter(|least| count < *least) {
        let detail = format!("{} in body should have at least {least} properties", named(path));
        causes.push(Cause::invalid(named(path), &value(), detail));
    }
    if let Some(most) = schema.limits.max_properties.filter(|most| count > *most) {
        causes.push(Cause {
            field: named(path),
            reason: "FieldValueTooMany",
            message: format!("Too many: {count}: must have at most {most} items"),
        });
    }
    for (name, inner) in fields {
        if let Some(field) = schema.properties.get(name) {
            walk(inner, field, &join(path, name), causes);
        } else if let Some(additional) = &schema.additional {
            walk(inner, additional, &format!("{path}[{name}]"), causes);
        }
    }
}

fn list(elements: &[Value], schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let count = elements.len() as u64;
    if let Some(least) = schema.limits.min_items.filter(|least| count < *least) {
        let detail = format!("{} in body should have at least {least} items", named(path));
        causes.push(Cause::invalid(named(path), &Value::from(count), detail));
    }
    if let Some(most) = schema.limits.max_items.filter(|most| count > *most) {
        causes.push(Cause {
            field: named(path),
            reason: "FieldValueTooMany",
            message: format!("Too many: {count}: must have at most {most} items"),
        });
        return;
    }
    duplicates(elements, schema, path, causes);
    if let Some(items) = &schema.items {
        for (index, element) in elements.iter().enumerate() {
            walk(element, items, &format!("{path}[{index}]"), causes);
        }
    }
}

fn duplicates(elements: &[Value], schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let mut seen = std::collections::HashSet::new();
    for (index, element) in elements.iter().enumerate() {
        let identity = match &schema.list {
            List::Atomic if !schema.limits.unique_items => return,
            List::Atomic | List::Set => element.clone(),
            List::Map(keys) => keys.iter().map(|key| element.get(key).cloned().unwrap_or_default()).collect(),
        };
        if !seen.insert(identity.to_string()) {
            let shown = match &schema.list {
                List::Map(keys) => Value::from(
                    keys.iter()
                        .filter_map(|key| Some(format!("{key}={}", element.get(key)?)))
                        .collect::<Vec<_>>()
                        .join(","),
                ),
                _ => element.clone(),
            };
            causes.push(Cause::duplicate(format!("{path}[{index}]"), &shown));
        }
    }
}

fn string(text: &str, value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let limits = &schema.limits;
    let length = text.chars().count() as u64;
    if let Some(least) = limits.min_length.filter(|least| length < *least) {
        let detail = format!("{} in body should be at least {least} chars long", named(path));
        causes.push(Cause::invalid(named(path), value, detail));
    }
    if let Some(most) = limits.max_length.filter(|most| length > *most) {
        causes.push(Cause::too_long(named(path), most));
        return;
    }
    if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        let detail = format!("{} in body should match '{}'", named(path), pattern.as_str());
        causes.push(Cause::invalid(named(path), value, detail));
    }
    if let Some(format) = schema.format.as_deref().filter(|format| !has_format(text, format)) {
        let detail = format!("{} in body must be of type {format}: {value}", named(path));
        causes.push(Cause::invalid(named(path), value, detail));
    }
}

/// Formats that are not known say nothing, as in Kubernetes.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "ip" => text.parse::<std::net::IpAddr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        _ => true,
    }
}

fn bounds(number: f64, value: &Value, limits: &Limits, path: &str, causes: &mut Vec<Cause>) {
    let mut refuse = |relation: &str, bound: f64| {
        let detail = format!("{} in body should be {relation} {bound}", named(path));
        causes.push(Cause::invalid(named(path), value, detail));
    };
    match limits.minimum {
        Some(least) if limits.exclusive_minimum && number <= least => refuse("greater than", least),
        Some(least) if number < least => refuse("greater than or equal to", least),
        _ => {}
    }
    match limits.maximum {
        Some(most) if limits.exclusive_maximum && number >= most => refuse("less than", most),
        Some(most) if number > most => refuse("less than or equal to", most),
        _ => {}
    }
    if let Some(unit) = limits.multiple_of.filter(|unit| *unit > 0.0 && (number / unit).fract() != 0.0) {
        refuse("a multiple of", unit);
    }
}

fn logic(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    let holds = |rule: &Schema| {
        let mut found = Vec::new();
        walk(value, rule, path, &mut found);
        found.is_empty()
    };
    let rules = &schema.logic;
    let mut refuse = |detail: &str| {
        let shown = if value.is_object() || value.is_array() { Value::from("") } else { value.clone() };
        causes.push(Cause::invalid(named(path), &shown, format!("{} in body {detail}", named(path))));
    };
    if !rules.any_of.is_empty() && !rules.any_of.iter().any(holds) {
        refuse("must validate at least one schema (anyOf)");
    }
    if !rules.one_of.is_empty() && rules.one_of.iter().filter(|rule| holds(rule)).count() != 1 {
        refuse("must validate one and only one schema (oneOf)");
    }
    if rules.not.as_ref().is_some_and(|rule| holds(rule)) {
        refuse("must not validate the schema (not)");
    }
    for rule in &rules.all_of {
        walk(value, rule, path, causes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{builtin, structural};
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"spec": {"replicas": "2"}}), Some("json: cannot unmarshal string into Go struct field Deployment.spec.replicas of type int32"))]
    #[case(json!({"spec": {"replicas": 2}}), None)]
    #[case(json!({"metadata": {"labels": {"a": 1}}}), Some("json: cannot unmarshal number into Go struct field Deployment.metadata.labels.a of type string"))]
    fn a_wrong_form_is_said_as_a_decoder_says_it(#[case] value: Value, #[case] expected: Option<&str>) {
        assert_eq!(types(&value, &builtin::types()["apps.v1.Deployment"], "Deployment").as_deref(), expected);
    }

    #[rstest]
    #[case(json!({"type": "integer", "minimum": 1}), json!(0), "Invalid value: 0: <nil> in body should be greater than or equal to 1")]
    #[case(json!({"type": "string", "enum": ["A", "B"]}), json!("C"), "Unsupported value: \"C\": supported values: \"A\", \"B\"")]
    #[case(json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}), json!({}), "a: Required value")]
    #[case(json!({"type": "string"}), json!(3), "Invalid value: \"number\": <nil> in body must be of type string: \"number\"")]
    #[case(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}), json!(["a", "a"]), "[1]: Duplicate value: \"a\"")]
    #[case(json!({"type": "string", "pattern": "^a+$"}), json!("b"), "<nil> in body should match '^a+$'")]
    #[case(json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
        json!({"a": "", "b": ""}), "must validate one and only one schema (oneOf)")]
    #[case(json!({"type": "object", "not": {"required": ["a"]}, "properties": {"a": {"type": "string"}}}), json!({"a": ""}), "(not)")]
    fn a_broken_rule_is_named(#[case] schema: Value, #[case] value: Value, #[case] expected: &str) {
        let schema = structural::parse(&schema).unwrap();
        let causes = check(&value, &schema);
        assert_eq!(causes.len(), 1, "{causes:?}");
        assert!(causes[0].to_string().contains(expected), "{}", causes[0]);
    }
}
