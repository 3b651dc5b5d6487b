//! What a caller may do: RBAC over the stored roles and bindings.

pub(crate) mod bootstrap;
mod escalation;
mod rbac;

pub(crate) use escalation::check as check_escalation;
pub(crate) use rbac::{Action, allowed, rules_for};
