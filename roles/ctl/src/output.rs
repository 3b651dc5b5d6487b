//! The forms that commands print in: tables for people, JSON and YAML for programs.

use serde::Serialize;
use serde_json::Value;

use crate::Error;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table.
    #[default]
    Table,
    /// JSON, indented by four.
    Json,
    /// YAML with sorted keys.
    Yaml,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "short" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            other => Err(format!("output format {other:?} is none of short, table, json and yaml")),
        }
    }
}

/// JSON as upstream's commands indent it.
pub(crate) fn json<T: Serialize>(value: &T, indent: &[u8]) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(Error::Render)?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// YAML with keys in alphabetical order.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, Error> {
    let value = sorted(serde_json::to_value(value).map_err(Error::Render)?);
    api::yaml::to_string(&value).map_err(Error::Yaml)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
