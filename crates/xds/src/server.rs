//! The delta xDS server of a control plane: gives every connected proxy what changed, and nothing else.
//!
//! The parts of a control plane publish what they have to say in a [`Catalog`], which makes immutable [`Snapshot`]s of it; a
//! proxy that is slow simply meets a newer one next time. [`Session`] decides what one proxy is sent (no I/O), [`Server`] is
//! the gRPC service around it, [`Gate`] is the embedding role's say in who may connect.

mod clients;
mod codec;
mod collection;
mod connection;
mod flow;
mod log;
mod names;
mod push;
mod resource;
mod rpc;
mod service;
mod session;
mod snapshot;
mod subscription;

pub use clients::{ClientStatus, Clients, TypeStatus};
pub use collection::Collection;
pub use flow::{Hangup, Outgoing};
pub use push::Push;
pub use resource::Resource;
pub use rpc::Rpc;
pub use service::{Event, Gate, Server, Settings};
pub use session::{Session, SessionError, metadata_text};
pub use snapshot::{Catalog, Snapshot, TypeChanges};
