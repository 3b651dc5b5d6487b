//! Label and field selectors.

use crate::catalog::Kind;
use crate::object::Object;
use crate::status::{Result, Status};
use serde_json::Value;

/// Longer selectors are refused.
const LONGEST: usize = 16 * 1024;

/// What an object must be like to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

/// One part of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl Requirement {
    fn matches(&self, object: &Value) -> bool {
        let value = object.pointer("/metadata/labels").and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.rule {
            Rule::Exists => value.is_some(),
            Rule::Absent => value.is_none(),
            Rule::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Rule::NotIn(values) => value.is_none_or(|value| values.iter().all(|wanted| wanted != value)),
            Rule::Above(bound) => number().is_some_and(|number| number > *bound),
            Rule::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl Selector {
    /// Reads both selectors of a request about a kind.
    pub(crate) fn parse(labels: &str, fields: &str, kind: &Kind) -> Result<Self> {
        let labels = parse_labels(labels).map_err(|problem| {
            Status::bad_request(format!("unable to parse requirement: {problem}, in the label selector \"{labels}\""))
        })?;
        let fields = parse_fields(fields)
            .map_err(|problem| Status::bad_request(format!("invalid field selector \"{fields}\": {problem}")))?;
        for (field, _, _) in &fields {
            if !selectable(kind, field) {
                return Err(Status::bad_request(format!("field label not supported: {field}")));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Only the object of this name.
    pub(crate) fn and_name(mut self, name: &str) -> Self {
        self.fields.push(("metadata.name".into(), true, name.to_owned()));
        self
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|requirement| requirement.matches(object))
            && self.fields.iter().all(|(field, equal, wanted)| (field_text(object, field) == *wanted) == *equal)
    }
}

fn field_text(object: &Value, field: &str) -> String {
    let path = match field {
        "source" => "/source/component".to_owned(),
        field => format!("/{}", field.replace('.', "/")),
    };
    match object.pointer(&path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None if matches!(field, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn selectable(kind: &Kind, field: &str) -> bool {
    let more: &[&str] = match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        _ if kind.is_custom() => &[],
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        (_, "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("apps", "replicasets") => &["status.replicas"],
        _ => &[],
    };
    matches!(field, "metadata.name" | "metadata.namespace") || more.contains(&field)
}

/// Reads `a=b,c!=d`, with `\` before a comma, an equals sign or a backslash that is meant as itself.
fn parse_fields(text: &str) -> std::result::Result<Vec<(String, bool, String)>, String> {
    if text.len() > LONGEST {
        return Err("it is too long".into());
    }
    split_unescaped(text)
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, equal, value) = if let Some((key, value)) = part.split_once("!=") {
                (key, false, value)
            } else if let Some((key, value)) = part.split_once("==") {
                (key, true, value)
            } else if let Some((key, value)) = part.split_once('=') {
                (key, true, value)
            } else {
                return Err(format!("can't understand '{part}'"));
            };
            Ok((key.trim().to_owned(), equal, unescape(value)))
        })
        .collect()
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        out.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    out
}

/// Reads `a=b,c in (d,e),!f`.
fn parse_labels(text: &str) -> std::result::Result<Vec<Requirement>, String> {
    if text.len() > LONGEST {
        return Err("it is too long".into());
    }
    let mut requirements = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (requirement, after) = requirement(rest)?;
        requirements.push(requirement);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => {
                rest = after.trim_start();
                if rest.is_empty() {
                    return Err("found end of text, expected a label key".into());
                }
            }
            None if rest.is_empty() => {}
            None => return Err(format!("found '{rest}', expected ',' or the end")),
        }
    }
    Ok(requirements)
}

fn requirement(text: &str) -> std::result::Result<(Requirement, &str), String> {
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = word(rest.trim_start());
        return Ok((Requirement { key: label_key(key)?, rule: Rule::Absent }, rest));
    }
    let (key, rest) = word(text);
    let key = label_key(key)?;
    let rest = rest.trim_start();
    for (operator, negative) in [("!=", true), ("==", false), ("=", false)] {
        if let Some(rest) = rest.strip_prefix(operator) {
            let (value, rest) = word(rest.trim_start());
            let values = vec![value.to_owned()];
            return Ok((
                Requirement { key, rule: if negative { Rule::NotIn(values) } else { Rule::In(values) } },
                rest,
            ));
        }
    }
    for (operator, above) in [(">", true), ("<", false)] {
        if let Some(rest) = rest.strip_prefix(operator) {
            let (value, rest) = word(rest.trim_start());
            let bound = value.parse().map_err(|_| format!("'{value}' is not a number"))?;
            return Ok((Requirement { key, rule: if above { Rule::Above(bound) } else { Rule::Below(bound) } }, rest));
        }
    }
    let (operator, after) = word(rest);
    if !matches!(operator, "in" | "notin") {
        return match operator {
            "" => Ok((Requirement { key, rule: Rule::Exists }, rest)),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
    }
    let inner = after.trim_start().strip_prefix('(').ok_or_else(|| format!("found '{after}', expected: '('"))?;
    let (list, rest) = inner.split_once(')').ok_or_else(|| "found end of text, expected: ')'".to_owned())?;
    let values = list.split(',').map(|value| value.trim().to_owned()).collect();
    Ok((Requirement { key, rule: if operator == "in" { Rule::In(values) } else { Rule::NotIn(values) } }, rest))
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || "=!<>,()".contains(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn label_key(text: &str) -> std::result::Result<String, String> {
    let name = text.rsplit('/').next().unwrap_or_default();
    let fits =
        !name.is_empty() && name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if fits { Ok(text.to_owned()) } else { Err(format!("'{text}' is not a label key")) }
}

/// Whether labels satisfy a `LabelSelector` object; an absent selector matches nothing.
pub(crate) fn label_selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return String::new() };
    let mut parts: Vec<String> = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .map(|labels| {
            labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect()
        })
        .unwrap_or_default();
    for expression in selector.list("/matchExpressions") {
        let key = expression.text("/key");
        let values: Vec<&str> = expression.list("/values").iter().filter_map(Value::as_str).collect();
        parts.push(match expression.text("/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use rstest::rstest;
    use serde_json::json;

    fn pods() -> Kind {
        Catalog::built_in().find("", "v1", "pods").unwrap()
    }

    #[rstest]
    #[case("app=a", true)]
    #[case("app==a,tier!=x", true)]
    #[case("app in (a, b),tier notin (x)", true)]
    #[case("app,!tier", true)]
    #[case("app notin (a)", false)]
    #[case("istio.io/dataplane-mode=ambient", true)]
    #[case("count>2,count<4", true)]
    #[case("missing=", false)]
    #[case("", true)]
    fn labels_select(#[case] text: &str, #[case] expected: bool) {
        let object = json!({"metadata": {"labels": {"app": "a", "istio.io/dataplane-mode": "ambient", "count": "3"}}});
        assert_eq!(Selector::parse(text, "", &pods()).unwrap().matches(&object), expected);
    }

    #[rstest]
    #[case("status.phase=Running", true)]
    #[case("spec.nodeName!=n1,metadata.name=a", false)]
    #[case("metadata.name=a,metadata.namespace==b", true)]
    fn fields_select(#[case] text: &str, #[case] expected: bool) {
        let object = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        assert_eq!(Selector::parse("", text, &pods()).unwrap().matches(&object), expected);
    }

    #[rstest]
    #[case("a in b", "")]
    #[case("a=b,", "")]
    #[case("=b", "")]
    #[case("a b", "")]
    #[case("", "spec.colour=red")]
    #[case("", "nonsense")]
    fn nonsense_is_refused(#[case] labels: &str, #[case] fields: &str) {
        assert_eq!(Selector::parse(labels, fields, &pods()).unwrap_err().code(), 400);
    }
}
