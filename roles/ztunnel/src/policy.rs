//! Policy at the door and afterwards: whether a connection may come in, and whether it may stay (ztunnel.md §8).
//!
//! The decision itself is `authz`'s. Here: which policies concern the pod, what happens while one of them has not arrived, and
//! when open connections are judged again.

use crate::{
    connections::Judged,
    pod::Shard,
    state::{ARRIVAL_TIMEOUT, State},
};
use authz::{Denial, Verdict};
use inpod::WorkloadInfo;
use model::{Mesh, Reason, Workload};
use std::sync::{Arc, Weak};
use tokio::time::{self, Instant};

/// The verdict of one snapshot. A policy that is named and missing denies, unless another one denies by its own words.
pub(crate) fn verdict(mesh: &Mesh, workload: &Workload, connection: &Judged, verbose: bool) -> Verdict {
    let applicable = mesh.policies_for(workload);
    let connection = connection.as_connection();
    let policies = || applicable.policies.iter().map(|policy| &**policy);
    authz::trial(policies(), &connection, |policy| {
        tracing::info!(policy = %policy.key(), action = ?policy.action, "policy under trial matches");
    });
    let verdict = authz::decide(policies(), &connection);
    if verbose {
        tracing::info!(source = %connection.source, destination = %connection.destination, ?verdict, "policy decision");
    }
    match (verdict, applicable.missing.first()) {
        (Verdict::Deny(Denial::Explicit(policy)), _) => Verdict::Deny(Denial::Explicit(policy)),
        (_, Some(missing)) => Verdict::Deny(Denial::PolicyMissing(missing.clone())),
        (verdict, None) => verdict,
    }
}

/// Whether a connection may come in; one that needs a policy which has not arrived is held for a while.
pub(crate) async fn admit(state: &State, info: &WorkloadInfo, connection: &Judged, verbose: bool) -> Verdict {
    let now = |mesh: &Mesh| {
        let Some(workload) = state.local_workload(info) else {
            return Verdict::Deny(Denial::NotAllowed);
        };
        verdict(mesh, &workload, connection, verbose)
    };
    let settled = |mesh: &Mesh| match now(mesh) {
        Verdict::Deny(Denial::PolicyMissing(_)) => None,
        verdict => Some(verdict),
    };
    match state.wait_for(settled).await {
        Some(verdict) => verdict,
        None => now(&state.mesh()),
    }
}

/// Judges the open connections of one shard again whenever a verdict may have changed, until the shard is gone. A policy
/// that is named and missing cuts only if it stays missing: lists and policies change in no particular order.
pub(crate) async fn enforce(shard: Weak<Shard>, state: Arc<State>) {
    let mut changes = state.verdict_changes();
    let mut recheck: Option<Instant> = None;
    loop {
        let patience = async {
            match recheck {
                Some(moment) => time::sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        let patient = tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = patience => false,
        };
        let Some(shard) = shard.upgrade() else { return };
        let missing = judge_all(&shard, patient);
        recheck = missing.then(|| Instant::now() + ARRIVAL_TIMEOUT);
    }
}

/// Whether some connection depends on a policy that is missing.
fn judge_all(shard: &Shard, patient: bool) -> bool {
    let state = &shard.pod.proxy.state;
    let Some(workload) = state.local_workload(&shard.pod.info) else { return false };
    let mesh = state.mesh();
    let mut missing = false;
    shard.connections.judge(|judged| match verdict(&mesh, &workload, judged, false) {
        Verdict::Allow => None,
        Verdict::Deny(Denial::PolicyMissing(_)) if patient => {
            missing = true;
            None
        }
        Verdict::Deny(denial) => Some(Reason::PolicyChanged(denial.to_string())),
    });
    missing
}
