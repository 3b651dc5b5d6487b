//! Checks that an API server can make by itself, as CEL rules of a kind's definition.
//!
//! Each rule is here once, with the sentence that our own check of the same thing says: whoever is refused by a cluster, by the
//! webhook, by the embedded API or by `validate` reads the same words.

use serde_json::{Value, json};

/// A rule about the `spec` of a kind.
#[derive(Debug)]
pub struct Rule {
    /// Kind.
    pub kind: &'static str,
    /// The CEL expression; `self` is the spec.
    pub cel: &'static str,
    /// What is said to whoever breaks it.
    pub message: &'static str,
}

pub(super) const ONE_TARGET: Rule = Rule {
    kind: "AuthorizationPolicy",
    cel: "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) && size(self.targetRefs) > 0 ? 1 : 0) <= 1",
    message: "give only one of selector, targetRef and targetRefs",
};
pub(super) const PROVIDER_NEEDED: Rule = Rule {
    kind: "AuthorizationPolicy",
    cel: "!(has(self.action) && self.action == 'CUSTOM') || has(self.provider)",
    message: "a CUSTOM policy needs a provider",
};
pub(super) const PROVIDER_USELESS: Rule = Rule {
    kind: "AuthorizationPolicy",
    cel: "!has(self.provider) || (has(self.action) && self.action == 'CUSTOM')",
    message: "only a CUSTOM policy has a provider",
};
pub(super) const DENIES_NOTHING: Rule = Rule {
    kind: "AuthorizationPolicy",
    cel: "!(has(self.action) && self.action == 'DENY') || (has(self.rules) && size(self.rules) > 0)",
    message: "a DENY policy without rules never denies; an empty rule ({}) denies everything",
};
pub(super) const PORTS_OF_WHOM: Rule = Rule {
    kind: "PeerAuthentication",
    cel: "!has(self.portLevelMtls) || size(self.portLevelMtls) == 0 || \
          (has(self.selector) && has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0)",
    message: "ports belong to workloads, so a selector must say which",
};
pub(super) const ENDPOINTS_OR_SELECTOR: Rule = Rule {
    kind: "ServiceEntry",
    cel: "!has(self.workloadSelector) || !has(self.endpoints) || size(self.endpoints) == 0",
    message: "give endpoints or a workloadSelector, not both",
};
pub(super) const NONE_HAS_NO_ENDPOINTS: Rule = Rule {
    kind: "ServiceEntry",
    cel: "(has(self.resolution) && self.resolution != 'NONE') || !has(self.endpoints) || size(self.endpoints) == 0",
    message: "resolution NONE uses the dialled address, so there are no endpoints",
};

/// Every rule.
pub const RULES: [&Rule; 7] = [
    &ONE_TARGET,
    &PROVIDER_NEEDED,
    &PROVIDER_USELESS,
    &DENIES_NOTHING,
    &PORTS_OF_WHOM,
    &ENDPOINTS_OR_SELECTOR,
    &NONE_HAS_NO_ENDPOINTS,
];

/// The rules of a kind as its definition has them; none for a kind without any.
pub fn of_kind(kind: &str) -> Option<Value> {
    let rules = RULES.iter().filter(|rule| rule.kind == kind);
    let rules: Vec<_> = rules.map(|rule| json!({"rule": rule.cel, "message": rule.message})).collect();
    (!rules.is_empty()).then(|| rules.into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::validate::object;

    #[rstest]
    #[case(&ONE_TARGET, json!({"selector": {}, "targetRefs": [{"kind": "Service", "name": "a"}]}))]
    #[case(&PROVIDER_NEEDED, json!({"action": "CUSTOM", "rules": [{}]}))]
    #[case(&PROVIDER_USELESS, json!({"provider": {"name": "a"}}))]
    #[case(&DENIES_NOTHING, json!({"action": "DENY"}))]
    #[case(&PORTS_OF_WHOM, json!({"portLevelMtls": {"80": {"mode": "STRICT"}}}))]
    #[case(&ENDPOINTS_OR_SELECTOR, json!({"hosts": ["a.b"], "workloadSelector": {}, "resolution": "STATIC", "endpoints": [{"address": "10.0.0.1"}]}))]
    #[case(&NONE_HAS_NO_ENDPOINTS, json!({"hosts": ["a.b"], "endpoints": [{"address": "10.0.0.1"}]}))]
    fn our_own_check_says_the_same(#[case] rule: &Rule, #[case] spec: Value) {
        let group = if rule.kind == "ServiceEntry" { "networking.istio.io" } else { "security.istio.io" };
        let value =
            json!({"apiVersion": format!("{group}/v1"), "kind": rule.kind, "metadata": {"name": "a"}, "spec": spec});
        let problems = object(&value);
        assert!(problems.iter().any(|problem| problem.message == rule.message), "{problems:?}");
        let definition = crate::crds().into_iter().find(|definition| definition["spec"]["names"]["kind"] == rule.kind);
        let schema = &definition.unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let rules = schema["x-kubernetes-validations"].as_array().unwrap();
        assert!(rules.iter().any(|held| held["rule"] == rule.cel), "{rules:?}");
    }
}
