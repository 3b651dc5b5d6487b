//! Connections that come to a pod: through a tunnel on 15008 (`tunnel`), or captured in plaintext on 15006
//! (`passthrough`). `target` decides what a CONNECT may reach, `application` connects to it.

mod application;
mod local;
mod passthrough;
mod proxy_protocol;
mod target;
mod tunnel;

pub(crate) use local::{Asked, Joined, join};
pub(crate) use passthrough::handle as passthrough;
pub(crate) use tunnel::handle as tunnels;
