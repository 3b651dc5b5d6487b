//! Label selectors: the structured form in objects and the text form in query strings.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;

use crate::macros::object;

type Labels = BTreeMap<String, String>;

object! {
    /// Labels that must be there, and further requirements on them; the empty selector selects everything.
    #[derive(JsonSchema)]
    pub struct LabelSelector {
        match_labels: Labels,
        match_expressions: Vec<LabelSelectorRequirement>,
    }

    /// A requirement on one label: `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[derive(JsonSchema)]
    pub struct LabelSelectorRequirement {
        #[schemars(extend("x-required" = true))]
        key: String,
        #[schemars(extend("x-required" = true))]
        operator: String,
        values: Vec<String>,
    }
}

impl LabelSelector {
    /// Whether an object with these labels is selected; an unknown operator selects nothing.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

impl LabelSelectorRequirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// The text form that `?labelSelector=` and `kubectl -l` take: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One clause of a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

/// Text that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "label selector {selector:?}: cannot read {clause:?}; write key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
)]
pub struct SelectorError {
    /// The whole selector.
    pub selector: String,
    /// The part that cannot be read.
    pub clause: String,
}

impl Selector {
    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        clauses(text)
            .map(|clause| {
                requirement(clause.trim())
                    .ok_or_else(|| SelectorError { selector: text.to_owned(), clause: clause.trim().to_owned() })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl From<&LabelSelector> for Selector {
    fn from(selector: &LabelSelector) -> Self {
        let equal = selector
            .match_labels
            .iter()
            .map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In(vec![value.clone()]) });
        let further = selector.match_expressions.iter().map(|requirement| Requirement {
            key: requirement.key.clone(),
            operator: match requirement.operator.as_str() {
                "NotIn" => Operator::NotIn(requirement.values.clone()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                "In" => Operator::In(requirement.values.clone()),
                _ => Operator::In(Vec::new()),
            },
        });
        Self(equal.chain(further).collect())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, operator }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Operator::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Operator::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

/// Splits at the commas that are not inside parentheses; empty clauses are left out.
fn clauses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    text.split(move |character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    })
    .filter(|clause| !clause.trim().is_empty())
}

fn requirement(clause: &str) -> Option<Requirement> {
    let of = |key: &str, operator| {
        let key = key.trim();
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        (!key.is_empty() && key.chars().all(valid)).then(|| Requirement { key: key.to_owned(), operator })
    };
    if let Some(list) = clause.strip_suffix(')') {
        let (head, list) = list.split_once('(')?;
        let (key, word) = head.trim_end().rsplit_once(char::is_whitespace)?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        return match word {
            "in" => of(key, Operator::In(values)),
            "notin" => of(key, Operator::NotIn(values)),
            _ => None,
        };
    }
    if let Some(key) = clause.strip_prefix('!') {
        return of(key, Operator::DoesNotExist);
    }
    if let Some((key, value)) = clause.split_once("!=") {
        return of(key, Operator::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
        return of(key, Operator::In(vec![value.trim().to_owned()]));
    }
    of(clause, Operator::Exists)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn labels() -> Labels {
        [("app", "shop"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[rstest]
    #[case("", true)]
    #[case("app=shop", true)]
    #[case("app==shop,tier=front", true)]
    #[case("app=other", false)]
    #[case("app!=other", true)]
    #[case("missing!=other", true)]
    #[case("app in (shop, other),tier", true)]
    #[case("app notin (shop)", false)]
    #[case("!app", false)]
    #[case("!example.com/other", true)]
    fn text_selects(#[case] text: &str, #[case] selected: bool) {
        assert_eq!(text.parse::<Selector>().unwrap().matches(&labels()), selected);
    }

    #[rstest]
    #[case("app in shop)")]
    #[case("=shop")]
    #[case("app within (a)")]
    #[case("a b")]
    fn other_text_is_refused(#[case] text: &str) {
        assert!(text.parse::<Selector>().is_err());
    }

    #[rstest]
    #[case("In", &["shop"], true)]
    #[case("NotIn", &["shop"], false)]
    #[case("Exists", &[], true)]
    #[case("DoesNotExist", &[], false)]
    #[case("Near", &["shop"], false)]
    fn both_forms_agree(#[case] operator: &str, #[case] values: &[&str], #[case] selected: bool) {
        let requirement = LabelSelectorRequirement {
            key: "app".into(),
            operator: operator.into(),
            values: values.iter().map(ToString::to_string).collect(),
        };
        let selector = LabelSelector { match_expressions: vec![requirement], ..LabelSelector::default() };
        assert_eq!(selector.matches(&labels()), selected);
        assert_eq!(Selector::from(&selector).matches(&labels()), selected);
    }

    #[test]
    fn the_text_form_reads_back_what_it_shows() {
        let selector: Selector = "a=b,c in (d,e),f notin (g),h,!i".parse().unwrap();
        assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
    }
}
