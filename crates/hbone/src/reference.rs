//! The same face over the `h2` crate: what our own framing is compared with, and what can be fallen back to.

mod client;
mod serve;
mod stream;

pub(crate) use client::Client;
pub(crate) use serve::{ReferenceIncoming, serve};
pub(crate) use stream::ReferenceStream;
