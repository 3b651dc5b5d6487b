//! What is wrong with a resource, in words for the one who wrote it.
//!
//! The checks that a schema cannot make: what fields mean together, and whether text is an address, a port or a name.
//! A resource with problems is still a resource: whoever enforces it must fail closed, not ignore it.

mod authorization_policy;
mod entry;
mod peer_authentication;

use std::fmt;

pub use authorization_policy::authorization_policy;
pub use entry::{service_entry, workload_entry};
pub use peer_authentication::peer_authentication;

use crate::istio::{PolicyTargetReference, WorkloadSelector, text};

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
