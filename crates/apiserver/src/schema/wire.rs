//! Reads Kubernetes' binary encoding: protobuf messages whose field numbers stand in `data/types.txt`.
//!
//! Go clients send their typed objects this way. Answers are always JSON, which they accept too.

use super::{Form, Schema};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The media type.
pub(crate) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
/// What every encoded object begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deeper messages are refused.
const DEEPEST: usize = 64;

/// A field's place in the encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    name: String,
    /// More than one number leads through embedded messages.
    path: Vec<u64>,
    /// A zero was written by somebody; for other fields it is what is always sent.
    zero_is_meant: bool,
}

impl Number {
    /// Reads `2.1?`.
    pub(super) fn parse(name: &str, text: &str) -> Option<Self> {
        let (text, zero_is_meant) = match text.strip_suffix('?') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let path = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self { name: name.to_owned(), path, zero_is_meant })
    }
}

/// Why bytes cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum WireError {
    #[error("the body does not begin as the binary encoding of an object does")]
    Magic,
    #[error("the body ends in the middle of a field")]
    Short,
    #[error("a field of the body is not of the form its kind has there ({0})")]
    Form(String),
    #[error("the body is nested too deep")]
    Deep,
    #[error("objects of kind {0:?} are not read in binary form here: send JSON")]
    Kind(String),
}

type Result<T> = std::result::Result<T, WireError>;

enum Part<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// Reads an object; `schema` finds what its kind looks like.
pub(crate) fn decode(bytes: &[u8], schema: impl Fn(&str) -> Option<Arc<Schema>>) -> Result<Value> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(WireError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for part in Parts(envelope) {
        match part? {
            (1, Part::Bytes(meta)) => {
                for part in Parts(meta) {
                    match part? {
                        (1, Part::Bytes(text)) => api_version = lossy(text),
                        (2, Part::Bytes(text)) => kind = lossy(text),
                        _ => {}
                    }
                }
            }
            (2, Part::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let schema = schema(&kind).ok_or_else(|| WireError::Kind(kind.clone()))?;
    let mut fields = Map::new();
    fields.insert("apiVersion".into(), api_version.into());
    fields.insert("kind".into(), kind.into());
    message(raw, &schema, &mut Vec::new(), &mut fields, 0)?;
    Ok(Value::Object(fields))
}

/// The fields of a message, one after the other.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(WireError::Short)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Form("a number that never ends".into()))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.0.len()).ok_or(WireError::Short)?;
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn fixed(&mut self, count: u64) -> Result<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn part(&mut self) -> Result<(u64, Part<'a>)> {
        let tag = self.varint()?;
        let part = match tag & 7 {
            0 => Part::Number(self.varint()?),
            1 => Part::Fixed(self.fixed(8)?),
            2 => {
                let count = self.varint()?;
                Part::Bytes(self.take(count)?)
            }
            5 => Part::Fixed(self.fixed(4)?),
            other => return Err(WireError::Form(format!("wire type {other}"))),
        };
        Ok((tag >> 3, part))
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<(u64, Part<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.0 = &[];
        }
        Some(part)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a message into the fields of an object; `path` is the way through embedded messages so far.
fn message(
    bytes: &[u8],
    schema: &Schema,
    path: &mut Vec<u64>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    if depth > DEEPEST {
        return Err(WireError::Deep);
    }
    for part in Parts(bytes) {
        let (number, part) = part?;
        path.push(number);
        let exact = schema.wire.iter().find(|field| field.path == *path);
        let inside = schema.wire.iter().any(|field| field.path.len() > path.len() && field.path.starts_with(path));
        match (exact, part) {
            (Some(field), part) => {
                if let Some(declared) = schema.properties.get(&field.name) {
                    read_field(field, declared, schema, &part, out, depth)?;
                }
            }
            (None, Part::Bytes(inner)) if inside => message(inner, schema, path, out, depth + 1)?,
            _ => {}
        }
        path.pop();
    }
    Ok(())
}

fn read_field(
    field: &Number,
    declared: &Schema,
    owner: &Schema,
    part: &Part<'_>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    let name = &field.name;
    match (&declared.items, &declared.additional, part) {
        (Some(items), _, part) if declared.form == Form::Array => {
            let element = value(items, part, name, depth)?;
            if let Value::Array(list) = out.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new())) {
                list.push(element);
            }
        }
        (_, Some(additional), Part::Bytes(entry)) => {
            let (mut key, mut content) = (String::new(), None);
            for part in Parts(entry) {
                match part? {
                    (1, Part::Bytes(text)) => key = lossy(text),
                    (2, part) => content = Some(map_value(additional, &part, name, depth)?),
                    _ => {}
                }
            }
            // An empty text is left out of the entry.
            let content = content.unwrap_or_else(|| "".into());
            if let Value::Object(map) = out.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())) {
                map.insert(key, content);
            }
        }
        (_, _, part) => {
            let value = value(declared, part, name, depth)?;
            let zero = matches!(&value, Value::Null | Value::Bool(false)) || value == "" || value == 0;
            let meant = field.zero_is_meant || owner.required.contains(name);
            if !value.is_null() && (!zero || meant) {
                out.insert(name.clone(), value);
            }
        }
    }
    Ok(())
}

/// Lists as values of a map are messages of one repeated field.
fn map_value(schema: &Schema, part: &Part<'_>, name: &str, depth: usize) -> Result<Value> {
    match (&schema.items, part) {
        (Some(items), Part::Bytes(bytes)) => {
            let elements = Parts(bytes).map(|part| value(items, &part?.1, name, depth + 1));
            elements.collect::<Result<Vec<Value>>>().map(Value::Array)
        }
        _ => value(schema, part, name, depth),
    }
}

fn value(schema: &Schema, part: &Part<'_>, name: &str, depth: usize) -> Result<Value> {
    let wrong = || WireError::Form(name.to_owned());
    Ok(match (schema.form, part) {
        (Form::String, Part::Bytes(bytes)) => match schema.format.as_deref() {
            Some("byte") => BASE64.encode(bytes).into(),
            Some("date-time" | "micro-time") => time(bytes, schema.format.as_deref() == Some("micro-time"))?,
            _ => std::str::from_utf8(bytes).map_err(|_| wrong())?.into(),
        },
        // Negative numbers are sent as their two's complement.
        (Form::Integer, Part::Number(number)) => number.cast_signed().into(),
        (Form::Boolean, Part::Number(number)) => (*number != 0).into(),
        (Form::Number, Part::Fixed(bits)) => f64::from_bits(*bits).into(),
        (Form::Quantity, Part::Bytes(bytes)) => first_text(bytes)?.into(),
        (Form::IntOrString, Part::Bytes(bytes)) => int_or_string(bytes)?,
        (Form::Object, Part::Bytes(bytes)) if !schema.wire.is_empty() => {
            let mut fields = Map::new();
            message(bytes, schema, &mut Vec::new(), &mut fields, depth + 1)?;
            Value::Object(fields)
        }
        (Form::Object | Form::Any, Part::Bytes(bytes)) if schema.preserve_unknown => {
            let raw = first_text(bytes)?;
            if raw.is_empty() { Value::Null } else { serde_json::from_str(&raw).map_err(|_| wrong())? }
        }
        (Form::Object, Part::Bytes(_)) => Value::Object(Map::new()),
        _ => return Err(wrong()),
    })
}

/// The text in the first field of a message.
fn first_text(bytes: &[u8]) -> Result<String> {
    for part in Parts(bytes) {
        if let (1, Part::Bytes(text)) = part? {
            return Ok(lossy(text));
        }
    }
    Ok(String::new())
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0_i64, String::new());
    for part in Parts(bytes) {
        match part? {
            (1, Part::Number(form)) => is_text = form == 1,
            (2, Part::Number(value)) => number = value.cast_signed(),
            (3, Part::Bytes(value)) => text = lossy(value),
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Seconds and nanoseconds; an empty message is no time.
fn time(bytes: &[u8], micro: bool) -> Result<Value> {
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i32);
    for part in Parts(bytes) {
        match part? {
            (1, Part::Number(value)) => seconds = value.cast_signed(),
            (2, Part::Number(value)) => nanoseconds = i32::try_from(value).unwrap_or(0),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let time = jiff::Timestamp::new(seconds, nanoseconds).map_err(|_| WireError::Form("a time".into()))?;
    let form = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(form).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::super::builtin::types;
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend(content);
        out
    }

    fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    fn read(bytes: &[u8]) -> Result<Value> {
        decode(bytes, |kind| types().get(format!("core.v1.{kind}").as_str()).cloned())
    }

    #[test]
    fn a_config_map_is_read() {
        let metadata = [field(1, b"c"), field(2, b""), field(8, b"")].concat();
        let entry = [field(1, b"k"), field(2, b"v")].concat();
        let body = envelope("ConfigMap", &[field(1, &metadata), field(2, &entry)].concat());
        assert_eq!(
            read(&body).unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}})
        );
    }

    #[test]
    fn embedded_messages_become_fields_of_their_owner() {
        let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
        let body = envelope("Pod", &field(2, &field(1, &volume)));
        assert_eq!(read(&body).unwrap()["spec"], json!({"volumes": [{"name": "v", "emptyDir": {}}]}));
    }

    #[rstest]
    #[case(b"{}".to_vec(), WireError::Magic)]
    #[case(envelope("Pod", &[0x0a, 0x7f]), WireError::Short)]
    #[case(envelope("Teapot", &[]), WireError::Kind("Teapot".into()))]
    #[case(envelope("Pod", &[0x08, 0x01]), WireError::Form("metadata".into()))]
    fn broken_bytes_are_refused(#[case] bytes: Vec<u8>, #[case] expected: WireError) {
        assert_eq!(read(&bytes).unwrap_err(), expected);
    }
}
