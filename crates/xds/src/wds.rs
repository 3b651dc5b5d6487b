//! Wire messages ↔ model values, with the defaults and refusals of ztunnel.md §1.6.
//!
//! A refused resource is refused alone, with a reason that fits a NACK. A policy is read more strictly than upstream
//! reads it: a part that cannot be understood makes its rule unusable instead of disappearing, so that nothing widens.

mod address;
mod authorization;
mod encode;

pub use address::decode_address;
pub use authorization::{decode_authorization, encode_authorization};
pub use encode::{encode_address, encode_service, encode_workload};

use model::{Service, Str, Workload};
use std::net::IpAddr;

/// Name of the entry in `Service.extensions` that carries session affinity; its config is a
/// `google.protobuf.Duration`, the time a client keeps its endpoint. Proxies that do not know the name skip the entry.
pub const SESSION_AFFINITY_EXTENSION: &str = "ambit.io/session-affinity";

/// Type URL of the config of [`SESSION_AFFINITY_EXTENSION`].
pub const DURATION_TYPE_URL: &str = "type.googleapis.com/google.protobuf.Duration";

/// What an `istio.workload.Address` resource holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A workload.
    Workload(Box<Workload>),
    /// A service.
    Service(Box<Service>),
}

impl Address {
    /// Its xDS resource name.
    pub fn name(&self) -> Str {
        match self {
            Self::Workload(workload) => workload.uid.clone(),
            Self::Service(service) => service.key().to_string().into(),
        }
    }
}

/// Why a resource cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// Not the message that its type says.
    #[error("decode: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A required part is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An enum value that is not known here.
    #[error("{field} has the unknown value {value}")]
    UnknownEnum {
        /// Field of the message.
        field: &'static str,
        /// Value as sent.
        value: i32,
    },
    /// A tunnel that this mesh does not speak.
    #[error("tunnel protocol {0} is not supported")]
    UnsupportedTunnel(i32),
    /// Bytes that are no address.
    #[error("{field}: an address has 4 or 16 bytes, not {length}")]
    AddressLength {
        /// Field of the message.
        field: &'static str,
        /// Bytes as sent.
        length: usize,
    },
    /// A prefix longer than its address.
    #[error("{field}: prefix length {length} does not fit the address")]
    PrefixLength {
        /// Field of the message.
        field: &'static str,
        /// Length as sent.
        length: u32,
    },
    /// A service key without its slash.
    #[error("service key {0:?} is not <namespace>/<hostname>")]
    ServiceKey(String),
}

/// An address from its 4 or 16 bytes.
fn ip(field: &'static str, bytes: &[u8]) -> Result<IpAddr, ConversionError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(IpAddr::from(v6)),
        Err(_) => Err(ConversionError::AddressLength { field, length: bytes.len() }),
    }
}

/// The 4 or 16 bytes of an address.
fn ip_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests;
