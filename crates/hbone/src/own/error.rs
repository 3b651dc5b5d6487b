//! What goes wrong on a connection, and by which code the peer is told (RFC 9113 §7).

use identity::tls::record::RecordError;
use std::{io, sync::Arc};

/// An HTTP/2 error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub u32);

impl Code {
    pub(super) const NO_ERROR: Self = Self(0);
    pub(super) const PROTOCOL_ERROR: Self = Self(1);
    pub(super) const FLOW_CONTROL_ERROR: Self = Self(3);
    pub(super) const STREAM_CLOSED: Self = Self(5);
    pub(super) const FRAME_SIZE_ERROR: Self = Self(6);
    pub(super) const REFUSED_STREAM: Self = Self(7);
    pub(super) const CANCEL: Self = Self(8);
    pub(super) const COMPRESSION_ERROR: Self = Self(9);
    pub(super) const CONNECT_ERROR: Self = Self(10);
    pub(super) const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// Why a frame cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection cannot go on.
    Connection(Code, &'static str),
    /// One stream cannot.
    Stream(u32, Code),
}

/// Why a connection ended; told to everything that was open in it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Ended {
    /// The peer, or we, finished in good order.
    #[error("the connection was closed")]
    Closed,
    /// We gave up on the peer's frames.
    #[error("{1} (HTTP/2 error code {0})")]
    Broken(u32, &'static str),
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The peer's records cannot be opened.
    #[error("{0}")]
    Tls(#[from] RecordError),
    /// The peer fell silent.
    #[error("the peer is silent")]
    Silent,
    /// Nobody here wants it any more.
    #[error("the connection was cut")]
    Cut,
}

impl Ended {
    /// What a reader or writer in the middle of it sees.
    pub(super) fn as_io(&self) -> io::Error {
        match self {
            Self::Io(error) => io::Error::new(error.kind(), error.to_string()),
            Self::Closed => io::Error::new(io::ErrorKind::UnexpectedEof, self.to_string()),
            other => io::Error::other(other.to_string()),
        }
    }
}
