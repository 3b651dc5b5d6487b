//! Who is who: SPIFFE identities proven by certificates, from the request for one to the TLS that uses it.
//!
//! - [`issuer`]: the mesh's authority, for the control plane and for `ambit up`.
//! - [`csr`], [`ca_client`], [`source`]: asking for certificates; [`cache`]: keeping and renewing them.
//! - [`certificate`], [`tls`]: a workload's certificate and the mesh's TLS made from it; [`peer`]: who is at the other end.
//! - [`revocation`]: whom not to believe any more.
//! - [`grpc`]: the channel to a control plane; [`https`]: TLS for ordinary servers.
//!
//! The only crate besides `hbone` that names the TLS library. What an identity may do is `authz`'s question, tunnels are
//! `hbone`'s.

pub mod ca_client;
pub mod cache;
pub mod certificate;
pub mod csr;
pub mod grpc;
pub mod https;
pub mod issuer;
pub mod peer;
pub mod pem;
pub mod revocation;
pub mod source;
pub mod tls;
pub mod validity;

pub use ca_client::CaClient;
pub use cache::{CertificateError, CertificateSource, CertificateState, Certificates, FetchError, Priority};
pub use certificate::{WorkloadCertificate, WorkloadCertificateError};
pub use issuer::{CertifiedKeyPem, Issuer, IssuerError, IssuerPem, KeyKind};
pub use peer::{PeerError, peer_identity};
pub use source::IssuerSource;
pub use validity::{CertificateInfo, Validity};
