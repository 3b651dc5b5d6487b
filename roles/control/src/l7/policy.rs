//! AuthorizationPolicies that cover waypoints and gateways, as the wire says them.
//!
//! The texts are sent as they are written; whoever evaluates them never widens what it cannot read. Here a rule is marked that holds a
//! part of which nothing is said, since that is what is left of a part that could not be read.

use super::world::World;
use api::{
    AuthorizationPolicy, Resource,
    istio::{Action, Rule},
};
use proto::l7::{self as wire, parent::Parent, policy};

/// Says that a policy is only tried.
const DRY_RUN: &str = "istio.io/dry-run";

/// The policy, if it covers anything that an L7 proxy serves. `everybody`: whom it covers could not be read.
pub fn policy(policy: &AuthorizationPolicy, everybody: bool, world: &World) -> Option<wire::Policy> {
    let (namespace, in_root) = (policy.namespace(), policy.namespace() == world.mesh.root_namespace);
    let mut targets = Vec::new();
    let mut namespaces = Vec::new();
    if everybody {
        namespaces.push(if in_root { "*".to_owned() } else { namespace.to_owned() });
    }
    for target in policy.spec.targets() {
        match (target.group.as_str(), target.kind.as_str()) {
            ("" | "core", "Service") => targets.push(of(Parent::Service(world.key(namespace, &target.name)))),
            ("gateway.networking.k8s.io", "Gateway") => {
                let key = wire::GatewayKey { namespace: namespace.to_owned(), name: target.name.clone() };
                targets.push(of(Parent::Gateway(key)));
            }
            ("gateway.networking.k8s.io", "GatewayClass") if in_root => namespaces.push("*".to_owned()),
            ("networking.istio.io", "ServiceEntry") => {
                let keys = world.entry_keys(namespace, &target.name).unwrap_or_default();
                targets.extend(keys.into_iter().map(|key| of(Parent::Service(key))));
            }
            _ => {}
        }
    }
    if targets.is_empty() && namespaces.is_empty() {
        return None;
    }
    let action = match policy.spec.action {
        Action::Allow => policy::Action::Allow,
        Action::Deny => policy::Action::Deny,
        Action::Audit => policy::Action::Audit,
        Action::Custom => policy::Action::Custom,
    };
    Some(wire::Policy {
        namespace: namespace.to_owned(),
        name: policy.name().to_owned(),
        targets,
        action: action.into(),
        rules: policy.spec.rules.iter().map(rule).collect(),
        dry_run: policy.metadata.annotation(DRY_RUN) == Some("true"),
        namespaces,
    })
}

fn of(parent: Parent) -> wire::Parent {
    wire::Parent { parent: Some(parent), ..wire::Parent::default() }
}

fn rule(rule: &Rule) -> wire::PolicyRule {
    let from: Vec<wire::Source> = rule.from.iter().map(|from| source(from.source.as_ref())).collect();
    let to: Vec<wire::Operation> = rule.to.iter().map(|to| operation(to.operation.as_ref())).collect();
    let when: Vec<wire::Condition> = rule
        .when
        .iter()
        .map(|when| wire::Condition {
            key: when.key.clone(),
            values: when.values.clone(),
            not_values: when.not_values.clone(),
        })
        .collect();
    let unusable = from.contains(&wire::Source::default())
        || to.contains(&wire::Operation::default())
        || when.iter().any(|when| when.values.is_empty() && when.not_values.is_empty());
    wire::PolicyRule { from, to, when, unusable }
}

fn source(source: Option<&api::istio::Source>) -> wire::Source {
    let source = source.cloned().unwrap_or_default();
    wire::Source {
        principals: source.principals,
        not_principals: source.not_principals,
        request_principals: source.request_principals,
        not_request_principals: source.not_request_principals,
        namespaces: source.namespaces,
        not_namespaces: source.not_namespaces,
        ip_blocks: source.ip_blocks,
        not_ip_blocks: source.not_ip_blocks,
        remote_ip_blocks: source.remote_ip_blocks,
        not_remote_ip_blocks: source.not_remote_ip_blocks,
        service_accounts: source.service_accounts,
        not_service_accounts: source.not_service_accounts,
        trust_domains: source.trust_domains,
        not_trust_domains: source.not_trust_domains,
    }
}

fn operation(operation: Option<&api::istio::Operation>) -> wire::Operation {
    let operation = operation.cloned().unwrap_or_default();
    wire::Operation {
        hosts: operation.hosts,
        not_hosts: operation.not_hosts,
        ports: operation.ports,
        not_ports: operation.not_ports,
        methods: operation.methods,
        not_methods: operation.not_methods,
        paths: operation.paths,
        not_paths: operation.not_paths,
    }
}
