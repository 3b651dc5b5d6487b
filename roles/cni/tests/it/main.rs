//! The node role's parts against the real kernel and real sockets. Needs root; says so loudly and does nothing without.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod host_rules;
mod lab;
mod plugin;
mod pod_rules;
mod zds;
