//! `istio.security.Authorization` ↔ [`Authorization`].
//!
//! Stricter than upstream: an element that cannot be understood is not dropped (an emptied DENY match would never
//! match) but makes its rule unusable, which `authz` reads as "allows nothing" or "denies everything".

use super::{ConversionError, ip, ip_bytes};
use ipnet::IpNet;
use model::{Action, Authorization, Match, PolicyScope, Rule, ServiceAccountMatch, StringMatch};
use prost::Message;
use proto::security as wire;

/// The model value of an Authorization resource's bytes.
pub fn decode_authorization(bytes: &[u8]) -> Result<Authorization, ConversionError> {
    let wire = wire::Authorization::decode(bytes)?;
    let scope = match wire::Scope::try_from(wire.scope) {
        Ok(wire::Scope::Global) => PolicyScope::Global,
        Ok(wire::Scope::Namespace) => PolicyScope::Namespace,
        Ok(wire::Scope::WorkloadSelector) => PolicyScope::WorkloadSelector,
        Err(_) => return Err(ConversionError::UnknownEnum { field: "scope", value: wire.scope }),
    };
    let action = match wire::Action::try_from(wire.action) {
        Ok(wire::Action::Allow) => Action::Allow,
        Ok(wire::Action::Deny) => Action::Deny,
        Err(_) => return Err(ConversionError::UnknownEnum { field: "action", value: wire.action }),
    };
    Ok(Authorization {
        rules: wire.rules.iter().map(rule).collect(),
        name: wire.name.into(),
        namespace: wire.namespace.into(),
        scope,
        action,
        dry_run: wire.dry_run,
    })
}

fn rule(wire: &wire::Rule) -> Rule {
    let clauses: Option<Vec<Vec<Match>>> =
        wire.clauses.iter().map(|clause| clause.matches.iter().map(decode_match).collect()).collect();
    match clauses {
        Some(clauses) => Rule { clauses, unusable: false },
        None => Rule { clauses: Vec::new(), unusable: true },
    }
}

/// `None` if any element is not understood; extensions are none of ours and are the writer's own risk.
fn decode_match(wire: &wire::Match) -> Option<Match> {
    Some(Match {
        namespaces: wire.namespaces.iter().map(string_match).collect::<Option<_>>()?,
        not_namespaces: wire.not_namespaces.iter().map(string_match).collect::<Option<_>>()?,
        principals: wire.principals.iter().map(string_match).collect::<Option<_>>()?,
        not_principals: wire.not_principals.iter().map(string_match).collect::<Option<_>>()?,
        service_accounts: wire.service_accounts.iter().map(service_account).collect(),
        not_service_accounts: wire.not_service_accounts.iter().map(service_account).collect(),
        source_ips: wire.source_ips.iter().map(range).collect::<Option<_>>()?,
        not_source_ips: wire.not_source_ips.iter().map(range).collect::<Option<_>>()?,
        destination_ips: wire.destination_ips.iter().map(range).collect::<Option<_>>()?,
        not_destination_ips: wire.not_destination_ips.iter().map(range).collect::<Option<_>>()?,
        destination_ports: wire.destination_ports.iter().map(port).collect::<Option<_>>()?,
        not_destination_ports: wire.not_destination_ports.iter().map(port).collect::<Option<_>>()?,
    })
}

fn string_match(wire: &wire::StringMatch) -> Option<StringMatch> {
    use wire::string_match::MatchType;
    Some(match wire.match_type.as_ref()? {
        MatchType::Exact(text) => StringMatch::Exact(text.as_str().into()),
        MatchType::Prefix(text) => StringMatch::Prefix(text.as_str().into()),
        MatchType::Suffix(text) => StringMatch::Suffix(text.as_str().into()),
        MatchType::Presence(_) => StringMatch::Presence,
    })
}

fn service_account(wire: &wire::ServiceAccountMatch) -> ServiceAccountMatch {
    ServiceAccountMatch {
        namespace: wire.namespace.as_str().into(),
        service_account: wire.service_account.as_str().into(),
    }
}

fn range(wire: &wire::Address) -> Option<IpNet> {
    let address = ip("address", &wire.address).ok()?;
    IpNet::new(address, u8::try_from(wire.length).ok()?).ok()
}

fn port(wire: &u32) -> Option<u16> {
    u16::try_from(*wire).ok()
}

/// The wire message of a policy. An unusable rule has no form of its own there, so it is sent as what it means.
pub fn encode_authorization(policy: &Authorization) -> wire::Authorization {
    wire::Authorization {
        name: policy.name.to_string(),
        namespace: policy.namespace.to_string(),
        scope: match policy.scope {
            PolicyScope::Global => wire::Scope::Global,
            PolicyScope::Namespace => wire::Scope::Namespace,
            PolicyScope::WorkloadSelector => wire::Scope::WorkloadSelector,
        }
        .into(),
        action: match policy.action {
            Action::Allow => wire::Action::Allow,
            Action::Deny => wire::Action::Deny,
        }
        .into(),
        rules: policy.rules.iter().map(|rule| encode_rule(rule, policy.action)).collect(),
        dry_run: policy.dry_run,
        extensions: Vec::new(),
    }
}

fn encode_rule(rule: &Rule, action: Action) -> wire::Rule {
    let clauses = match (rule.unusable, action) {
        // A rule without clauses matches everything, an empty match nothing.
        (true, Action::Deny) => Vec::new(),
        (true, Action::Allow) => vec![wire::Clause { matches: vec![wire::Match::default()] }],
        (false, _) => rule
            .clauses
            .iter()
            .map(|matches| wire::Clause { matches: matches.iter().map(encode_match).collect() })
            .collect(),
    };
    wire::Rule { clauses }
}

fn encode_match(entry: &Match) -> wire::Match {
    let strings = |list: &[StringMatch]| list.iter().map(encode_string_match).collect();
    let accounts = |list: &[ServiceAccountMatch]| list.iter().map(encode_service_account).collect();
    let ranges = |list: &[IpNet]| list.iter().map(encode_range).collect();
    let ports = |list: &[u16]| list.iter().copied().map(u32::from).collect();
    wire::Match {
        namespaces: strings(&entry.namespaces),
        not_namespaces: strings(&entry.not_namespaces),
        principals: strings(&entry.principals),
        not_principals: strings(&entry.not_principals),
        source_ips: ranges(&entry.source_ips),
        not_source_ips: ranges(&entry.not_source_ips),
        destination_ips: ranges(&entry.destination_ips),
        not_destination_ips: ranges(&entry.not_destination_ips),
        destination_ports: ports(&entry.destination_ports),
        not_destination_ports: ports(&entry.not_destination_ports),
        service_accounts: accounts(&entry.service_accounts),
        not_service_accounts: accounts(&entry.not_service_accounts),
        extensions: Vec::new(),
    }
}

fn encode_string_match(entry: &StringMatch) -> wire::StringMatch {
    use wire::string_match::MatchType;
    let match_type = match entry {
        StringMatch::Exact(text) => MatchType::Exact(text.to_string()),
        StringMatch::Prefix(text) => MatchType::Prefix(text.to_string()),
        StringMatch::Suffix(text) => MatchType::Suffix(text.to_string()),
        StringMatch::Presence => MatchType::Presence(()),
    };
    wire::StringMatch { match_type: Some(match_type) }
}

fn encode_service_account(entry: &ServiceAccountMatch) -> wire::ServiceAccountMatch {
    wire::ServiceAccountMatch {
        namespace: entry.namespace.to_string(),
        service_account: entry.service_account.to_string(),
    }
}

fn encode_range(range: &IpNet) -> wire::Address {
    wire::Address { address: ip_bytes(range.addr()), length: range.prefix_len().into() }
}
