//! What carries a tunnel connection: a byte stream that is secure already, or a socket with the keys to secure it.

use identity::tls::{record::Records, sealed::Sealed};
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite};

/// Any byte stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Duplex for IO {}

/// A byte stream to speak HTTP/2 over. Any stream becomes one by `into()`.
pub struct Carrier {
    pub(crate) io: Box<dyn Duplex>,
    /// Keys, when the bytes on `io` are TLS records.
    pub(crate) records: Option<Box<Records>>,
    /// Bytes that were received already.
    pub(crate) early: Vec<u8>,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("records", &self.records).finish_non_exhaustive()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> From<IO> for Carrier {
    fn from(io: IO) -> Self {
        Self { io: Box::new(io), records: None, early: Vec::new() }
    }
}

impl Carrier {
    /// A socket whose records are sealed and opened where they lie.
    pub fn sealed<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(sealed: Sealed<IO>) -> Self {
        let Sealed { io, records, early, .. } = sealed;
        Self { io: Box::new(io), records: Some(Box::new(records)), early }
    }
}
