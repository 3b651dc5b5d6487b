//! Delta xDS as the mesh speaks it: the conversion between wire and model, a client, a server.
//!
//! Both ends are state machines without I/O (`client::State`, `server::Session`) under a thin tonic shell; what a
//! resource means is `model`'s business, who may ask is the embedding role's ([`server::Gate`]).

pub mod client;
pub mod server;
pub mod store;
pub mod wds;

/// Largest message that is decoded, as upstream (ztunnel.md §1.1).
pub const MAX_MESSAGE_BYTES: usize = 200 << 20;

/// Largest request that the server reads: it names everything that a proxy holds.
pub const MAX_REQUEST_BYTES: usize = 64 << 20;
