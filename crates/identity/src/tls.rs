//! The mesh's TLS: one profile for every tunnel (ztunnel.md §3.4), and the verifiers that know identities instead of names.
//!
//! TLS 1.3 alone, certificates on both sides, `h2`, no server name, no resumption: a changed trust always shows in the next
//! handshake. Configurations are built once per certificate by [`crate::WorkloadCertificate`].

mod handshake;
pub(crate) mod verify;

pub use handshake::{ClientStream, HandshakeError, ServerStream};

use crate::peer::{self, PeerError};
use model::Identity;
use rustls::{
    CommonState, NamedGroup, SupportedCipherSuite,
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

/// AES-256 before AES-128, as upstream's; the hybrid post-quantum group before the classic ones.
pub(crate) static MESH: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let suites: Vec<SupportedCipherSuite> =
        vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384, provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let groups: Vec<&'static dyn SupportedKxGroup> = vec![
        provider::kx_group::X25519MLKEM768,
        provider::kx_group::X25519,
        provider::kx_group::SECP256R1,
        provider::kx_group::SECP384R1,
    ];
    Arc::new(CryptoProvider { cipher_suites: suites, kx_groups: groups, ..provider::default_provider() })
});

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

/// The agreed key exchange, for those who count post-quantum handshakes.
pub fn key_exchange(state: &CommonState) -> Option<NamedGroup> {
    state.negotiated_key_exchange_group().map(SupportedKxGroup::name)
}
