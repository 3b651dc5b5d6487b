//! Why a connection ended: the one closed list, used by access logs, metrics and people.

use std::fmt;

/// Why a connection ended. Every ended connection carries exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Reason {
    /// Both directions ended in order.
    #[default]
    Complete,
    /// The peer or the application broke the connection off in the middle.
    Reset,
    /// A policy denied it when it was opened; the text names the policy.
    PolicyDenied(String),
    /// A policy change denied it while it was open; the text names the policy.
    PolicyChanged(String),
    /// The node proxy is draining and its deadline has passed.
    Drained,
    /// The pod it belonged to is gone.
    WorkloadGone,
    /// One direction had ended and nothing came from the other for minutes: its owner has forgotten it.
    HalfClosed,
    /// The peer's certificate was revoked.
    CertificateRevoked,
    /// The application, gateway or passthrough destination could not be connected.
    ConnectFailed(String),
    /// The HBONE port did not answer in time.
    HboneTimeout(String),
    /// TLS with the peer failed.
    TlsFailed(String),
    /// HTTP/2 with the peer failed.
    TunnelFailed(String),
    /// The far proxy answered the CONNECT with another status than 200.
    TunnelRefused(u16),
    /// No certificate could be had for the local workload.
    IdentityFailed(String),
    /// The local workload is not known (yet).
    WorkloadUnknown,
    /// The destination's waypoint is not to be had: fail closed.
    WaypointUnknown(String),
    /// The gateway of the destination's network is not to be had.
    GatewayUnknown(String),
    /// The service has no endpoint that could be chosen.
    NoHealthyUpstream,
    /// The connection would come back to the proxy itself.
    SelfCall,
    /// The request was not what the protocol asks for; the text says what.
    BadRequest(String),
    /// DNS gave no address.
    DnsFailed(String),
    /// A limit was reached.
    Overloaded(&'static str),
}

/// The `response_flags` label (ztunnel.md §11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseFlag {
    /// `-`
    None,
    /// `DENY`
    Deny,
    /// `CONNECT`
    Connect,
    /// `TLS_FAILURE`
    TlsFailure,
    /// `H2_HANDSHAKE_FAILURE`
    H2HandshakeFailure,
    /// `NETWORK_POLICY`
    NetworkPolicy,
    /// `IDENTITY_ERROR`
    IdentityError,
    /// `CERT_REVOKED`
    CertRevoked,
}

impl ResponseFlag {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::IdentityError => "IDENTITY_ERROR",
            Self::CertRevoked => "CERT_REVOKED",
        }
    }
}

impl Reason {
    /// Whether the connection ended as its two ends wished.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Complete)
    }

    /// The `response_flags` label.
    pub fn flag(&self) -> ResponseFlag {
        match self {
            Self::Complete | Self::Drained | Self::WorkloadGone | Self::HalfClosed => ResponseFlag::None,
            Self::PolicyDenied(_) | Self::PolicyChanged(_) => ResponseFlag::Deny,
            Self::TlsFailed(_) => ResponseFlag::TlsFailure,
            Self::TunnelFailed(_) => ResponseFlag::H2HandshakeFailure,
            Self::HboneTimeout(_) => ResponseFlag::NetworkPolicy,
            Self::IdentityFailed(_) => ResponseFlag::IdentityError,
            Self::CertificateRevoked => ResponseFlag::CertRevoked,
            _ => ResponseFlag::Connect,
        }
    }
}

impl fmt::Display for Reason {
    /// The `error=` text, in upstream's words where upstream has some (ztunnel.md §11.5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Reset => f.write_str("io error: connection reset"),
            Self::PolicyDenied(why) => write!(f, "connection closed due to policy rejection: {why}"),
            Self::PolicyChanged(why) => write!(f, "connection closed due to policy change: {why}"),
            Self::Drained => f.write_str("connection closed due to connection drain"),
            Self::WorkloadGone => f.write_str("connection closed due to connection drain: workload removed"),
            Self::HalfClosed => f.write_str("connection half closed and silent for minutes"),
            Self::CertificateRevoked => f.write_str("connection closed: peer certificate revoked by CRL"),
            Self::ConnectFailed(why) => write!(f, "connection failed: {why}"),
            Self::HboneTimeout(why) => {
                write!(f, "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: {why}")
            }
            Self::TlsFailed(why) => write!(f, "tls error: {why}"),
            Self::TunnelFailed(why) => write!(f, "http2 handshake failed: {why}"),
            Self::TunnelRefused(status) => match status {
                400 => f.write_str("http status: 400 Bad Request"),
                401 => f.write_str("http status: 401 Unauthorized"),
                503 => f.write_str("http status: 503 Service Unavailable"),
                other => write!(f, "http status: {other}"),
            },
            Self::IdentityFailed(why) => write!(f, "identity error: {why}"),
            Self::WorkloadUnknown => f.write_str("failed to fetch information about local workload"),
            Self::WaypointUnknown(which) => write!(f, "unknown waypoint: {which}"),
            Self::GatewayUnknown(which) => write!(f, "unknown network gateway: {which}"),
            Self::NoHealthyUpstream => f.write_str("no healthy upstream"),
            Self::SelfCall => f.write_str("attempted recursive call to ourselves"),
            Self::BadRequest(what) => f.write_str(what),
            Self::DnsFailed(why) => write!(f, "dns: {why}"),
            Self::Overloaded(limit) => write!(f, "connection limit reached: {limit}"),
        }
    }
}
