//! Checks of AuthorizationPolicies.

use super::{Problem, Problems, check_selector, check_target, not_a_cidr, not_a_match, not_a_port, rules};
use crate::istio::{
    Action, AuthorizationPolicy, Operation, RuleCondition, Source,
    text::{self, Attribute},
};

/// What is wrong with an AuthorizationPolicy.
pub fn authorization_policy(policy: &AuthorizationPolicy) -> Vec<Problem> {
    let spec = &policy.spec;
    let mut problems = Problems::default();
    check_selector(&mut problems, spec.selector.as_ref());
    let ways = [spec.selector.is_some(), spec.target_ref.is_some(), !spec.target_refs.is_empty()];
    let ways = ways.into_iter().filter(|given| *given).count();
    problems.check(ways <= 1, "spec", rules::ONE_TARGET.message);
    if let Some(target) = &spec.target_ref {
        check_target(&mut problems, "spec.targetRef", target);
    }
    for (index, target) in spec.target_refs.iter().enumerate() {
        check_target(&mut problems, &format!("spec.targetRefs[{index}]"), target);
    }
    match (&spec.provider, spec.action) {
        (Some(provider), Action::Custom) => {
            problems.check(!provider.name.is_empty(), "spec.provider.name", "a CUSTOM policy names its provider");
        }
        (None, Action::Custom) => problems.add("spec.provider", rules::PROVIDER_NEEDED.message),
        (Some(_), _) => problems.add("spec.provider", rules::PROVIDER_USELESS.message),
        (None, _) => {}
    }
    problems.check(spec.action != Action::Deny || !spec.rules.is_empty(), "spec.rules", rules::DENIES_NOTHING.message);
    for (index, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        for (index, from) in rule.from.iter().enumerate() {
            let path = format!("{path}.from[{index}].source");
            match &from.source {
                Some(source) => check_source(&mut problems, &path, source),
                None => problems.add(path, "is missing; leave out the whole entry to match every source"),
            }
        }
        for (index, to) in rule.to.iter().enumerate() {
            let path = format!("{path}.to[{index}].operation");
            match &to.operation {
                Some(operation) => check_operation(&mut problems, &path, operation),
                None => problems.add(path, "is missing; leave out the whole entry to match every operation"),
            }
        }
        for (index, condition) in rule.when.iter().enumerate() {
            check_condition(&mut problems, &format!("{path}.when[{index}]"), condition);
        }
    }
    problems.0
}

fn check_source(problems: &mut Problems, path: &str, source: &Source) {
    problems.check(*source != Source::default(), path, "is empty; say at least one thing about the source");
    for (name, values) in [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ] {
        problems.each(&format!("{path}.{name}"), values, not_a_cidr);
    }
    for (name, values) in [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ] {
        problems.each(&format!("{path}.{name}"), values, not_a_match);
    }
    for (name, values) in
        [("serviceAccounts", &source.service_accounts), ("notServiceAccounts", &source.not_service_accounts)]
    {
        problems.each(&format!("{path}.{name}"), values, not_a_service_account);
    }
    let by_account = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let by_identity = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    problems.check(
        !by_account || by_identity.iter().all(|values| values.is_empty()),
        path,
        "serviceAccounts cannot be combined with principals or namespaces",
    );
}

fn not_a_service_account(text: &str) -> Option<String> {
    text::service_account(text, "own").err()
}

fn check_operation(problems: &mut Problems, path: &str, operation: &Operation) {
    problems.check(*operation != Operation::default(), path, "is empty; say at least one thing about the operation");
    problems.each(&format!("{path}.ports"), &operation.ports, not_a_port);
    problems.each(&format!("{path}.notPorts"), &operation.not_ports, not_a_port);
    for (name, values) in [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ] {
        problems.each(&format!("{path}.{name}"), values, not_a_match);
    }
    for (name, values) in [("paths", &operation.paths), ("notPaths", &operation.not_paths)] {
        problems.each(&format!("{path}.{name}"), values, bad_path_template);
    }
}

/// `{*}` stands for one segment and `{**}` for the rest; they stand alone in a segment.
fn bad_path_template(path: &str) -> Option<String> {
    if !path.contains(['{', '}']) {
        return None;
    }
    let segments: Vec<_> = path.split('/').collect();
    let rest = segments.iter().position(|segment| *segment == "{**}");
    let valid = segments.iter().all(|segment| matches!(*segment, "{*}" | "{**}") || !segment.contains(['{', '}', '*']))
        && rest.is_none_or(|rest| segments[rest + 1..].iter().all(|segment| !matches!(*segment, "{*}" | "{**}")));
    (!valid).then(|| {
        format!("{path:?}: {{*}} and {{**}} stand alone between slashes, {{**}} last, and without other wildcards")
    })
}

fn check_condition(problems: &mut Problems, path: &str, condition: &RuleCondition) {
    let key = condition.key.as_str();
    problems.check(!condition.values.is_empty() || !condition.not_values.is_empty(), path, "give values or notValues");
    let Some(attribute) = text::attribute(key) else {
        problems.add(format!("{path}.key"), format!("{key:?} is not an attribute that can be asked for"));
        return;
    };
    let wrong = match attribute {
        Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => not_a_cidr,
        Attribute::DestinationPort => not_a_port,
        Attribute::SourceServiceAccount => not_a_service_account,
        Attribute::SourceNamespace | Attribute::SourcePrincipal | Attribute::Layer7(_) => not_a_match,
    };
    problems.each(&format!("{path}.values"), &condition.values, wrong);
    problems.each(&format!("{path}.notValues"), &condition.not_values, wrong);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::told;
    use super::*;
    use crate::Resource;

    #[rstest]
    #[case(json!({}), &[])]
    #[case(json!({"rules": [{}]}), &[])]
    #[case(json!({"action": "DENY"}), &["spec.rules"])]
    #[case(json!({"action": "CUSTOM", "rules": [{}]}), &["spec.provider"])]
    #[case(json!({"selector": {}, "targetRefs": [{"kind": "Service", "name": "a"}]}), &["spec"])]
    #[case(json!({"targetRefs": [{"kind": "Pod", "name": "a"}]}), &["spec.targetRefs[0]"])]
    #[case(json!({"selector": {"matchLabels": {"app": "*"}}}), &["spec.selector.matchLabels[app]"])]
    #[case(json!({"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.0/8", "::1", "10.0.0.0/33"]}}]}]}),
        &["spec.rules[0].from[0].source.ipBlocks[2]"])]
    #[case(json!({"rules": [{"from": [{}]}]}), &["spec.rules[0].from[0].source"])]
    #[case(json!({"rules": [{"from": [{"source": {}}]}]}), &["spec.rules[0].from[0].source"])]
    #[case(json!({"rules": [{"from": [{"source": {"serviceAccounts": ["a/b"], "namespaces": ["c"]}}]}]}),
        &["spec.rules[0].from[0].source"])]
    #[case(json!({"rules": [{"from": [{"source": {"serviceAccounts": ["a/b/c", "*"]}}]}]}),
        &["spec.rules[0].from[0].source.serviceAccounts[0]", "spec.rules[0].from[0].source.serviceAccounts[1]"])]
    #[case(json!({"rules": [{"to": [{"operation": {"ports": ["80", "http", "0"]}}]}]}),
        &["spec.rules[0].to[0].operation.ports[1]", "spec.rules[0].to[0].operation.ports[2]"])]
    #[case(json!({"rules": [{"to": [{"operation": {"paths": ["/a/{*}/b", "/a/{**}", "/{**}/{*}", "/x{*}"]}}]}]}),
        &["spec.rules[0].to[0].operation.paths[2]", "spec.rules[0].to[0].operation.paths[3]"])]
    #[case(json!({"rules": [{"when": [{"key": "source.ip", "values": ["a"]}, {"key": "weather", "values": ["x"]},
        {"key": "request.headers[x]", "values": ["y"]}, {"key": "request.headers[]"}]}]}),
        &["spec.rules[0].when[0].values[0]", "spec.rules[0].when[1].key", "spec.rules[0].when[3]", "spec.rules[0].when[3].key"])]
    fn problems_name_their_field(#[case] spec: Value, #[case] paths: &[&str]) {
        let policy = AuthorizationPolicy::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        let problems = authorization_policy(&policy);
        assert_eq!(told(&problems), paths, "{problems:?}");
    }
}
