//! An AuthorizationPolicy as a node proxy can enforce it (control-plane A8).
//!
//! Where a proxy of layer 4 cannot see what a rule asks about, an ALLOW rule is left out and the L7 part of a DENY
//! rule is blanked: both restrict no less than was asked. An element that cannot be read makes its rule unusable.

use crate::settings::Mesh;
use api::{
    AuthorizationPolicy, Resource,
    istio::{
        Action as ApiAction, Operation, RuleCondition, Source,
        text::{self, Attribute},
    },
};
use model::{Action, Authorization, Match, PolicyScope, Rule, StringMatch};
use std::collections::BTreeSet;

/// Why a policy is not enforced, or not as it was written, by node proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsupported {
    /// Not sent: CUSTOM or AUDIT.
    Action(ApiAction),
    /// Not sent: a dry run, which is not switched on.
    DryRun,
    /// Sent without what only layer 7 can see.
    HttpAttributes {
        /// The attributes, sorted.
        names: Vec<String>,
        /// What became of the policy.
        effect: Effect,
    },
}

/// What becomes of a policy that names HTTP attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// ALLOW: the rules are left out.
    RulesOmitted,
    /// DENY: the attributes are left out, the rest denies more.
    AttributesOmitted,
    /// DENY: nothing is left that could deny.
    NothingLeft,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Action(action) => {
                write!(f, "node proxies do not enforce action {action:?}; bind the policy to a waypoint with targetRefs")
            }
            Self::DryRun => f.write_str(
                "the policy is a dry run, which node proxies ignore unless AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY is set",
            ),
            Self::HttpAttributes { names, effect } => {
                write!(f, "node proxies see no HTTP attributes (found: {}); ", names.join(", "))?;
                f.write_str(match effect {
                    Effect::RulesOmitted => "the ALLOW rules that use them are left out, so less is allowed than was asked for. ",
                    Effect::AttributesOmitted => "they are left out of the DENY rules, so more is denied than was asked for. ",
                    Effect::NothingLeft => "without them the DENY policy denies nothing. ",
                })?;
                f.write_str("To enforce HTTP rules, deploy a waypoint and bind the policy to it with targetRefs.")
            }
        }
    }
}

/// The policy as it is sent, if it is, and what node proxies cannot do of it. `None` for a policy that is a waypoint's.
pub fn authorization(policy: &AuthorizationPolicy, mesh: &Mesh) -> (Option<Authorization>, Option<Unsupported>) {
    let spec = &policy.spec;
    if spec.targets().next().is_some() {
        return (None, None);
    }
    let action = match spec.action {
        ApiAction::Allow => Action::Allow,
        ApiAction::Deny => Action::Deny,
        other => return (None, Some(Unsupported::Action(other))),
    };
    let dry_run = policy.metadata.annotation("istio.io/dry-run").is_some_and(|value| value == "true");
    if dry_run && !mesh.dry_run_policies {
        return (None, Some(Unsupported::DryRun));
    }
    let mut http = BTreeSet::new();
    let rules: Vec<Rule> =
        spec.rules.iter().filter_map(|rule| self::rule(rule, action, policy.namespace(), &mut http)).collect();
    let effect = match action {
        Action::Allow => Effect::RulesOmitted,
        Action::Deny if rules.iter().any(may_match) => Effect::AttributesOmitted,
        Action::Deny => Effect::NothingLeft,
    };
    let unsupported = (!http.is_empty())
        .then(|| Unsupported::HttpAttributes { names: http.into_iter().map(str::to_owned).collect(), effect });
    let authorization = Authorization {
        name: policy.name().into(),
        namespace: policy.namespace().into(),
        scope: scope(policy, mesh),
        action,
        rules,
        dry_run,
    };
    (Some(authorization), unsupported)
}

fn scope(policy: &AuthorizationPolicy, mesh: &Mesh) -> PolicyScope {
    let selects = policy.spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    match selects {
        true => PolicyScope::WorkloadSelector,
        false if policy.namespace() == mesh.root_namespace => PolicyScope::Global,
        false => PolicyScope::Namespace,
    }
}

/// Whether a rule can match anything: every clause holds a match that is not empty.
fn may_match(rule: &Rule) -> bool {
    rule.unusable || rule.clauses.iter().all(|clause| clause.iter().any(|entry| *entry != Match::default()))
}

fn rule(rule: &api::istio::Rule, action: Action, namespace: &str, http: &mut BTreeSet<&'static str>) -> Option<Rule> {
    let mut found = BTreeSet::new();
    let mut clauses = Vec::new();
    if !rule.to.is_empty() {
        let matches = rule.to.iter().map(|to| operation(to.operation.as_ref(), &mut found));
        clauses.push(matches.collect::<Option<Vec<_>>>());
    }
    if !rule.from.is_empty() {
        let matches = rule.from.iter().map(|from| source(from.source.as_ref(), namespace, &mut found));
        clauses.push(matches.collect::<Option<Vec<_>>>());
    }
    for when in &rule.when {
        clauses.push(condition(when, namespace, &mut found).map(|entry| vec![entry]));
    }
    let has_http = !found.is_empty();
    http.append(&mut found);
    if has_http && action == Action::Allow {
        return None;
    }
    Some(match clauses.into_iter().collect::<Option<Vec<_>>>() {
        Some(clauses) => Rule { clauses, unusable: false },
        None => Rule { clauses: Vec::new(), unusable: true },
    })
}

/// Notes attributes that only layer 7 sees.
fn note(found: &mut BTreeSet<&'static str>, attributes: &[(&'static str, &[String])]) {
    found.extend(attributes.iter().filter(|(_, values)| !values.is_empty()).map(|(name, _)| *name));
}

fn operation(operation: Option<&Operation>, found: &mut BTreeSet<&'static str>) -> Option<Match> {
    let operation = operation.filter(|operation| **operation != Operation::default())?;
    note(
        found,
        &[
            ("hosts", &operation.hosts),
            ("notHosts", &operation.not_hosts),
            ("methods", &operation.methods),
            ("notMethods", &operation.not_methods),
            ("paths", &operation.paths),
            ("notPaths", &operation.not_paths),
        ],
    );
    Some(Match {
        destination_ports: each(&operation.ports, text::port)?,
        not_destination_ports: each(&operation.not_ports, text::port)?,
        ..Match::default()
    })
}

fn source(source: Option<&Source>, namespace: &str, found: &mut BTreeSet<&'static str>) -> Option<Match> {
    let source = source.filter(|source| **source != Source::default())?;
    note(
        found,
        &[
            ("remoteIpBlocks", &source.remote_ip_blocks),
            ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ],
    );
    let accounts = |names: &[String]| each(names, |name| text::service_account(name, namespace));
    let mut entry = Match {
        source_ips: each(&source.ip_blocks, text::range)?,
        not_source_ips: each(&source.not_ip_blocks, text::range)?,
        namespaces: each(&source.namespaces, text::string)?,
        not_namespaces: each(&source.not_namespaces, text::string)?,
        principals: each(&source.principals, text::principal)?,
        not_principals: each(&source.not_principals, text::principal)?,
        service_accounts: accounts(&source.service_accounts)?,
        not_service_accounts: accounts(&source.not_service_accounts)?,
        ..Match::default()
    };
    trust_domains(source, &mut entry)?;
    Some(entry)
}

/// A trust domain is the beginning of a principal. Together with principals it cannot be said, since the values of
/// one field are alternatives.
fn trust_domains(source: &Source, entry: &mut Match) -> Option<()> {
    let prefix = |domain: &String| match text::string(domain).ok()? {
        StringMatch::Exact(domain) => Some(StringMatch::Prefix(format!("{domain}/").into())),
        StringMatch::Prefix(domain) => Some(StringMatch::Prefix(domain)),
        StringMatch::Presence => Some(StringMatch::Presence),
        StringMatch::Suffix(_) => None,
    };
    if !source.trust_domains.is_empty() {
        if !entry.principals.is_empty() {
            return None;
        }
        entry.principals = source.trust_domains.iter().map(prefix).collect::<Option<_>>()?;
    }
    entry.not_principals.extend(source.not_trust_domains.iter().map(prefix).collect::<Option<Vec<_>>>()?);
    Some(())
}

/// The L4 keys of `when`; any other key is layer 7's and leaves the match empty.
fn condition(when: &RuleCondition, namespace: &str, found: &mut BTreeSet<&'static str>) -> Option<Match> {
    let (values, not_values) = (&when.values, &when.not_values);
    if values.is_empty() && not_values.is_empty() {
        return None;
    }
    let mut entry = Match::default();
    match text::attribute(&when.key)? {
        Attribute::SourceIp => {
            (entry.source_ips, entry.not_source_ips) = both(values, not_values, text::range)?;
        }
        Attribute::SourceNamespace => {
            (entry.namespaces, entry.not_namespaces) = both(values, not_values, text::string)?;
        }
        Attribute::SourcePrincipal => {
            (entry.principals, entry.not_principals) = both(values, not_values, text::principal)?;
        }
        Attribute::SourceServiceAccount => {
            let account = |name: &str| text::service_account(name, namespace);
            (entry.service_accounts, entry.not_service_accounts) = both(values, not_values, account)?;
        }
        Attribute::DestinationIp => {
            (entry.destination_ips, entry.not_destination_ips) = both(values, not_values, text::range)?;
        }
        Attribute::DestinationPort => {
            (entry.destination_ports, entry.not_destination_ports) = both(values, not_values, text::port)?;
        }
        Attribute::RemoteIp => drop(found.insert("remote.ip")),
        Attribute::Layer7(family) => drop(found.insert(family)),
    }
    Some(entry)
}

/// Reads every text of a list; none if one of them cannot be read.
fn each<T>(texts: &[String], read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
    texts.iter().map(|text| read(text).ok()).collect()
}

fn both<T>(
    values: &[String],
    not_values: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<(Vec<T>, Vec<T>)> {
    Some((each(values, &read)?, each(not_values, &read)?))
}
