//! What the API answers when it cannot do what was asked: Kubernetes' `Status` object, in Kubernetes' words.

use serde_json::{Map, Value, json};
use std::fmt;

/// The outcome of a step that may be refused.
pub(crate) type Result<T> = std::result::Result<T, Status>;

/// One reason among several why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) field: String,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Cause {
    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { field: field.into(), reason: "FieldValueRequired", message }
    }

    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: impl fmt::Display) -> Self {
        let message = format!("Invalid value: {}: {detail}", shown(value));
        Self { field: field.into(), reason: "FieldValueInvalid", message }
    }

    pub(crate) fn unsupported(field: impl Into<String>, value: &Value, supported: &[Value]) -> Self {
        let list: Vec<String> = supported.iter().map(Value::to_string).collect();
        let message = format!("Unsupported value: {}: supported values: {}", shown(value), list.join(", "));
        Self { field: field.into(), reason: "FieldValueNotSupported", message }
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            field: field.into(),
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {}", shown(value)),
        }
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { field: field.into(), reason: "FieldValueForbidden", message: format!("Forbidden: {detail}") }
    }

    pub(crate) fn too_long(field: impl Into<String>, limit: u64) -> Self {
        let message = format!("Too long: may not be more than {limit} bytes");
        Self { field: field.into(), reason: "FieldValueTooLong", message }
    }

    fn json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            formatter.write_str(&self.message)
        } else {
            write!(formatter, "{}: {}", self.field, self.message)
        }
    }
}

/// A value as Kubernetes shows it inside a message: short, and text always quoted.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "\"null\"".to_owned(),
        Value::Object(_) => "\"object\"".to_owned(),
        Value::Array(_) => "\"array\"".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(256) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status(Box<Refusal>);

#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
}

/// A resource with its group, as messages name it: `deployments.apps`.
pub(crate) fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl Status {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Refusal { code, reason, message: message.into(), details: Map::new() }))
    }

    pub(crate) fn code(&self) -> u16 {
        self.0.code
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                self.0.details.insert(key.into(), value.into());
            }
        }
        self
    }

    fn causes<'a>(mut self, causes: impl IntoIterator<Item = &'a Cause>) -> Self {
        self.0.details.insert("causes".into(), causes.into_iter().map(Cause::json).collect());
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(group: &str, plural: &str, name: &str, detail: impl fmt::Display) -> Self {
        let target = qualified(group, plural);
        let message = if name.is_empty() {
            format!("{target} is forbidden: {detail}")
        } else {
            format!("{target} \"{name}\" is forbidden: {detail}")
        };
        Self::new(403, "Forbidden", message).about(group, plural, name)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", qualified(group, plural)))
            .about(group, plural, name)
    }

    pub(crate) fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", qualified(group, plural)))
            .about(group, plural, name)
    }

    pub(crate) fn conflict(group: &str, plural: &str, name: &str, detail: impl fmt::Display) -> Self {
        let target = qualified(group, plural);
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {target} \"{name}\": {detail}"))
            .about(group, plural, name)
    }

    /// The object changed since the caller read it.
    pub(crate) fn modified(group: &str, plural: &str, name: &str) -> Self {
        let detail = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, detail)
    }

    /// Fields that other managers own: one cause for each, told manager by manager.
    pub(crate) fn apply_conflict(causes: &[Cause]) -> Self {
        let mut list = String::new();
        let mut rest = causes;
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|cause| cause.message == first.message).count();
            let (same, others) = rest.split_at(count);
            if !list.is_empty() {
                list.push('\n');
            }
            if count == 1 {
                list.push_str(&format!("{}: {}", first.message, first.field));
            } else {
                list.push_str(&format!("{}:", first.message.replacen("conflict", "conflicts", 1)));
                list.extend(same.iter().map(|cause| format!("\n- {}", cause.field)));
            }
            rest = others;
        }
        let count = causes.len();
        let plural = if count == 1 { "" } else { "s" };
        let message = format!("Apply failed with {count} conflict{plural}: {list}");
        Self::new(409, "Conflict", message).causes(causes)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn unsupported_media(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    pub(crate) fn method_not_allowed(group: &str, plural: &str) -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .about(group, plural, "")
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let list = match causes {
            [only] => only.to_string(),
            many => format!("[{}]", many.iter().map(Cause::to_string).collect::<Vec<_>>().join(", ")),
        };
        Self::new(422, "Invalid", format!("{} \"{name}\" is invalid: {list}", qualified(group, kind)))
            .about(group, kind, name)
            .causes(causes)
    }

    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    pub(crate) fn not_served(group: &str, plural: &str) -> Self {
        let target = qualified(group, plural);
        Self::new(501, "NotImplemented", format!("{target} are not served here yet")).about(group, plural, "")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    pub(crate) fn too_many_requests(message: impl Into<String>) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.0.details.insert("retryAfterSeconds".into(), 1.into());
        status
    }

    /// The object that is sent.
    pub(crate) fn json(&self) -> Value {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "reason": self.0.reason});
        if !self.0.details.is_empty() {
            status["details"] = Value::Object(self.0.details.clone());
        }
        status["code"] = self.0.code.into();
        status
    }

    /// The object that says something was done which leaves nothing to show.
    pub(crate) fn success(group: &str, plural: &str, name: &str, uid: &str) -> Value {
        let mut details = json!({"name": name, "kind": plural, "uid": uid});
        if !group.is_empty() {
            details["group"] = group.into();
        }
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Status::not_found("", "pods", "a"), 404, "pods \"a\" not found")]
    #[case(Status::not_found("apps", "deployments", "a"), 404, "deployments.apps \"a\" not found")]
    #[case(Status::already_exists("", "services", "a"), 409, "services \"a\" already exists")]
    #[case(
        Status::invalid("apps", "Deployment", "a", &[Cause::required("spec.selector", "")]),
        422,
        "Deployment.apps \"a\" is invalid: spec.selector: Required value"
    )]
    fn refusals_use_the_words_of_kubernetes(#[case] status: Status, #[case] code: u16, #[case] message: &str) {
        assert_eq!((status.code(), status.message()), (code, message));
    }
}
