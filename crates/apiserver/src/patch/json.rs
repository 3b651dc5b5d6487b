//! JSON patch (RFC 6902).

use crate::object::Object;
use crate::status::{Result, Status};
use serde_json::Value;

/// More operations than this are refused.
const MOST_OPERATIONS: usize = 10_000;

/// Applies all operations or none.
pub(super) fn apply(document: &Value, patch: &Value) -> Result<Value> {
    let Some(operations) = patch.as_array() else {
        return Err(Status::bad_request("json: cannot unmarshal the patch into a list of operations"));
    };
    if operations.len() > MOST_OPERATIONS {
        return Err(Status::too_large(MOST_OPERATIONS));
    }
    let mut value = document.clone();
    for operation in operations {
        step(&mut value, operation).map_err(|problem| {
            Status::new(
                422,
                "Invalid",
                format!("the server rejected our request due to an error in our request: {problem}"),
            )
        })?;
    }
    Ok(value)
}

fn step(document: &mut Value, operation: &Value) -> std::result::Result<(), String> {
    let path = operation.get("path").and_then(Value::as_str).ok_or("an operation has no path")?;
    let value = || operation.get("value").cloned().ok_or_else(|| format!("the operation on {path} has no value"));
    match operation.text("/op") {
        "add" => add(document, path, value()?),
        "remove" => remove(document, path).map(drop),
        "replace" => {
            let value = value()?;
            *document.pointer_mut(path).ok_or_else(|| missing("replace", path))? = value;
            Ok(())
        }
        "move" => {
            let from = operation.text("/from");
            if path.starts_with(&format!("{from}/")) {
                return Err(format!("{from} cannot be moved into itself"));
            }
            let moved = remove(document, from)?;
            add(document, path, moved)
        }
        "copy" => {
            let from = operation.text("/from");
            let copied = document.pointer(from).cloned().ok_or_else(|| missing("copy", from))?;
            add(document, path, copied)
        }
        "test" => match document.pointer(path) {
            Some(found) if *found == value()? => Ok(()),
            None if value()?.is_null() => Ok(()),
            _ => Err(format!("testing value {path} failed: test failed")),
        },
        other => Err(format!("unexpected kind of operation: {other:?}")),
    }
}

fn missing(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: {path}: missing value")
}

/// The parent of a path and its last part, unescaped.
fn parent<'a>(document: &'a mut Value, path: &str) -> std::result::Result<(&'a mut Value, String), String> {
    let (above, last) = path.rsplit_once('/').ok_or_else(|| format!("{path:?} does not start with a slash"))?;
    let holder = document.pointer_mut(above).ok_or_else(|| missing("add", path))?;
    Ok((holder, last.replace("~1", "/").replace("~0", "~")))
}

fn add(document: &mut Value, path: &str, value: Value) -> std::result::Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    match parent(document, path)? {
        (Value::Object(fields), name) => {
            fields.insert(name, value);
        }
        (Value::Array(elements), index) => {
            let at = if index == "-" { elements.len() } else { position(&index, path)? };
            if at > elements.len() {
                return Err(format!("add operation does not apply: {path} lies after the end of the list"));
            }
            elements.insert(at, value);
        }
        _ => return Err(missing("add", path)),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> std::result::Result<Value, String> {
    let removed = match parent(document, path)? {
        (Value::Object(fields), name) => fields.shift_remove(&name),
        (Value::Array(elements), index) => {
            let at = position(&index, path)?;
            (at < elements.len()).then(|| elements.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing("remove", path))
}

fn position(index: &str, path: &str) -> std::result::Result<usize, String> {
    let plain = index.bytes().all(|byte| byte.is_ascii_digit()) && (index.len() == 1 || !index.starts_with('0'));
    index.parse().ok().filter(|_| plain).ok_or_else(|| format!("{path} does not name a place in a list"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"a": 1}), json!([{"op": "add", "path": "/b", "value": 2}]), json!({"a": 1, "b": 2}))]
    #[case(json!({"a": [1, 2]}), json!([{"op": "add", "path": "/a/1", "value": 9}]), json!({"a": [1, 9, 2]}))]
    #[case(json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), json!({"a": [1, 2]}))]
    #[case(json!({"a": 1, "b": 2}), json!([{"op": "remove", "path": "/a"}]), json!({"b": 2}))]
    #[case(json!({"a": {"x/y": 1}}), json!([{"op": "replace", "path": "/a/x~1y", "value": 2}]), json!({"a": {"x/y": 2}}))]
    #[case(json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), json!({"b": 1}))]
    #[case(json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), json!({"a": 1, "b": 1}))]
    #[case(json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 1}]), json!({"a": 1}))]
    fn operations_apply(#[case] document: Value, #[case] patch: Value, #[case] expected: Value) {
        assert_eq!(apply(&document, &patch).unwrap(), expected);
    }

    #[rstest]
    #[case(json!([{"op": "remove", "path": "/x"}]))]
    #[case(json!([{"op": "test", "path": "/a", "value": 2}]))]
    #[case(json!([{"op": "add", "path": "/l/7", "value": 2}]))]
    #[case(json!([{"op": "add", "path": "/l/01", "value": 2}]))]
    #[case(json!([{"op": "move", "from": "/a", "path": "/a/b"}]))]
    #[case(json!([{"op": "frob", "path": "/a"}]))]
    #[case(json!([{"op": "add"}]))]
    #[case(json!({"op": "add"}))]
    fn what_does_not_apply_is_refused(#[case] patch: Value) {
        assert!(apply(&json!({"a": 1, "l": [1]}), &patch).is_err());
    }
}
