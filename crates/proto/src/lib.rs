//! Wire messages: our own `.proto` files (in `protos/`) and the code generated from them by `cargo xtask gen`.
//!
//! One module per protobuf package. Nothing here has behaviour beyond encoding; meaning lives in `model` and in the
//! crates that convert (`xds`, `identity`, `linux` carries ZDS as bytes).

#[allow(
    missing_docs,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
#[rustfmt::skip]
mod generated;

pub use generated::ambit::l7;
pub use generated::envoy::config::core::v3 as core;
pub use generated::envoy::service::discovery::v3 as discovery;
pub use generated::envoy::service::status::v3 as csds;
pub use generated::google::rpc;
pub use generated::istio::security;
pub use generated::istio::v1::auth as ca;
pub use generated::istio::workload;
pub use generated::istio::workload::zds;

/// Type URLs of xDS resources.
pub mod type_url {
    /// `istio.workload.Address`.
    pub const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
    /// `istio.workload.Workload`: the workloads of `Address` alone.
    pub const WORKLOAD: &str = "type.googleapis.com/istio.workload.Workload";
    /// `istio.workload.Service`: the services of `Address` alone.
    pub const SERVICE: &str = "type.googleapis.com/istio.workload.Service";
    /// `istio.security.Authorization`.
    pub const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
    /// `ambit.l7.Resource`.
    pub const L7: &str = "type.googleapis.com/ambit.l7.Resource";
}
