//! What the mesh tells about itself: log lines, access records, metric families.
//!
//! [`log`] writes lines without ever holding traffic up, [`access`] is the one record of an ended connection, [`metrics`] are
//! the families that dashboards and alerts know by name. Serving them over HTTP is left to `runtime` and the roles.

pub mod access;
pub mod log;
pub mod metrics;
