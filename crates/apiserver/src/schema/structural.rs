//! Reads the structural schema of a custom resource (`openAPIV3Schema`).
//!
//! CEL rules (`x-kubernetes-validations`) are read over: they are not evaluated here.

use super::{Form, Limits, List, Logic, Schema};
use indexmap::IndexMap;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Deeper schemas are refused: every walk over them recurses.
const DEEPEST: usize = 64;
/// Longer patterns are refused: they are compiled.
const LONGEST_PATTERN: usize = 16 * 1024;

/// What is wrong with a schema, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path}: {problem}")]
pub(crate) struct SchemaError {
    pub(crate) path: String,
    pub(crate) problem: String,
}

/// Reads a schema; the root's `metadata` is left to the kind's own rules.
pub(crate) fn parse(value: &Value) -> Result<Schema, SchemaError> {
    schema(value, "openAPIV3Schema", 0, false)
}

struct Reader<'a> {
    fields: &'a Map<String, Value>,
    path: &'a str,
}

impl Reader<'_> {
    fn fail<T>(&self, key: &str, problem: impl Into<String>) -> Result<T, SchemaError> {
        Err(SchemaError { path: format!("{}.{key}", self.path), problem: problem.into() })
    }

    fn flag(&self, key: &str) -> Result<bool, SchemaError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => self.fail(key, "must be true or false"),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, SchemaError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.fail(key, "must be a string"),
        }
    }

    fn count(&self, key: &str) -> Result<Option<u64>, SchemaError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(count) => Ok(Some(count)),
                None => self.fail(key, "must be a whole number that is not negative"),
            },
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, SchemaError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => self.fail(key, "must be a number"),
            },
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, SchemaError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or(()))
                .collect::<Result<_, ()>>()
                .or_else(|()| self.fail(key, "must be a list of strings")),
            Some(_) => self.fail(key, "must be a list of strings"),
        }
    }

    fn each<T>(
        &self,
        key: &str,
        mut read: impl FnMut(&Value, String) -> Result<T, SchemaError>,
    ) -> Result<Vec<T>, SchemaError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(index, item)| read(item, format!("{}.{key}[{index}]", self.path)))
                .collect(),
            Some(_) => self.fail(key, "must be a list"),
        }
    }
}

fn schema(value: &Value, path: &str, depth: usize, inside_logic: bool) -> Result<Schema, SchemaError> {
    if depth > DEEPEST {
        return Err(SchemaError { path: path.to_owned(), problem: format!("nested deeper than {DEEPEST} levels") });
    }
    let Some(fields) = value.as_object() else {
        return Err(SchemaError { path: path.to_owned(), problem: "must be an object".into() });
    };
    let reader = Reader { fields, path };
    if fields.contains_key("$ref") {
        return reader.fail("$ref", "references are not allowed in a structural schema");
    }
    let int_or_string = reader.flag("x-kubernetes-int-or-string")?;
    let preserve_unknown = reader.flag("x-kubernetes-preserve-unknown-fields")?;
    let form = form(&reader, int_or_string)?;
    if form == Form::Any && !inside_logic && !preserve_unknown && !fields.is_empty() {
        return reader.fail("type", "Required value: must not be empty for specified object fields");
    }
    let nested = |value: &Value, path: String| schema(value, &path, depth + 1, inside_logic).map(Arc::new);
    let rule = |value: &Value, path: String| schema(value, &path, depth + 1, true);
    let items = fields.get("items").map(|items| nested(items, format!("{path}.items"))).transpose()?;
    if form == Form::Array && items.is_none() && !inside_logic {
        return reader.fail("items", "Required value: must be specified");
    }
    let additional = match fields.get("additionalProperties") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(Arc::new(Schema { preserve_unknown: true, ..Schema::default() })),
        Some(inner) => Some(nested(inner, format!("{path}.additionalProperties"))?),
    };
    let not = fields.get("not").map(|inner| rule(inner, format!("{path}.not"))).transpose()?.map(Box::new);
    Ok(Schema {
        name: None,
        form,
        format: reader.text("format")?.map(str::to_owned),
        description: reader.text("description")?.map(str::to_owned),
        properties: properties(&reader, &nested)?,
        additional,
        items,
        required: reader.texts("required")?,
        default: fields.get("default").cloned(),
        nullable: reader.flag("nullable")?,
        preserve_unknown,
        embedded: reader.flag("x-kubernetes-embedded-resource")?,
        list: list(&reader)?,
        atomic_map: reader.text("x-kubernetes-map-type")? == Some("atomic"),
        merge: None,
        retain_keys: false,
        limits: limits(&reader)?,
        logic: Logic {
            all_of: reader.each("allOf", rule)?,
            any_of: if int_or_string { Vec::new() } else { reader.each("anyOf", rule)? },
            one_of: reader.each("oneOf", rule)?,
            not,
        },
        wire: Vec::new(),
    })
}

fn form(reader: &Reader<'_>, int_or_string: bool) -> Result<Form, SchemaError> {
    Ok(match reader.text("type")? {
        _ if int_or_string => Form::IntOrString,
        None | Some("") => Form::Any,
        Some("object") => Form::Object,
        Some("array") => Form::Array,
        Some("string") => Form::String,
        Some("integer") => Form::Integer,
        Some("number") => Form::Number,
        Some("boolean") => Form::Boolean,
        Some(other) => {
            return reader.fail(
                "type",
                format!("Unsupported value: \"{other}\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""),
            );
        }
    })
}

fn properties(
    reader: &Reader<'_>,
    nested: &impl Fn(&Value, String) -> Result<Arc<Schema>, SchemaError>,
) -> Result<IndexMap<String, Arc<Schema>>, SchemaError> {
    match reader.fields.get("properties") {
        None | Some(Value::Null) => Ok(IndexMap::new()),
        Some(Value::Object(fields)) => fields
            .iter()
            .map(|(name, inner)| Ok((name.clone(), nested(inner, format!("{}.properties[{name}]", reader.path))?)))
            .collect(),
        Some(_) => reader.fail("properties", "must be an object"),
    }
}

fn list(reader: &Reader<'_>) -> Result<List, SchemaError> {
    const TYPE: &str = "x-kubernetes-list-type";
    const KEYS: &str = "x-kubernetes-list-map-keys";
    match reader.text(TYPE)? {
        None | Some("atomic") => Ok(List::Atomic),
        Some("set") => Ok(List::Set),
        Some("map") => match reader.texts(KEYS)? {
            keys if keys.is_empty() => reader.fail(KEYS, "Required value: must not be empty if the list type is map"),
            keys => Ok(List::Map(keys)),
        },
        Some(other) => {
            reader.fail(TYPE, format!("Unsupported value: \"{other}\": supported values: \"atomic\", \"map\", \"set\""))
        }
    }
}

fn limits(reader: &Reader<'_>) -> Result<Limits, SchemaError> {
    let pattern = match reader.text("pattern")? {
        None => None,
        Some(text) if text.len() > LONGEST_PATTERN => return reader.fail("pattern", "is too long"),
        Some(text) => match regex::RegexBuilder::new(text).size_limit(1 << 20).build() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let problem = error.to_string();
                return reader.fail("pattern", format!("is not a regular expression: {}", last_line(&problem)));
            }
        },
    };
    let enumeration = match reader.fields.get("enum") {
        None | Some(Value::Null) => None,
        Some(Value::Array(values)) => Some(values.clone()),
        Some(_) => return reader.fail("enum", "must be a list"),
    };
    Ok(Limits {
        enumeration,
        minimum: reader.number("minimum")?,
        maximum: reader.number("maximum")?,
        exclusive_minimum: reader.flag("exclusiveMinimum")?,
        exclusive_maximum: reader.flag("exclusiveMaximum")?,
        multiple_of: reader.number("multipleOf")?,
        min_length: reader.count("minLength")?,
        max_length: reader.count("maxLength")?,
        min_items: reader.count("minItems")?,
        max_items: reader.count("maxItems")?,
        min_properties: reader.count("minProperties")?,
        max_properties: reader.count("maxProperties")?,
        unique_items: reader.flag("uniqueItems")?,
        pattern,
    })
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"type": "strnig"}), "openAPIV3Schema.type")]
    #[case(json!({"type": "array"}), "openAPIV3Schema.items")]
    #[case(json!({"type": "object", "properties": {"a": {"description": "no type"}}}), "openAPIV3Schema.properties[a].type")]
    #[case(json!({"type": "string", "pattern": "("}), "openAPIV3Schema.pattern")]
    #[case(json!({"type": "object", "properties": {"a": 3}}), "openAPIV3Schema.properties[a]")]
    #[case(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}), "openAPIV3Schema.x-kubernetes-list-map-keys")]
    #[case(json!({"$ref": "#/definitions/x"}), "openAPIV3Schema.$ref")]
    fn a_broken_schema_is_refused_with_its_place(#[case] value: Value, #[case] path: &str) {
        assert_eq!(parse(&value).unwrap_err().path, path);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = (0..100).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
        assert!(parse(&deep).unwrap_err().problem.contains("deeper"));
    }
}
