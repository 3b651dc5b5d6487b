//! Tables: what `kubectl get` prints, made on the server.

mod columns;
mod jsonpath;
mod workloads;

pub(crate) use jsonpath::Path;

use crate::catalog::Kind;
use crate::object::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

/// One column: its title, its type, and whether only `-o wide` shows it.
#[derive(Clone, Copy, Debug)]
struct Heading {
    title: &'static str,
    form: &'static str,
    wide: bool,
}

const fn text(title: &'static str) -> Heading {
    Heading { title, form: "string", wide: false }
}

const fn wide(title: &'static str) -> Heading {
    Heading { title, form: "string", wide: true }
}

const fn number(title: &'static str) -> Heading {
    Heading { title, form: "integer", wide: false }
}

/// The table of a built-in kind: its columns after the name, and how an object fills them.
#[derive(Clone, Copy)]
struct Shape {
    headings: &'static [Heading],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// Events show their name last.
    name_first: bool,
}

/// The columns of a kind.
pub(crate) fn definitions(kind: &Kind) -> Value {
    let named = |title: &str, form: &str, format: &str, description: &str, priority: i64| json!({"name": title, "type": form, "format": format, "description": description, "priority": priority});
    let mut columns = Vec::new();
    let shape = columns::shape(kind);
    if shape.name_first {
        columns.push(named("Name", "string", "name", "Name must be unique within a namespace.", 0));
    }
    if kind.is_custom() && !kind.version().columns.is_empty() {
        for column in &kind.version().columns {
            columns.push(named(&column.name, &column.form, &column.format, &column.description, column.priority));
        }
    } else {
        for heading in shape.headings {
            columns.push(named(heading.title, heading.form, "", "", i64::from(heading.wide)));
        }
    }
    columns.into()
}

/// One row: the cells of an object, and as much of the object as was asked for.
pub(crate) fn row(object: &Value, kind: &Kind, include: &str, now: Timestamp) -> Value {
    let mut cells = Vec::new();
    let shape = columns::shape(kind);
    if shape.name_first {
        cells.push(object.name().into());
    }
    if kind.is_custom() && !kind.version().columns.is_empty() {
        cells.extend(kind.version().columns.iter().map(|column| {
            let found = Path::parse(&column.path).ok().and_then(|path| path.find(object).first().copied().cloned());
            custom_cell(found, &column.form, now)
        }));
    } else {
        cells.extend((shape.cells)(object, now));
    }
    let object = match include {
        "Object" => object.clone(),
        "None" => Value::Null,
        _ => metadata_only(object),
    };
    json!({"cells": cells, "object": object})
}

fn custom_cell(found: Option<Value>, form: &str, now: Timestamp) -> Value {
    match (found, form) {
        (None | Some(Value::Null), _) => Value::Null,
        (Some(Value::String(time)), "date") => since(&time, now).into(),
        (Some(value @ (Value::Object(_) | Value::Array(_))), _) => value.to_string().into(),
        (Some(value @ (Value::Number(_) | Value::Bool(_))), "string") => value.to_string().into(),
        (Some(value), _) => value,
    }
}

/// The metadata of an object, as a kind of its own.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].clone()})
}

/// How long ago a time was, as kubectl writes it.
fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => duration(now.as_second() - time.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(object.text("/metadata/creationTimestamp"), now).into()
}

/// Seconds in the one or two units that matter.
fn duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".into(),
        -1..=0 => "0s".into(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    let words: Vec<&str> = words.into_iter().collect();
    if words.is_empty() { "<none>".into() } else { words.join(",").into() }
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn count(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or_else(|| 0.into())
}

fn size(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use rstest::rstest;

    #[rstest]
    #[case(5, "5s")]
    #[case(119, "119s")]
    #[case(120, "2m")]
    #[case(185, "3m5s")]
    #[case(3600, "60m")]
    #[case(11_000, "3h3m")]
    #[case(100_000, "27h")]
    #[case(200_000, "2d7h")]
    #[case(-5, "<invalid>")]
    fn ages_read_as_in_kubectl(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(duration(seconds), expected);
    }

    #[test]
    fn every_kind_fills_as_many_cells_as_it_has_columns() {
        let catalog = Catalog::built_in();
        for resource in catalog.resources() {
            let kind = catalog.preferred(&resource.group, &resource.plural).unwrap();
            let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}});
            let row = row(&object, &kind, "None", Timestamp::now());
            assert_eq!(size(&row, "/cells"), definitions(&kind).as_array().unwrap().len(), "{}", resource.plural);
        }
    }
}
