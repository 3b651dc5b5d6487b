//! The mesh's TLS: one profile for every tunnel (ztunnel.md §3.4), and the verifiers that know identities instead of names.
//!
//! TLS 1.3 alone, certificates on both sides, `h2`, no server name, no resumption: a changed trust always shows in the next
//! handshake. Configurations are built once per certificate by [`crate::WorkloadCertificate`].

mod handshake;
pub mod record;
pub mod sealed;
mod settings;
pub(crate) mod verify;

pub use handshake::{ClientStream, HandshakeError, ServerStream};
pub use settings::TlsSettings;
pub(crate) use settings::TrustDomains;

use crate::peer::{self, PeerError};
use model::Identity;
use rustls::{
    CommonState, NamedGroup,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider},
    pki_types::ServerName,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
    time::Duration,
};

pub use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// How long a peer may take for a handshake before it is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The protocol of tunnels.
pub(crate) const H2: &[u8] = b"h2";

/// The profile without any setting.
pub(crate) static MESH: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| TlsSettings::default().provider());

/// The library's own profile, for the servers and clients that speak to things outside the mesh.
pub(crate) static GENERAL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(provider::default_provider()));

/// What a tunnel is dialled as: a name is neither sent nor compared.
pub fn nameless() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}

/// Who is at the other end of a finished mesh handshake.
pub fn peer(state: &CommonState) -> Result<Identity, PeerError> {
    peer::peer_identity(state.peer_certificates().unwrap_or_default())
}

/// Whether a handshake failed because the peer's certificate is revoked.
pub fn is_revocation(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked)))
}

/// The agreed key exchange, for those who count post-quantum handshakes.
pub fn key_exchange(state: &CommonState) -> Option<NamedGroup> {
    state.negotiated_key_exchange_group().map(SupportedKxGroup::name)
}
