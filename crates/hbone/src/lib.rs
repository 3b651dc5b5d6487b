//! HBONE: TCP connections as HTTP/2 CONNECT streams (ztunnel.md §4).
//!
//! Both ends, over any byte stream that is already secure: [`Pool`] and [`connect_once`] open tunnels, [`serve()`] accepts
//! them, [`TunnelStream`] is one connection within. Who may talk to whom, TLS and sockets are the caller's.
//! Framing is our own (`own`); the `h2` crate's stands beside it (`reference`), behind the same face.
//! INVARIANT: nothing outside this crate names `h2`.

mod baggage;
mod carrier;
mod client;
mod error;
mod headers;
mod liveness;
mod own;
mod pool;
mod reference;
mod serve;
mod stream;

pub use baggage::Baggage;
pub use carrier::Carrier;
pub use client::{Opened, connect_once};
pub use error::{BadRequest, OpenError, ServeError};
pub use headers::{Authority, ConnectRequest, forwarded_host, span_id, traceparent};
pub use own::Progress;
pub use pool::{Connect, Key, Pool, PoolOptions};
pub use serve::{Incoming, ServerOptions, serve};
pub use stream::{CarryError, End, TunnelStream};

/// What does the framing of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Our own.
    #[default]
    Own,
    /// The `h2` crate.
    Reference,
}

/// Sizes of windows and frames, the same at both ends (ztunnel.md §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Bytes in flight on one stream.
    pub stream: u32,
    /// Bytes in flight on a connection. Must exceed `stream`, or a reader of one stream can starve another.
    pub connection: u32,
    /// Largest DATA frame.
    pub frame: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self { stream: 4 << 20, connection: 16 << 20, frame: 1 << 20 }
    }
}
