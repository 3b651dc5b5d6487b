//! Manifests: YAML as Kubernetes' own programs read and write it.
//!
//! The only place that names the YAML library. Numbers with a leading zero are octal, `yes` and `on` are true,
//! merge keys merge, and a key that is written twice is an error. Sizes are bounded, wide enough for a generated fleet.

use serde::Serialize;
use serde_json::Value;

/// Largest input.
const MAX_BYTES: usize = 64 << 20;
/// Most documents in one input.
const MAX_DOCUMENTS: usize = 100_000;
/// Most nodes in one input; what its parser does is bounded by it.
const MAX_NODES: usize = 20_000_000;

/// Most nodes that aliases may stand for.
const MAX_ALIASED: usize = 100_000;

/// Text that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Problem {
    /// Line, from 1; 0 when it concerns the whole.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong there.
    pub message: String,
}

/// Reads every document of a stream; empty ones are left out.
pub fn read_documents(bytes: &[u8]) -> Result<Vec<Value>, Problem> {
    let whole = |message: String| Problem { line: 0, column: 0, message };
    if bytes.len() > MAX_BYTES {
        return Err(whole(format!("{} bytes are more than the {MAX_BYTES} that are read at once", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| whole(format!("not UTF-8: {error}")))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |location| (location.line(), location.column()));
        let message = error.without_snippet().to_string();
        // The place is said once, by ourselves.
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message).to_owned();
        Problem { line, column, message }
    })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Reads one document; an empty text is `null`.
pub fn read_value(text: &str) -> Result<Value, Problem> {
    let mut documents = read_documents(text.as_bytes())?;
    match documents.len() {
        0 => Ok(Value::Null),
        1 => Ok(documents.remove(0)),
        more => Err(Problem { line: 0, column: 0, message: format!("one document was expected, there are {more}") }),
    }
}

/// Writes a document.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, Problem> {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    serde_saphyr::to_string_with_options(value, options).map_err(|error| Problem {
        line: 0,
        column: 0,
        message: error.to_string(),
    })
}

/// Writes documents with separators between them.
pub fn to_documents<T: Serialize>(values: &[T]) -> Result<String, Problem> {
    let documents: Vec<_> = values.iter().map(to_string).collect::<Result<_, _>>()?;
    Ok(documents.join("---\n"))
}

fn options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
        },
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = MAX_ALIASED;
    options
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("a: yes", json!({"a": true}))]
    #[case("a: off", json!({"a": false}))]
    #[case("a: 'yes'", json!({"a": "yes"}))]
    #[case("mode: 0644", json!({"mode": 420}))]
    #[case("a: 1.10", json!({"a": 1.1}))]
    #[case("a: \"1.10\"", json!({"a": "1.10"}))]
    #[case("a: ~\nb:", json!({"a": null, "b": null}))]
    #[case("x: &x {a: 1}\ny: {<<: *x, b: 2}", json!({"x": {"a": 1}, "y": {"a": 1, "b": 2}}))]
    #[case("{\"a\": [1, \"2\"]}", json!({"a": [1, "2"]}))]
    #[case("1: one", json!({"1": "one"}))]
    #[case("a: |\n  one\n  two\n", json!({"a": "one\ntwo\n"}))]
    fn yaml_is_read_as_kubernetes_reads_it(#[case] text: &str, #[case] value: Value) {
        assert_eq!(read_value(text).unwrap(), value);
    }

    #[test]
    fn empty_documents_are_left_out() {
        let documents = read_documents(b"---\n# nothing\n---\na: 1\n---\n---\nb: 2\n").unwrap();
        assert_eq!(documents, [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(read_value("").unwrap(), Value::Null);
    }

    #[rstest]
    #[case("a: 1\nb: {c\n", 2)]
    #[case("a: 1\nb: 2\na: 3\n", 3)]
    #[case("a: *unknown\n", 1)]
    fn a_problem_has_a_line(#[case] text: &str, #[case] line: u64) {
        let problem = read_value(text).unwrap_err();
        assert_eq!(problem.line, line, "{problem}");
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({
            "kind": "ConfigMap", "data": {"a": "yes", "b": "1.10", "c": "0644", "d": "one\ntwo\n", "e": "", "f": "a: b"},
            "list": [{"x": 1, "y": []}, "z"], "empty": {}, "none": null,
        });
        let text = to_string(&value).unwrap();
        assert_eq!(read_value(&text).unwrap(), value, "{text}");
        let text = to_documents(&[value.clone(), value]).unwrap();
        assert_eq!(read_documents(text.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn twenty_thousand_objects_are_read() {
        let text = "---\nkind: Service\nmetadata: {name: a}\n".repeat(20_000);
        assert_eq!(read_documents(text.as_bytes()).unwrap().len(), 20_000);
    }

    #[test]
    fn a_document_that_grows_by_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(read_value(&text).is_err());
    }
}
