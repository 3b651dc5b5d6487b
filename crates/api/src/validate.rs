//! What is wrong with a resource, in words for the one who wrote it.
//!
//! The checks that a schema cannot make: what fields mean together, and whether text is an address, a port or a name.
//! A resource with problems is still a resource: whoever enforces it must fail closed, not ignore it.

mod authorization_policy;
mod entry;
mod gateway;
mod peer_authentication;
pub mod rules;

use std::fmt;

pub use authorization_policy::authorization_policy;
pub use entry::{service_entry, workload_entry};
pub use gateway::gateway;
pub use peer_authentication::peer_authentication;

use serde_json::Value;

use crate::istio::{PolicyTargetReference, WorkloadSelector, text};
use crate::resource::{Resource, type_meta};
use crate::{AuthorizationPolicy, Gateway, PeerAuthentication, ServiceEntry, WorkloadEntry};

/// Something wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field: `spec.rules[0].from[1].source.ipBlocks[0]`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What is wrong with an object of any kind; nothing is known of a kind without checks. One that does not even have its
/// kind's shape has that one problem.
pub fn object(object: &Value) -> Vec<Problem> {
    checked(object).unwrap_or_else(|error| vec![error])
}

/// Like [`object`], for whoever has checked the shape in another way.
pub fn content(object: &Value) -> Vec<Problem> {
    checked(object).unwrap_or_default()
}

/// The problems of an object that has its kind's shape, else the one about its shape.
fn checked(object: &Value) -> Result<Vec<Problem>, Problem> {
    let Some(kind) = type_meta(object) else {
        let message = "apiVersion and kind must say what it is".to_owned();
        return Err(Problem { path: "kind".to_owned(), message });
    };
    match (kind.group.as_str(), kind.kind.as_str()) {
        (AuthorizationPolicy::GROUP, AuthorizationPolicy::KIND) => typed(object, authorization_policy),
        (PeerAuthentication::GROUP, PeerAuthentication::KIND) => typed(object, peer_authentication),
        (ServiceEntry::GROUP, ServiceEntry::KIND) => typed(object, service_entry),
        (WorkloadEntry::GROUP, WorkloadEntry::KIND) => typed(object, workload_entry),
        (Gateway::GROUP, Gateway::KIND) => typed(object, gateway),
        _ => Ok(Vec::new()),
    }
}

fn typed<T: Resource>(object: &Value, check: fn(&T) -> Vec<Problem>) -> Result<Vec<Problem>, Problem> {
    let object = T::from_value(object.clone());
    object.map(|object| check(&object)).map_err(|error| Problem { path: error.path, message: error.message })
}

/// The value that a problem's path leads to, as far as it leads anywhere: `spec.rules[0].from[1]`, `matchLabels[app]`.
pub fn value_at<'a>(object: &'a Value, path: &str) -> &'a Value {
    let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
    let next = |value: &'a Value, step: &str| match step.parse::<usize>() {
        Ok(index) if value.is_array() => value.get(index),
        _ => value.get(step),
    };
    let mut value = object;
    for step in steps {
        match next(value, step) {
            Some(found) => value = found,
            None => return &Value::Null,
        }
    }
    value
}

/// Collects problems.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Adds a problem unless the condition holds.
    fn check(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }

    /// Checks every value of a list.
    fn each(&mut self, path: &str, values: &[String], wrong: impl Fn(&str) -> Option<String>) {
        for (index, value) in values.iter().enumerate() {
            if let Some(message) = wrong(value) {
                self.add(format!("{path}[{index}]"), message);
            }
        }
    }
}

fn not_a_cidr(text: &str) -> Option<String> {
    text::range(text).err()
}

fn not_a_port(text: &str) -> Option<String> {
    text::port(text).err()
}

fn not_a_match(text: &str) -> Option<String> {
    text::string(text).err()
}

/// A DNS name; `wildcard` allows a first label of `*`.
fn not_a_hostname(text: &str, wildcard: bool) -> Option<String> {
    let name = if wildcard { text.strip_prefix("*.").unwrap_or(text) } else { text };
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = !name.is_empty() && name.len() <= 253 && name.trim_end_matches('.').split('.').all(label);
    (!valid).then(|| format!("{text:?} is not a DNS name"))
}

/// Labels that select workloads are plain: wildcards would match nothing.
fn check_selector(problems: &mut Problems, selector: Option<&WorkloadSelector>) {
    for (key, value) in selector.into_iter().flat_map(|selector| &selector.match_labels) {
        let path = format!("spec.selector.matchLabels[{key}]");
        problems.check(!key.is_empty(), &path, "a label must have a name");
        problems.check(!key.contains('*') && !value.contains('*'), &path, "wildcards are not supported");
        problems.check(value.len() <= 63, &path, "a label's value has at most 63 characters");
    }
}

/// A target is a service, a service entry, a gateway or a class, in the policy's own namespace.
fn check_target(problems: &mut Problems, path: &str, target: &PolicyTargetReference) {
    problems.check(!target.name.is_empty(), format!("{path}.name"), "must not be empty");
    problems.check(
        target.namespace.is_empty(),
        format!("{path}.namespace"),
        "a target is in the policy's own namespace",
    );
    let known = matches!(
        (target.group.as_str(), target.kind.as_str()),
        ("" | "core", "Service")
            | ("networking.istio.io", "ServiceEntry")
            | ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
    );
    problems.check(
        known,
        path,
        format!(
            "{}/{} cannot be a target; use a Service, a ServiceEntry of networking.istio.io, or a Gateway or GatewayClass of gateway.networking.k8s.io",
            target.group, target.kind
        ),
    );
}

#[cfg(test)]
fn told(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_object_can_be_asked_about() {
        let policy = |spec: Value| json!({"apiVersion": "security.istio.io/v1beta1", "kind": "AuthorizationPolicy", "metadata": {"name": "a"}, "spec": spec});
        assert_eq!(object(&policy(json!({"action": "DENY", "rules": [{}]}))), []);
        assert_eq!(told(&object(&policy(json!({"action": "MAYBE"})))), ["spec.action"]);
        assert_eq!(told(&object(&policy(json!({"action": "DENY"})))), ["spec.rules"]);
        assert_eq!(object(&json!({"apiVersion": "v1", "kind": "Pod"})), []);
        assert_eq!(told(&object(&json!({"spec": {}}))), ["kind"]);
    }

    #[test]
    fn a_path_leads_to_its_value() {
        let object = json!({"spec": {"rules": [{"from": ["x"]}], "selector": {"matchLabels": {"app": "*"}}}});
        assert_eq!(value_at(&object, "spec.rules[0].from[0]"), "x");
        assert_eq!(value_at(&object, "spec.selector.matchLabels[app]"), "*");
        assert_eq!(value_at(&object, "spec.rules[1].from"), &Value::Null);
    }
}
