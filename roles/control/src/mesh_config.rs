//! The mesh's settings as users write them: `MeshConfig`, in ConfigMap `istio` or a file (control-plane A20).
//!
//! Each field is read by itself: one that has the wrong shape is named and keeps its default, one that nobody knows is named,
//! and the rest holds. [`fields::FIELDS`] says of every field what it does here.

pub mod fields;
mod follow;

pub use follow::{Origin, follow};

use api::LabelSelector;
use fields::{Effect, FIELDS, Field};
use serde_json::{Map, Value};

/// Settings, defaults included.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshConfig {
    effective: Map<String, Value>,
    said: Map<String, Value>,
    selectors: Vec<LabelSelector>,
    /// What cannot be used, each with its field; what has no effect here.
    pub warnings: Vec<String>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self::new(Map::new())
    }
}

impl MeshConfig {
    /// Settings from YAML; an error only if it is no YAML or no mapping.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(mapping(text)?))
    }

    /// Settings of one text over those of another: a field of the upper text goes before the same field below.
    pub fn layered(lower: &str, upper: &str) -> Result<Self, String> {
        let mut said = mapping(lower)?;
        merge(&mut said, mapping(upper)?);
        Ok(Self::new(said))
    }

    fn new(given: Map<String, Value>) -> Self {
        let mut warnings = Vec::new();
        let mut said = Map::new();
        for (name, value) in given {
            match FIELDS.iter().find(|field| field.name == name) {
                None => warnings.push(format!("field {name:?} is not known and has no effect")),
                Some(field) => match check(field, &value) {
                    Ok(()) => {
                        said.insert(name, value);
                    }
                    Err(problem) => warnings.push(problem),
                },
            }
        }
        for field in FIELDS {
            if let Effect::None(why) = field.effect
                && said.get(field.name).is_some_and(|value| Some(value) != field.default().as_ref())
            {
                warnings.push(format!("field {:?} has no effect here: {why}", field.name));
            }
        }
        let selectors = selectors(&said, &mut warnings);
        let defaults = FIELDS.iter().filter_map(|field| Some((field.name.to_owned(), field.default()?)));
        let mut effective: Map<String, Value> = defaults.collect();
        merge(&mut effective, said.clone());
        Self { effective, said, selectors, warnings }
    }

    /// A field, its default included.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.effective.get(name)
    }

    /// A text that somebody has set.
    pub fn said(&self, name: &str) -> Option<&str> {
        self.said.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Which namespaces are seen; all without any.
    pub fn discovery_selectors(&self) -> &[LabelSelector] {
        &self.selectors
    }

    /// Everything, as JSON.
    pub fn to_value(&self) -> Value {
        Value::Object(self.effective.clone())
    }
}

fn mapping(text: &str) -> Result<Map<String, Value>, String> {
    match api::yaml::read_value(text).map_err(|problem| problem.to_string())? {
        Value::Object(members) => Ok(members),
        Value::Null => Ok(Map::new()),
        other => Err(format!("a mapping of fields was expected, not {}", kind_of(&other))),
    }
}

/// Members of mappings one by one, everything else as a whole.
fn merge(lower: &mut Map<String, Value>, upper: Map<String, Value>) {
    for (name, value) in upper {
        match (lower.get_mut(&name), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => {
                lower.insert(name, value);
            }
        }
    }
}

fn check(field: &Field, value: &Value) -> Result<(), String> {
    if field.shape.fits(value) {
        return Ok(());
    }
    let (name, expected, given) = (field.name, field.shape.name(), kind_of(value));
    Err(format!("field {name:?} must be {expected}, not {given}; its default holds"))
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// A selector that cannot be read selects nothing, so that a mistake does not show what was to be hidden.
fn selectors(said: &Map<String, Value>, warnings: &mut Vec<String>) -> Vec<LabelSelector> {
    let list = said.get("discoverySelectors").and_then(Value::as_array);
    let mut read = |(place, value): (usize, &Value)| {
        serde_json::from_value(value.clone()).unwrap_or_else(|error| {
            warnings.push(format!("discoverySelectors[{place}] selects nothing: {error}"));
            nothing()
        })
    };
    list.into_iter().flatten().enumerate().map(&mut read).collect()
}

fn nothing() -> LabelSelector {
    let never = api::LabelSelectorRequirement { operator: "none".to_owned(), ..Default::default() };
    LabelSelector { match_expressions: vec![never], ..LabelSelector::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        let mesh = MeshConfig::default();
        assert_eq!(mesh.get("rootNamespace"), Some(&json!("istio-system")));
        assert_eq!(mesh.get("connectTimeout"), Some(&json!("10s")));
        assert_eq!((mesh.said("rootNamespace"), mesh.warnings.len()), (None, 0));
        // What an installation writes by itself draws no warning.
        let chart = "defaultConfig: {discoveryAddress: 'istiod.istio-system.svc:15012'}\ndefaultProviders: {metrics: [prometheus]}\n\
                     enablePrometheusMerge: true\nrootNamespace: istio-system\ntrustDomain: cluster.local\n";
        assert_eq!(MeshConfig::parse(chart).unwrap().warnings, [""; 0]);
    }

    #[rstest]
    #[case::unknown("acessLogFile: /dev/stdout", "field \"acessLogFile\" is not known and has no effect")]
    #[case::shape("rootNamespace: [a]", "field \"rootNamespace\" must be a text, not a list; its default holds")]
    #[case::flag("enableTracing: 3", "field \"enableTracing\" must be true or false, not 3; its default holds")]
    #[case::no_effect("proxyListenPort: 15002", "field \"proxyListenPort\" has no effect here: ")]
    fn what_cannot_be_used_is_named(#[case] text: &str, #[case] expected: &str) {
        let mesh = MeshConfig::parse(&format!("{text}\naccessLogFile: /dev/stdout")).unwrap();
        assert!(mesh.warnings.iter().any(|warning| warning.starts_with(expected)), "{:?}", mesh.warnings);
        assert_eq!(mesh.said("accessLogFile"), Some("/dev/stdout"), "the rest holds");
    }

    #[test]
    fn the_upper_layer_wins_member_by_member() {
        let mesh = MeshConfig::layered(
            "defaultConfig: {tracing: {sampling: 1}, drainDuration: 3s}\ningressClass: a",
            "defaultConfig: {tracing: {sampling: 5}}",
        );
        let mesh = mesh.unwrap();
        let defaults = mesh.get("defaultConfig").unwrap();
        assert_eq!((&defaults["tracing"]["sampling"], &defaults["drainDuration"]), (&json!(5), &json!("3s")));
        assert_eq!(mesh.said("ingressClass"), Some("a"));
        assert!(MeshConfig::layered("- a list", "").is_err());
    }

    #[test]
    fn a_selector_that_cannot_be_read_selects_nothing() {
        let mesh = MeshConfig::parse("discoverySelectors: [{matchLabels: {a: b}}, {matchLabels: 3}]").unwrap();
        let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let [good, bad] = mesh.discovery_selectors() else { panic!("two were given") };
        assert!(good.matches(&labels("a", "b")) && !bad.matches(&labels("a", "b")));
        assert_eq!(mesh.warnings.len(), 1);
    }
}
