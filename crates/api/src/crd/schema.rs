//! From what schemars derives to what Kubernetes calls structural: every node has one type, nothing is referred to,
//! `null` is never a value.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::kind::{Kind, Schema};
use crate::validate::rules;

/// Mark of a field that a writer must give, though reading does without it.
const REQUIRED: &str = "x-required";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// The schema of a whole object.
pub(super) fn of(kind: &Kind) -> Value {
    let (mut spec, mut status) = match kind.schema {
        Schema::Typed { spec, status } => (spec(), status()),
        Schema::AsWritten => (any_object(), any_object()),
    };
    // Gateway API's kinds bear the names of some of Istio's.
    let istio = kind.group.ends_with("istio.io");
    if let Some(rules) = rules::of_kind(kind.kind).filter(|_| istio) {
        spec["x-kubernetes-validations"] = rules;
    }
    // Other programs write statuses too, and may say more than we know.
    status[PRESERVE] = true.into();
    let mut properties = json!({"spec": spec});
    if kind.has_status {
        properties["status"] = status;
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if schema["properties"]["spec"]["required"].is_array() {
        schema["required"] = json!(["spec"]);
    }
    schema
}

fn any_object() -> Value {
    json!({"type": "object", PRESERVE: true})
}

/// The structural schema of a type.
pub(super) fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    clean(SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value())
}

fn clean(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else {
        return json!({PRESERVE: true});
    };
    schema.remove("title");
    schema.remove("$schema");
    one_type(&mut schema);
    one_choice(&mut schema);
    drop_foreign_format(&mut schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        let mut required = Vec::new();
        for (name, property) in properties.iter_mut() {
            *property = clean(property.take());
            if property.as_object_mut().and_then(|property| property.remove(REQUIRED)).is_some() {
                required.push(Value::from(name.as_str()));
            }
        }
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
    }
    if let Some(items) = schema.get_mut("items") {
        *items = clean(items.take());
    }
    match schema.remove("additionalProperties") {
        Some(Value::Object(values)) => {
            schema.insert("additionalProperties".to_owned(), clean(Value::Object(values)));
        }
        Some(Value::Bool(true)) => {
            schema.insert(PRESERVE.to_owned(), true.into());
        }
        _ => {}
    }
    let says_what = ["type", "anyOf", PRESERVE].iter().any(|key| schema.contains_key(*key));
    if !says_what {
        schema.insert(PRESERVE.to_owned(), true.into());
    }
    Value::Object(schema)
}

/// `["string", "null"]` is `"string"`.
fn one_type(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get("type")
        && let Some(only) = types.iter().find(|name| *name != "null").cloned()
    {
        schema.insert("type".to_owned(), only);
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

/// "This or null" is this; one of several constants is an enumeration.
fn one_choice(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = &mut choices[..] {
            let only = std::mem::take(only);
            schema.remove("anyOf");
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
            one_type(schema);
        }
    }
    let constants = match schema.get("oneOf") {
        Some(Value::Array(choices)) => {
            choices.iter().map(|choice| choice.get("const").cloned()).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    if let Some(constants) = constants {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), "string".into());
        schema.insert("enum".to_owned(), constants.into());
    }
}

/// Kubernetes knows no unsigned formats.
fn drop_foreign_format(schema: &mut Map<String, Value>) {
    let foreign = schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| !matches!(format, "int32" | "int64" | "date-time"));
    if foreign {
        schema.remove("format");
    }
}
