//! The kernel, in the mesh's words: namespaces, sockets made inside them, links and routes, nftables, mounts,
//! child processes, packet capture and the byte relay. Everything here acts at once and says what it did or why it
//! could not; deciding what should exist is left to the callers. The only crate with `unsafe` and with `setns`.
#![allow(unsafe_code, reason = "the one crate that talks to the kernel in its own terms")]

mod error;
mod inherited;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod process;
pub mod relay;
pub mod sandbox;
pub mod sealed;
pub mod seccomp;
pub mod seqpacket;
pub mod socket;
pub mod sysctl;
mod watch;

pub use error::{Error, Result};
pub use inherited::inherited_fd;
