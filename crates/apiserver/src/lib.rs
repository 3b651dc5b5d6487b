//! apiserver: a small Kubernetes API in one process.
//!
//! It serves the built-in kinds that a mesh touches and every custom resource registered at run time, so that `kubectl`, kube
//! clients and our own `crates/cluster` work against it unchanged. Objects are JSON values in one store ([`Storage`]) with one
//! revision counter; every rule about them (defaults, validation, patches, ownership of fields) is a pure function over those
//! values and a schema, and only `server` and `proxy` touch sockets. It leaves running anything to others: controllers, the
//! scheduler and kubelets are clients of this API like everybody else.
//!
//! Known limits: CEL rules of custom resources are not evaluated, versions of a custom resource differ in `apiVersion` alone
//! (no conversion), admission webhooks are not called, answers are JSON only (the binary encoding is
//! read, for built-in kinds), and lists are always of the present.

mod admission;
mod api;
mod args;
mod authn;
mod authz;
mod bootstrap;
mod catalog;
mod crd;
mod discovery;
mod dispatch;
mod events;
pub mod fuzzing;
mod lifecycle;
mod object;
mod ownership;
mod patch;
mod pki;
mod proxy;
mod request;
mod reviews;
mod schema;
mod server;
mod status;
mod store;
mod subresources;
mod table;
mod verbs;
mod watch;

pub use args::{Args, main};
pub use authn::KeyError;
pub use server::{Config, Error, Server, Storage, Tls};
pub use store::DurabilityError;
