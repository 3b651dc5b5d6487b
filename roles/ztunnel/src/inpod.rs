//! Pods of this node: `message` is what the node agent's words look like, `client` talks to it, `roster` decides which
//! pods are served.

mod client;
mod message;
mod roster;

pub(crate) use client::{READINESS, SharedRoster, run};
pub(crate) use roster::{Census, Proxies, Roster, Stop};

/// Whether a message with this many descriptors is understood.
pub(crate) fn try_message(bytes: &[u8], descriptors: usize) -> bool {
    message::decode(bytes, vec![(); descriptors]).is_ok()
}
