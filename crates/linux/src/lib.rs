//! linux
#![allow(unsafe_code, reason = "the one crate that talks to the kernel in its own terms")]
