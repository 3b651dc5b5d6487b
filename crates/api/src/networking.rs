//! The networking.k8s.io group: what a cluster's own network lets through.

use crate::macros::{object, opaque, resource};

opaque! {
    /// Which connections pods may receive and make, enforced by the cluster's network.
    NetworkPolicy as "NetworkPolicy", "networking.k8s.io" / "v1", "networkpolicies", namespaced;
}
