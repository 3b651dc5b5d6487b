//! The control plane: watches the cluster, resolves it into what proxies need, serves that over xDS, signs certificates
//! and writes status.
//!
//! `source` or `files` → `discovery` (what is seen at all) → `index` (owns `resolve`) → `serve`; beside them `authority` and
//! `roots` keep the certificate authority, `status` and `allocate` write back into the cluster, and `gateways` deploys proxies.
//! Proxies keep working without any of it: killing the control
//! plane stops changes, not traffic.

pub mod allocate;
mod app;
mod args;
pub mod authority;
pub mod discovery;
pub mod files;
pub mod gateways;
pub mod index;
pub mod l7;
pub mod leader;
pub mod mesh_config;
pub mod objects;
pub mod resolve;
pub mod roots;
pub mod serve;
pub mod settings;
pub mod source;
pub mod status;
mod untaint;
mod webhook_ca;

pub use app::{main, run};
pub use args::{Args, Compliance, Ignored, OptionalAddress};
