//! PeerAuthentications as policies that deny plaintext (control-plane A8).

use super::{View, unreadable::Effect};
use api::{PeerAuthentication, Resource, istio::MutualTlsMode};
use model::{Action, Authorization, Match, PolicyScope, Rule, StringMatch};
use std::{collections::BTreeMap, sync::Arc};

/// Name of the policy that denies all plaintext, in the root namespace.
pub const STATIC_STRICT: &str = "istio_converted_static_strict";

/// The policy that denies all plaintext; workloads under STRICT name it.
pub fn static_strict(root_namespace: &str) -> Authorization {
    deny(root_namespace, STATIC_STRICT, vec![Rule { clauses: vec![vec![plaintext()]], unusable: false }])
}

fn deny(namespace: &str, name: &str, rules: Vec<Rule>) -> Authorization {
    Authorization {
        name: name.into(),
        namespace: namespace.into(),
        scope: PolicyScope::WorkloadSelector,
        action: Action::Deny,
        rules,
        dry_run: false,
    }
}

/// A peer without any identity.
fn plaintext() -> Match {
    Match { not_principals: vec![StringMatch::Presence], ..Match::default() }
}

fn selector(policy: &PeerAuthentication) -> Option<&BTreeMap<String, String>> {
    policy.spec.selector.as_ref().map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty())
}

/// What a policy says itself; DISABLE is no different from PERMISSIVE in ambient.
fn mode(policy: &PeerAuthentication) -> MutualTlsMode {
    policy.spec.mtls.as_ref().map_or(MutualTlsMode::Unset, |mtls| mtls.mode)
}

/// The oldest of some policies: the one that counts.
fn oldest<'a>(policies: impl Iterator<Item = &'a Arc<PeerAuthentication>>) -> Option<&'a Arc<PeerAuthentication>> {
    policies.min_by_key(|policy| (policy.metadata.creation_timestamp, policy.name()))
}

/// What holds in a namespace for workloads that nothing selects.
fn namespace_is_strict(namespace: &str, view: View<'_>) -> bool {
    let of = |namespace: &str| {
        let policies = view.objects.peer_authentications.in_namespace(namespace);
        oldest(policies.filter(|policy| selector(policy).is_none())).map_or(MutualTlsMode::Unset, |policy| mode(policy))
    };
    match of(namespace) {
        MutualTlsMode::Unset => of(&view.mesh.root_namespace) == MutualTlsMode::Strict,
        mode => mode == MutualTlsMode::Strict,
    }
}

/// Whether a policy with a selector asks for STRICT where its ports say nothing.
fn is_strict(policy: &PeerAuthentication, view: View<'_>) -> bool {
    match mode(policy) {
        MutualTlsMode::Unset => namespace_is_strict(policy.namespace(), view),
        mode => mode == MutualTlsMode::Strict,
    }
}

/// What a policy's ports say differently from the rest of it, as a policy of its own.
pub fn converted(policy: &PeerAuthentication, view: View<'_>) -> Option<Authorization> {
    let unreadable = view.objects.unreadable::<PeerAuthentication>(policy.namespace(), policy.name());
    if unreadable.is_some_and(|unreadable| unreadable.effect == Effect::StrictForAll) {
        return Some(strict_for_all(policy, view));
    }
    selector(policy)?;
    if policy.namespace() == view.mesh.root_namespace {
        return None;
    }
    let strict = is_strict(policy, view);
    let differs = |mode| match mode {
        MutualTlsMode::Unset => false,
        MutualTlsMode::Strict => !strict,
        MutualTlsMode::Permissive | MutualTlsMode::Disable => strict,
    };
    let ports = policy.spec.port_level_mtls.iter().filter(|(_, mtls)| differs(mtls.mode));
    // A port that is no number cannot be excepted from STRICT, and cannot be met either.
    let mut ports: Vec<u16> = ports.filter_map(|(port, _)| port.parse().ok()).collect();
    ports.sort_unstable();
    if ports.is_empty() {
        return None;
    }
    let rules = if strict {
        let excepted = |port: &u16| vec![Match { not_destination_ports: vec![*port], ..Match::default() }];
        let clauses = std::iter::once(vec![plaintext()]).chain(ports.iter().map(excepted)).collect();
        vec![Rule { clauses, unusable: false }]
    } else {
        let port_rule = |port: &u16| Rule {
            clauses: vec![vec![Match { destination_ports: vec![*port], ..plaintext() }]],
            unusable: false,
        };
        ports.iter().map(port_rule).collect()
    };
    Some(deny(policy.namespace(), &converted_name(policy), rules))
}

/// Nobody knows which workloads a policy was meant for: none of them takes plaintext, whatever else is said about it.
fn strict_for_all(policy: &PeerAuthentication, view: View<'_>) -> Authorization {
    let everywhere = policy.namespace() == view.mesh.root_namespace;
    Authorization {
        scope: if everywhere { PolicyScope::Global } else { PolicyScope::Namespace },
        ..deny(
            policy.namespace(),
            &converted_name(policy),
            vec![Rule { clauses: vec![vec![plaintext()]], unusable: false }],
        )
    }
}

pub(super) fn converted_name(policy: &PeerAuthentication) -> String {
    format!("converted_peer_authentication_{}", policy.name())
}

/// The key of the policy that enforces mutual TLS for a workload, if anything does.
pub(super) fn attached(namespace: &str, labels: &BTreeMap<String, String>, view: View<'_>) -> Option<String> {
    // Policies with a selector in the root namespace concern nobody.
    let selecting = view.objects.peer_authentications.in_namespace(namespace).filter(|policy| {
        namespace != view.mesh.root_namespace
            && selector(policy).is_some_and(|wanted| super::view::selects(wanted, labels))
    });
    let own = oldest(selecting);
    if let Some(policy) = own
        && converted(policy, view).is_some()
    {
        return Some(format!("{namespace}/{}", converted_name(policy)));
    }
    let strict = own.map_or_else(|| namespace_is_strict(namespace, view), |policy| is_strict(policy, view));
    strict.then(|| format!("{}/{STATIC_STRICT}", view.mesh.root_namespace))
}
