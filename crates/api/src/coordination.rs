//! Leases: who leads, and until when.

use crate::macros::{object, resource};
use crate::meta::ObjectMeta;
use crate::time::MicroTime;

object! {
    /// A lock that must be renewed.
    pub struct Lease {
        metadata: ObjectMeta,
        spec: LeaseSpec,
    }

    /// Who holds the lock.
    pub struct LeaseSpec {
        holder_identity: String,
        lease_duration_seconds: Option<i32>,
        acquire_time: Option<MicroTime>,
        renew_time: Option<MicroTime>,
        lease_transitions: Option<i32>,
        strategy: String,
        preferred_holder: String,
    }
}

resource!(Lease, "coordination.k8s.io" / "v1", "leases", namespaced);
