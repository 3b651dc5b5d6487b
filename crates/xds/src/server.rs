//! The delta xDS server of a control plane: gives every connected proxy what changed, and nothing else.
//!
//! The control plane publishes immutable [`Snapshot`]s through a `tokio::sync::watch` channel; a proxy that is slow
//! simply meets a newer one next time. [`Session`] decides what one proxy is sent (no I/O), [`Server`] is the gRPC
//! service around it, [`Gate`] is the embedding role's say in who may connect.

mod clients;
mod service;
mod session;
mod snapshot;

pub use clients::{ClientStatus, Clients, TypeStatus};
pub use service::{Event, Gate, Server, Settings};
pub use session::{Session, metadata_text};
pub use snapshot::{Collection, Resource, Snapshot};
