//! The part of JSONPath that printer columns use: `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.a=="b")]`.

use serde_json::Value;

/// Longer paths are refused.
const LONGEST: usize = 1024;

/// A path into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    Every,
    Where { path: Vec<Self>, wanted: Value },
}

impl Path {
    /// Reads a path.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err("the path is too long".into());
        }
        let text = text.strip_prefix('$').unwrap_or(text);
        steps(text, 0).map(Self)
    }

    /// The values it leads to.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        walk(value, &self.0)
    }

    /// The path as a JSON pointer, when it names one field.
    pub(crate) fn pointer(&self) -> Option<String> {
        self.0.iter().try_fold(String::new(), |pointer, step| match step {
            Step::Field(name) => Some(format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))),
            _ => None,
        })
    }
}

fn walk<'a>(value: &'a Value, steps: &[Step]) -> Vec<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return vec![value] };
    let next: Vec<&Value> = match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => value.get(index).into_iter().collect(),
        Step::Every => match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        Step::Where { path, wanted } => value
            .as_array()
            .into_iter()
            .flatten()
            .filter(|element| walk(element, path).first().is_some_and(|found| *found == wanted))
            .collect(),
    };
    next.into_iter().flat_map(|value| walk(value, rest)).collect()
}

fn steps(mut text: &str, depth: usize) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix('[') {
            let (inner, after) = bracket(rest)?;
            steps.push(bracketed(inner, depth)?);
            text = after;
        } else if let Some(rest) = text.strip_prefix('.') {
            let end = name_end(rest);
            if end > 0 {
                let name = rest[..end].replace("\\.", ".");
                steps.push(if name == "*" { Step::Every } else { Step::Field(name) });
            }
            text = &rest[end..];
        } else {
            return Err(format!("`{text}` does not start with `.` or `[`"));
        }
    }
    Ok(steps)
}

fn name_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '.' | '[' => return at,
            _ => {}
        }
    }
    text.len()
}

/// The inside of a bracket and what follows it; brackets inside quotes do not count.
fn bracket(text: &str) -> Result<(&str, &str), String> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, ']') => return Ok((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    Err("a bracket is not closed".into())
}

fn bracketed(inner: &str, depth: usize) -> Result<Step, String> {
    let inner = inner.trim();
    if inner == "*" {
        return Ok(Step::Every);
    }
    if let Ok(index) = inner.parse() {
        return Ok(Step::Index(index));
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (path, wanted) =
            condition.split_once("==").ok_or_else(|| format!("`{condition}` has no `==`: no other test is known"))?;
        let path = path.trim().strip_prefix('@').ok_or_else(|| format!("`{path}` does not start with `@`"))?;
        if depth > 2 {
            return Err("conditions are nested too deep".into());
        }
        let wanted = wanted.trim();
        let wanted = match unquote(wanted) {
            Some(text) => text.into(),
            None => serde_json::from_str(wanted).map_err(|_| format!("`{wanted}` is not a value"))?,
        };
        return Ok(Step::Where { path: steps(path, depth + 1)?, wanted });
    }
    unquote(inner).map(|name| Step::Field(name.to_owned())).ok_or_else(|| format!("`[{inner}]` is not understood"))
}

fn unquote(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(".spec.hosts", vec![json!(["a", "b"])])]
    #[case(".spec.hosts[1]", vec![json!("b")])]
    #[case(".spec.hosts[*]", vec![json!("a"), json!("b")])]
    #[case(".status.conditions[?(@.type==\"Ready\")].status", vec![json!("True")])]
    #[case(".metadata.labels['a.b/c']", vec![json!("x")])]
    #[case(".metadata.labels.a\\.b/c", vec![json!("x")])]
    #[case(".nothing.here", vec![])]
    fn paths_lead_to_values(#[case] path: &str, #[case] expected: Vec<Value>) {
        let object = json!({"metadata": {"labels": {"a.b/c": "x"}}, "spec": {"hosts": ["a", "b"]},
            "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        let found: Vec<Value> = Path::parse(path).unwrap().find(&object).into_iter().cloned().collect();
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case("spec")]
    #[case(".a[")]
    #[case(".a[?(@.b>3)]")]
    #[case(".a[b]")]
    fn nonsense_is_refused(#[case] path: &str) {
        assert!(Path::parse(path).is_err());
    }
}
