//! The node role's parts against the real kernel and real sockets. Needs root; says so loudly and does nothing without.

mod host_rules;
mod lab;
mod plugin;
mod pod_rules;
mod zds;
