//! Pods of this node: `message` is what the node agent's words look like, `client` talks to it, `manager` decides which
//! pods are served.

mod client;
mod manager;
mod message;

pub(crate) use client::{READINESS, SharedManager, run};
pub(crate) use manager::{Census, Manager, Proxies, Stop};
