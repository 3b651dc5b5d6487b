//! The policy that lets only a waypoint in to what is behind it, where that is asked for (control-plane A7:
//! `PILOT_AUTO_ALLOW_WAYPOINT_POLICY`).
//!
//! Without it the rules of a waypoint are passed by whoever connects to a pod's own address.

use super::{
    View, waypoint,
    waypoint::{Binding, Traffic, hbone_listener},
};
use api::{Gateway, ObjectMeta, Resource};
use model::{Action, Authorization, Match, PolicyScope, Rule, StringMatch};
use proto::workload::PortList;
use std::collections::{BTreeMap, BTreeSet};

const CLASS: &str = "istio-waypoint";

fn name(gateway: &str, namespace: &str) -> String {
    format!("istio_allow_waypoint_{namespace}_{gateway}")
}

/// The policy of a waypoint.
pub(super) fn policy(gateway: &Gateway, view: View<'_>) -> Option<Authorization> {
    let is_waypoint = gateway.spec.gateway_class_name == CLASS && hbone_listener(gateway).is_some();
    if !view.mesh.auto_allow_waypoint || !is_waypoint {
        return None;
    }
    let account = gateway.metadata.annotation("gateway.istio.io/service-account").unwrap_or_else(|| gateway.name());
    let principal = format!("{}/ns/{}/sa/{account}", view.mesh.trust_domain, gateway.namespace());
    let from_waypoint = Match { principals: vec![StringMatch::Exact(principal.into())], ..Match::default() };
    Some(Authorization {
        name: name(gateway.name(), gateway.namespace()).into(),
        namespace: gateway.namespace().into(),
        scope: PolicyScope::WorkloadSelector,
        action: Action::Allow,
        rules: vec![Rule { clauses: vec![vec![from_waypoint]], unusable: false }],
        dry_run: false,
    })
}

/// Keys of the policies of every waypoint in front of a workload: its own, and those of its services.
pub(super) fn of_workload(
    metadata: &ObjectMeta,
    services: &BTreeMap<String, PortList>,
    view: View<'_>,
) -> BTreeSet<String> {
    if !view.mesh.auto_allow_waypoint || waypoint::is_managed(metadata) {
        return BTreeSet::new();
    }
    let own = waypoint::bind(metadata, Traffic::Workload, view);
    let services = view.owners_of(services).map(|service| waypoint::bind(service, Traffic::Service, view));
    let waypoints = std::iter::once(own).chain(services).flat_map(in_front);
    let key = |waypoint: String| {
        let (namespace, name) = waypoint.split_once('/')?;
        policy(view.objects.gateways.get(namespace, name)?, view).map(|policy| policy.key().to_string())
    };
    waypoints.filter_map(key).collect()
}

/// The waypoints of a binding, the one on trial among them.
fn in_front(binding: Binding) -> Vec<String> {
    let Binding::Bound { waypoint, canary, .. } = binding else { return Vec::new() };
    std::iter::once(waypoint).chain(canary.and_then(Result::ok).map(|canary| canary.waypoint)).collect()
}
