//! Our own framing: HTTP/2 for CONNECT alone, made for moving bytes.
//!
//! `driver` is the one task of a connection. It opens records where they were received (`identity::tls::record`), `frame` cuts
//! them into frames, `input` acts on these, `delivery` hands data straight to sockets. `link` is the state that streams
//! share with it, `output` what waits to be sent, in records that are sealed where they lie. `hpack` and `message` are
//! headers, `limits` what a peer may not do to us, `carry` a tunnel's way past all buffers.
//!
//! Buffers exist only while bytes are in flight: `slab` pools them for a thread, and an idle stream has none.

mod carry;
mod client;
mod delivery;
mod driver;
mod entry;
mod error;
mod frame;
mod hpack;
mod input;
mod limits;
mod link;
mod message;
mod output;
mod pending;
mod serve;
mod slab;
mod stream;

pub(crate) use client::OwnClient;
pub use entry::Progress;
pub(crate) use serve::{OwnIncoming, serve};
pub(crate) use stream::OwnStream;
