//! The pods of one node, as those who serve them see them: what the node agent says, and the sockets inside each pod.
//!
//! [`agent`] talks to the node agent (ZDS), [`message`] is what its words look like, [`roster`] decides which pods are served.
//! [`listeners`] opens what a pod is captured with, and [`Sockets`] is where everything else inside a pod comes from. Where the
//! proxy has no rights of its own, [`words`] is what it and its keeper say to each other, [`keeper`] is the proxy's end of that,
//! and [`stock`] holds sockets ahead of need. What is done with a socket is left to the proxy.

pub mod agent;
pub mod keeper;
pub mod listeners;
pub mod message;
pub mod roster;
pub mod sockets;
pub mod stock;
pub mod words;

pub use listeners::{Capture, Listener, Opened, Place, Port};
pub use roster::{Proxies, Roster, Stop};
pub use sockets::{SocketConfig, Sockets};

use model::Str;

/// A pod as the node agent describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WorkloadInfo {
    /// Pod name.
    pub name: Str,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Service account.
    pub service_account: Str,
}
