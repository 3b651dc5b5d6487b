//! Every use of a Kubernetes API, the embedded one or a real cluster's.
//!
//! The one place that names the kube client. A [`Client`] reads and writes objects typed by `api::Resource`;
//! [`Client::watch`] keeps a [`Store`] of them up to date for as long as it is held, whatever happens to the connection.
//! An object that does not have its kind's shape is reported and left out: it never stops the others.
//! What an object means, and what to do about it, is the roles' business.

mod authentication;
mod changes;
mod client;
mod error;
mod event;
mod lease;
mod manifest;
mod object;
mod path;
mod pod;
mod store;
mod watch;

pub use changes::{Change, Changes};
pub use client::{Client, Source};
pub use error::{Error, Result};
pub use event::{EventKind, Recorder};
pub use lease::{Election, Leadership, Term, holds};
pub use manifest::Applied;
pub use object::{DeleteOptions, Patch};
pub use path::Scope;
pub use pod::{LogOptions, Output, PortForward, Process};
pub use store::{ObjectKey, Rejected, Store};
