//! What can go wrong with a tunnel, and which [`Reason`] each is.

use model::Reason;
use std::time::Duration;

/// Why a tunnel could not be opened. Cloned to everyone who waited for the same connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer's address could not be connected.
    #[error("connection failed: {0}")]
    Connect(String),
    /// The peer did not answer in time.
    #[error("connecting timed out after {0:?}")]
    Timeout(Duration),
    /// TLS failed: the peer is not who it must be, or we are not.
    #[error("tls error: {0}")]
    Tls(String),
    /// No certificate for the source.
    #[error("identity error: {0}")]
    Identity(String),
    /// HTTP/2 failed.
    #[error("http2 handshake failed: {0}")]
    Http2(String),
    /// The peer refused the CONNECT with this status.
    #[error("http status: {0}")]
    Status(u16),
    /// The request could not be written as HTTP.
    #[error("invalid CONNECT request: {0}")]
    Request(String),
    /// The pool has been closed.
    #[error("pool draining")]
    Closed,
}

impl From<OpenError> for Reason {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Connect(why) => Self::ConnectFailed(why),
            OpenError::Timeout(after) => Self::HboneTimeout(format!("no answer within {after:?}")),
            OpenError::Tls(why) => Self::TlsFailed(why),
            OpenError::Identity(why) => Self::IdentityFailed(why),
            OpenError::Http2(why) => Self::TunnelFailed(why),
            OpenError::Status(status) => Self::TunnelRefused(status),
            OpenError::Request(what) => Self::BadRequest(what),
            OpenError::Closed => Self::Drained,
        }
    }
}

/// Why serving a connection ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// HTTP/2 with the peer failed.
    #[error("http2 with the peer failed: {0}")]
    Http2(String),
    /// The peer fell silent.
    #[error("the peer answered no ping for {0:?}")]
    Silent(Duration),
}

/// Why a request is not a CONNECT that can be served; each is answered with 400 (ztunnel.md §4.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Another method.
    #[error("expected method CONNECT, got {0}")]
    Method(String),
    /// The authority is missing or is no `host:port`.
    #[error("invalid CONNECT address: {0:?}")]
    Authority(String),
}
