//! HTTP between the ends of a mesh: which rule a request follows, whether it may be, and what carries it.
//!
//! Pure parts decide over one snapshot: [`config`] holds what the control plane said, [`route`] chooses and plans, [`authz`]
//! judges, [`path`] gives paths their one form, [`destination`] says how endpoints are treated and [`balance`] chooses one.
//! [`http`] is what moves: servers towards clients, connections towards endpoints, bodies between them.
//! Who the ends are, and the tunnels between them, is the roles' and `hbone`'s.

pub mod authz;
pub mod balance;
pub mod config;
pub mod destination;
pub mod http;
pub mod path;
pub mod route;
pub mod text;
