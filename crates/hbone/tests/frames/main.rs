//! Frames that no library writes, over in-memory pipes with paused time: what the clauses of RFC 9113 and RFC 7541 want of a
//! server of tunnels, and what a peer that means harm gets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod clauses;
mod server;
