//! From the cluster's objects to what proxies are told: pure functions, and the bookkeeping that calls them only for
//! what a change can have touched.
//!
//! Addresses are resolved to wire messages, because the wire says more about a service (application protocols) than
//! a proxy's model keeps; policies are resolved to the model that proxies evaluate.

mod authorization;
mod entry;
mod implicit;
mod network;
mod peer_authentication;
mod pod;
mod policies;
mod ports;
mod resolver;
mod service;
mod slice;
mod target;
mod touch;
mod unreadable;
mod verdict;
mod view;
mod waypoint;
mod workload_name;

pub use authorization::{Effect, Unsupported, authorization};
pub use peer_authentication::{STATIC_STRICT, converted, static_strict};
pub use resolver::{Changes, Resolver};
pub use touch::{Dirty, HostOwnerOf, Kind, Source};
pub use unreadable::{Effect as UnreadableEffect, Unreadable, UnreadableObjects};
pub use verdict::{Statement, Subject, Verdict};
pub use view::View;
pub use waypoint::{Binding, Canary, Refusal, Traffic, bind};
