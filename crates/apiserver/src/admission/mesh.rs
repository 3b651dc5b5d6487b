//! Rules on the mesh's own kinds, where a cluster has CEL rules and webhooks: what fields mean together.
//!
//! Whether an object has its kind's shape is for the schema of its definition to say.

use crate::status::Cause;
use ::api::validate::{self, Problem};
use serde_json::Value;

/// What is wrong with an object of a custom kind. One that was stored with problems may be changed all the same, so that
/// it can be labelled, finished and deleted.
pub(super) fn validate(value: &Value, old: Option<&Value>) -> Vec<Cause> {
    if old.is_some_and(|old| !validate::content(old).is_empty()) {
        return Vec::new();
    }
    let cause = |problem: Problem| {
        Cause::invalid(problem.path.as_str(), validate::value_at(value, &problem.path), problem.message)
    };
    validate::content(value).into_iter().map(cause).collect()
}
