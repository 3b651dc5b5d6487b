//! The control plane: watches the cluster, resolves it into what proxies need, serves that over xDS, signs certificates
//! and writes status.

pub mod allocate;
pub mod objects;
pub mod resolve;
pub mod settings;
