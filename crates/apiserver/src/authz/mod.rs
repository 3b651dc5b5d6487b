//! What a caller may do: RBAC over the stored roles and bindings.

pub(crate) mod bootstrap;
mod rbac;

pub(crate) use rbac::{Action, allowed, rules_for};
