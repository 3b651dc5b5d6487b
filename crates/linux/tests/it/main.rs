//! The crate against the real kernel, in namespaces of its own. Needs root; says so loudly and does nothing without.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod lab;
mod netlink;
mod nft;
mod packet;
mod process;
mod relay;
mod seqpacket;
mod socket;
