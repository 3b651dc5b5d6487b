//! Checks of PeerAuthentications.

use super::{Problem, Problems, check_selector, not_a_port, rules};
use crate::istio::PeerAuthentication;

/// What is wrong with a PeerAuthentication.
pub fn peer_authentication(policy: &PeerAuthentication) -> Vec<Problem> {
    let spec = &policy.spec;
    let mut problems = Problems::default();
    check_selector(&mut problems, spec.selector.as_ref());
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    problems.check(spec.port_level_mtls.is_empty() || selects, "spec.portLevelMtls", rules::PORTS_OF_WHOM.message);
    for port in spec.port_level_mtls.keys() {
        if let Some(message) = not_a_port(port) {
            problems.add(format!("spec.portLevelMtls[{port}]"), message);
        }
    }
    problems.0
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::told;
    use super::*;
    use crate::Resource;

    #[rstest]
    #[case(json!({"mtls": {"mode": "STRICT"}}), &[])]
    #[case(json!({"portLevelMtls": {"80": {"mode": "DISABLE"}}}), &["spec.portLevelMtls"])]
    #[case(json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"80": {}, "0": {}}}), &["spec.portLevelMtls[0]"])]
    fn problems_name_their_field(#[case] spec: Value, #[case] paths: &[&str]) {
        let policy = PeerAuthentication::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        assert_eq!(told(&peer_authentication(&policy)), paths);
    }
}
