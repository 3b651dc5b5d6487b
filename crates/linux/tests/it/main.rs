//! The crate against the real kernel, in namespaces of its own. Needs root; says so loudly and does nothing without.

mod lab;
mod netlink;
mod nft;
mod process;
mod relay;
mod seqpacket;
mod socket;
