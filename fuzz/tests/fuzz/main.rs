//! One target per parser of foreign bytes. Besides not panicking, a target may claim more: that what was understood is
//! written back as it was understood.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod configuration;
mod identity;
mod local;
mod objects;
mod tunnels;

/// The bytes as text, for parsers that take text; what is no UTF-8 is replaced, not refused.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
