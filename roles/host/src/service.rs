//! Service routing of one node: connections to a service's address go to one of its endpoints.
//!
//! [`routing`] decides what follows from services and slices, [`ruleset`] turns that into an nftables table of our
//! own. It serves pods outside the mesh and the node's own processes; inside the mesh the node proxy does this itself.
//! Not done here: node ports, external addresses, session affinity, IPv6.

pub(crate) mod routing;
pub(crate) mod ruleset;
