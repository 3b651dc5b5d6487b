//! The server as its clients see it: over HTTP, and through `kubectl` where it is installed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod collection;
mod crds;
mod http;
mod kubectl;
mod lifecycle;
mod nodes;
mod objects;
mod server;
mod tokens;
mod watches;
