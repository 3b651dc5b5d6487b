//! apiserver: a small Kubernetes API in one process.
//!
//! It serves the built-in kinds that a mesh touches and every custom resource registered at run time, so that `kubectl`, kube
//! clients and our own `crates/cluster` work against it unchanged. Objects are JSON values in one store ([`Storage`]) with one
//! revision counter; every rule about them (defaults, validation, patches, ownership of fields) is a pure function over those
//! values and a schema, and only `server` and `proxy` touch sockets. It leaves running anything to others: controllers, the
//! scheduler and kubelets are clients of this API like everybody else.

mod args;
mod server;

pub use args::{Args, main};
pub use server::{Config, Error, Server, Storage, Tls};
