//! Which policies a workload names: those that select it.

use super::{View, authorization, peer_authentication, view::selects};
use api::{AuthorizationPolicy, Resource};
use std::collections::BTreeMap;

/// Whether a policy selects workloads with these labels, in the namespaces that it may select in.
pub(super) fn selected(policy: &AuthorizationPolicy, labels: &BTreeMap<String, String>) -> bool {
    policy.spec.selector.as_ref().is_some_and(|selector| selects(&selector.match_labels, labels))
}

/// Keys of the policies that select a workload, in upstream's order: its namespace's, the root namespace's, then the
/// one that enforces mutual TLS.
pub(super) fn of_workload(namespace: &str, labels: &BTreeMap<String, String>, view: View<'_>) -> Vec<String> {
    let root = view.mesh.root_namespace.as_str();
    let own = view.objects.policies.in_namespace(namespace);
    let elsewhere = (namespace != root).then(|| view.objects.policies.in_namespace(root)).into_iter().flatten();
    let sent = |policy: &AuthorizationPolicy| authorization(policy, view.mesh).0.is_some();
    own.chain(elsewhere)
        .filter(|policy| selected(policy, labels) && sent(policy))
        .map(|policy| format!("{}/{}", policy.namespace(), policy.name()))
        .chain(peer_authentication::attached(namespace, labels, view))
        .collect()
}
