//! A policy, ready to be evaluated: rules of clauses, each clause an attribute with the values that fit and those that do not.

use super::{
    Request,
    attribute::{Attribute, Clause, Values},
};
use crate::config::{Here, Target};
use model::Str;
use proto::l7::{self as wire, policy::Action};

/// A policy.
#[derive(Debug)]
pub struct Policy {
    /// `<namespace>/<name>`.
    pub key: Str,
    /// What it does with what it matches.
    pub action: Action,
    /// Only logged.
    pub dry_run: bool,
    targets: Vec<Target>,
    rules: Vec<Rule>,
}

/// Matches when one of `from`, one of `to` and every one of `when` does; an empty list matches.
#[derive(Debug)]
struct Rule {
    from: Vec<Vec<Clause>>,
    to: Vec<Vec<Clause>>,
    when: Vec<Clause>,
    unusable: bool,
}

impl Policy {
    /// A policy; what cannot be read makes its rule unusable. A policy of an unknown action denies everything.
    pub fn new(wire: &wire::Policy) -> Self {
        let key = format!("{}/{}", wire.namespace, wire.name).into();
        let targets = Target::all(&wire.targets, &wire.namespaces);
        let known = Action::try_from(wire.action);
        let rules = match known {
            Ok(_) => wire.rules.iter().map(|rule| Rule::new(rule, &wire.namespace)).collect(),
            Err(_) => vec![Rule::unusable()],
        };
        Self { key, action: known.unwrap_or(Action::Deny), dry_run: wire.dry_run, targets, rules }
    }

    /// Whether it covers a place.
    pub fn covers(&self, here: &Here<'_>) -> bool {
        self.targets.iter().any(|target| target.covers(here))
    }

    /// Whether any rule matches.
    pub fn matches(&self, request: &Request<'_>) -> bool {
        let denies = matches!(self.action, Action::Deny | Action::Custom);
        self.rules.iter().any(|rule| match rule.unusable {
            true => denies,
            false => rule.matches(request, denies),
        })
    }
}

impl Rule {
    fn unusable() -> Self {
        Self { from: Vec::new(), to: Vec::new(), when: Vec::new(), unusable: true }
    }

    fn new(wire: &wire::PolicyRule, namespace: &str) -> Self {
        let from = wire.from.iter().map(|from| source(from, namespace)).collect::<Option<_>>();
        let to = wire.to.iter().map(operation).collect::<Option<_>>();
        let when = wire.when.iter().map(|when| condition(when, namespace)).collect::<Option<_>>();
        match (from, to, when) {
            (Some(from), Some(to), Some(when)) if !wire.unusable => Self { from, to, when, unusable: false },
            _ => Self::unusable(),
        }
    }

    fn matches(&self, request: &Request<'_>, denies: bool) -> bool {
        let all = |clauses: &Vec<Clause>| clauses.iter().all(|clause| clause.matches(request, denies));
        let one = |alternatives: &[Vec<Clause>]| alternatives.is_empty() || alternatives.iter().any(all);
        one(&self.from) && one(&self.to) && all(&self.when)
    }
}

/// Clauses of the lists that are not empty.
fn clauses(
    lists: impl IntoIterator<Item = (Attribute, &'static str, Vec<String>, Vec<String>)>,
) -> Option<Vec<Clause>> {
    let present = lists.into_iter().filter(|(_, _, yes, no)| !yes.is_empty() || !no.is_empty());
    present.map(|(attribute, _, yes, no)| Clause::new(attribute, &yes, &no)).collect()
}

fn source(wire: &wire::Source, namespace: &str) -> Option<Vec<Clause>> {
    let wire::Source { principals, request_principals, namespaces, ip_blocks, remote_ip_blocks, .. } = wire.clone();
    let accounts = |list: &[String]| Values::accounts(list, namespace);
    clauses([
        (Attribute::Principal, "principals", principals, wire.not_principals.clone()),
        (Attribute::RequestPrincipal, "requestPrincipals", request_principals, wire.not_request_principals.clone()),
        (Attribute::Namespace, "namespaces", namespaces, wire.not_namespaces.clone()),
        (Attribute::SourceIp, "ipBlocks", ip_blocks, wire.not_ip_blocks.clone()),
        (Attribute::RemoteIp, "remoteIpBlocks", remote_ip_blocks, wire.not_remote_ip_blocks.clone()),
        (
            Attribute::ServiceAccount,
            "serviceAccounts",
            accounts(&wire.service_accounts),
            accounts(&wire.not_service_accounts),
        ),
        (Attribute::TrustDomain, "trustDomains", wire.trust_domains.clone(), wire.not_trust_domains.clone()),
    ])
}

fn operation(wire: &wire::Operation) -> Option<Vec<Clause>> {
    clauses([
        (Attribute::Host, "hosts", wire.hosts.clone(), wire.not_hosts.clone()),
        (Attribute::Port, "ports", wire.ports.clone(), wire.not_ports.clone()),
        (Attribute::Method, "methods", wire.methods.clone(), wire.not_methods.clone()),
        (Attribute::Path, "paths", wire.paths.clone(), wire.not_paths.clone()),
    ])
}

fn condition(wire: &wire::Condition, namespace: &str) -> Option<Clause> {
    let attribute = Attribute::named(&wire.key)?;
    if attribute == Attribute::ServiceAccount {
        let accounts = |list: &[String]| Values::accounts(list, namespace);
        return Clause::new(attribute, &accounts(&wire.values), &accounts(&wire.not_values));
    }
    Clause::new(attribute, &wire.values, &wire.not_values)
}
