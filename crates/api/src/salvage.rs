//! What can still be read of a policy that does not have its shape, so that it goes on keeping out.
//!
//! Each part is read by itself. A part that cannot be read never lets more in: a rule says nothing, which whoever
//! enforces it must take as "allows nothing" or "denies everything"; without its action a policy denies; without the
//! words that say whom it concerns it denies everybody. Nothing here looks at what the object said before: after a
//! restart nobody would remember that.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::istio::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, MutualTls, MutualTlsMode, PeerAuthentication,
    PeerAuthenticationSpec, Rule, RuleFrom,
};
use crate::json::prune_nulls;
use crate::meta::ObjectMeta;
use crate::shaped;

/// A policy as strict as what is left of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Salvaged<T> {
    /// The policy.
    pub policy: T,
    /// Whom it concerns cannot be read: everybody in its namespace.
    pub everybody: bool,
}

/// What is left of an AuthorizationPolicy.
pub fn authorization_policy(value: &Value) -> Salvaged<AuthorizationPolicy> {
    let metadata = metadata(value);
    let read = whom(&value["spec"]).map(|spec| AuthorizationPolicySpec { ..what(&value["spec"], spec) });
    let everybody = read.is_none();
    let spec = read.unwrap_or_else(|| AuthorizationPolicySpec {
        action: Action::Deny,
        rules: vec![Rule::default()],
        ..AuthorizationPolicySpec::default()
    });
    Salvaged { policy: AuthorizationPolicy { metadata, spec, ..AuthorizationPolicy::default() }, everybody }
}

/// The parts that say whom a policy concerns, if every one of them can be read.
fn whom(spec: &Value) -> Option<AuthorizationPolicySpec> {
    spec.is_object().then_some(())?;
    Some(AuthorizationPolicySpec {
        selector: part(&spec["selector"])?,
        target_ref: part(&spec["targetRef"])?,
        target_refs: part(&spec["targetRefs"])?,
        ..AuthorizationPolicySpec::default()
    })
}

fn what(spec: &Value, whom: AuthorizationPolicySpec) -> AuthorizationPolicySpec {
    // A rule about a source of which nothing is said: it cannot be met, and cannot be trusted.
    let unreadable = || Rule { from: vec![RuleFrom::default()], ..Rule::default() };
    let Some(action) = part(&spec["action"]) else {
        return AuthorizationPolicySpec { action: Action::Deny, rules: vec![Rule::default()], ..whom };
    };
    let rules = match &spec["rules"] {
        Value::Null => Vec::new(),
        Value::Array(rules) => rules.iter().map(|rule| strictly(rule).unwrap_or_else(unreadable)).collect(),
        _ => vec![unreadable()],
    };
    AuthorizationPolicySpec { action, rules, provider: part(&spec["provider"]).flatten(), ..whom }
}

/// What is left of a PeerAuthentication.
pub fn peer_authentication(value: &Value) -> Salvaged<PeerAuthentication> {
    let spec = &value["spec"];
    let strict = || MutualTls { mode: MutualTlsMode::Strict };
    let selector = if spec.is_object() { part(&spec["selector"]) } else { None };
    let everybody = selector.is_none();
    let mut read = PeerAuthenticationSpec { selector: selector.flatten(), ..PeerAuthenticationSpec::default() };
    read.mtls = part(&spec["mtls"]).unwrap_or_else(|| Some(strict()));
    match &spec["portLevelMtls"] {
        Value::Null => {}
        Value::Object(ports) => {
            let mode = |value: &Value| strictly(value).unwrap_or_else(strict);
            read.port_level_mtls = ports.iter().map(|(port, value)| (port.clone(), mode(value))).collect();
        }
        _ => read.mtls = Some(strict()),
    }
    if everybody {
        (read.mtls, read.port_level_mtls) = (Some(strict()), Default::default());
    }
    let policy = PeerAuthentication { metadata: metadata(value), spec: read, ..PeerAuthentication::default() };
    Salvaged { policy, everybody }
}

/// Metadata, member by member.
fn metadata(value: &Value) -> ObjectMeta {
    let metadata = &value["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let texts = |key: &str| {
        let members = metadata[key].as_object().into_iter().flatten();
        members.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        generation: metadata["generation"].as_i64().unwrap_or_default(),
        creation_timestamp: strictly(&metadata["creationTimestamp"]),
        labels: texts("labels"),
        annotations: texts("annotations"),
        ..ObjectMeta::default()
    }
}

/// A part that may be absent; `None` when it cannot be read.
fn part<T: DeserializeOwned + Default>(value: &Value) -> Option<T> {
    if value.is_null() { Some(T::default()) } else { strictly(value) }
}

fn strictly<T: DeserializeOwned>(value: &Value) -> Option<T> {
    let mut value = value.clone();
    prune_nulls(&mut value);
    shaped::read(&value).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{Resource, istio::RuleTo};

    const SELECTOR: &str = "web";

    fn authorization(mut spec: Value) -> Salvaged<AuthorizationPolicy> {
        spec["selector"] = json!({"matchLabels": {"app": SELECTOR}});
        let object = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
        assert!(AuthorizationPolicy::from_value(object.clone()).is_err());
        authorization_policy(&object)
    }

    #[rstest]
    #[case::action(json!({"action": "MAYBE", "rules": [{"to": []}]}), Action::Deny, vec![Rule::default()])]
    #[case::rules(json!({"rules": "all"}), Action::Allow, vec![unreadable()])]
    #[case::one_rule(json!({"rules": [{}, {"from": 7}]}), Action::Allow, vec![Rule::default(), unreadable()])]
    #[case::a_null_in_a_list(json!({"action": "DENY", "rules": [null]}), Action::Deny, vec![unreadable()])]
    #[case::provider(json!({"action": "CUSTOM", "provider": 1, "rules": [{"to": [{}]}]}), Action::Custom, vec![Rule { to: vec![RuleTo::default()], ..Rule::default() }])]
    fn what_can_be_read_of_a_policy_stays(#[case] spec: Value, #[case] action: Action, #[case] rules: Vec<Rule>) {
        let Salvaged { policy, everybody } = authorization(spec);
        assert_eq!((policy.spec.action, policy.spec.rules), (action, rules));
        assert_eq!(policy.spec.selector.unwrap().match_labels["app"], SELECTOR);
        assert!(!everybody);
    }

    fn unreadable() -> Rule {
        Rule { from: vec![RuleFrom::default()], ..Rule::default() }
    }

    #[rstest]
    #[case(json!(null))]
    #[case(json!("deny"))]
    #[case(json!({"selector": "app=web", "rules": [{}]}))]
    #[case(json!({"selector": {"matchLabels": {"app": 1}}}))]
    #[case(json!({"targetRefs": {"kind": "Service", "name": "web"}}))]
    #[case(json!({"targetRef": ["web"]}))]
    fn a_policy_about_nobody_knows_whom_denies_everybody(#[case] spec: Value) {
        let object = json!({"metadata": {"name": "p", "namespace": "shop", "labels": 1}, "spec": spec});
        let Salvaged { policy, everybody } = authorization_policy(&object);
        assert!(everybody && policy.spec.selector.is_none() && policy.spec.targets().next().is_none());
        assert_eq!((policy.spec.action, policy.spec.rules), (Action::Deny, vec![Rule::default()]));
        assert_eq!((policy.metadata.namespace.as_str(), policy.metadata.name.as_str()), ("shop", "p"));
    }

    #[rstest]
    #[case::mode(json!({"mtls": {"mode": "MAYBE"}}), &[], false)]
    #[case::mtls(json!({"mtls": "off", "portLevelMtls": {"80": {"mode": "DISABLE"}}}), &[("80", MutualTlsMode::Disable)], false)]
    #[case::ports(json!({"mtls": {"mode": "PERMISSIVE"}, "portLevelMtls": [80]}), &[], false)]
    #[case::selector(json!({"selector": 1, "mtls": {"mode": "DISABLE"}, "portLevelMtls": {"80": {"mode": "DISABLE"}}}), &[], true)]
    #[case::nothing(json!(7), &[], true)]
    fn an_unreadable_mode_is_strict(
        #[case] spec: Value,
        #[case] ports: &[(&str, MutualTlsMode)],
        #[case] everybody: bool,
    ) {
        let salvaged = peer_authentication(&json!({"metadata": {"name": "p"}, "spec": spec}));
        assert_eq!(salvaged.policy.spec.mtls.unwrap().mode, MutualTlsMode::Strict);
        let read = salvaged.policy.spec.port_level_mtls.iter().map(|(port, mtls)| (port.as_str(), mtls.mode));
        assert_eq!(read.collect::<Vec<_>>(), ports);
        assert_eq!(salvaged.everybody, everybody);
    }

    #[test]
    fn one_unreadable_port_is_strict_and_the_others_stand() {
        let spec = json!({"mtls": {"mode": "PERMISSIVE"}, "portLevelMtls": {"80": {"mode": "DISABLE"}, "81": 7}});
        let policy = peer_authentication(&json!({"spec": spec})).policy;
        assert_eq!(policy.spec.mtls.unwrap().mode, MutualTlsMode::Permissive);
        assert_eq!(policy.spec.port_level_mtls["80"].mode, MutualTlsMode::Disable);
        assert_eq!(policy.spec.port_level_mtls["81"].mode, MutualTlsMode::Strict);
    }
}
