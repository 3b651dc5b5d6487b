//! Which pods are in the mesh, and how: decided from labels and annotations alone.

use std::collections::BTreeMap;

use api::{LabelSelector, Namespace, Pod, Resource};
use serde::{Deserialize, Serialize};

const MODE: &str = "istio.io/dataplane-mode";
const SIDECAR: &str = "sidecar.istio.io/status";
const BYPASS_INBOUND: &str = "ambient.istio.io/bypass-inbound-capture";
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
const VIRTUAL_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";

/// Pods that match the one part, in namespaces that match the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnablementSelector {
    /// Which pods.
    pub pod_selector: LabelSelector,
    /// In which namespaces.
    pub namespace_selector: LabelSelector,
}

/// What applies to all pods of the node.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// A pod that matches any of these is in.
    pub selectors: Vec<EnablementSelector>,
    /// Except in these namespaces.
    pub excluded_namespaces: Vec<String>,
    /// Whether DNS is captured for pods that do not say.
    pub dns_capture: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { selectors: default_selectors(), excluded_namespaces: vec!["kube-system".to_owned()], dns_capture: true }
    }
}

/// A pod that says so itself; and any pod of a namespace that says so, unless the pod says no.
pub(crate) fn default_selectors() -> Vec<EnablementSelector> {
    let ambient = || BTreeMap::from([(MODE.to_owned(), "ambient".to_owned())]);
    let not_none = api::LabelSelectorRequirement {
        key: MODE.to_owned(),
        operator: "NotIn".to_owned(),
        values: vec!["none".to_owned()],
    };
    let labelled = LabelSelector { match_labels: ambient(), ..LabelSelector::default() };
    vec![
        EnablementSelector { pod_selector: labelled.clone(), namespace_selector: LabelSelector::default() },
        EnablementSelector {
            pod_selector: LabelSelector { match_expressions: vec![not_none], ..LabelSelector::default() },
            namespace_selector: labelled,
        },
    ]
}

/// Selectors from the setting's text; the usual ones when it is empty.
pub(crate) fn selectors(text: &str) -> Result<Vec<EnablementSelector>, String> {
    if text.trim().is_empty() {
        return Ok(default_selectors());
    }
    let value = api::yaml::read_value(text).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// How a pod is in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Enrolment {
    /// Whether its DNS goes to the node proxy.
    pub dns_capture: bool,
    /// Whether only its outbound traffic is captured.
    pub bypass_inbound: bool,
    /// Interfaces behind which something runs whose traffic is outbound although it comes in there.
    pub virtual_interfaces: Vec<String>,
}

/// Why a pod is not in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// No selector matches.
    NotSelected,
    /// It lives in the node's own network.
    HostNetwork,
    /// It has a sidecar.
    Sidecar,
    /// Its namespace is excluded.
    ExcludedNamespace,
    /// It has finished.
    Finished,
}

/// Whether and how a pod is in the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Enrol(Enrolment),
    /// It is not.
    Leave(Leave),
}

/// Decides about a pod. A namespace that is not known has no labels.
pub fn decide(pod: &Pod, namespace: Option<&Namespace>, rules: &Rules) -> Decision {
    let annotations = &pod.metadata.annotations;
    if pod.spec.host_network {
        return Decision::Leave(Leave::HostNetwork);
    }
    if annotations.contains_key(SIDECAR) {
        return Decision::Leave(Leave::Sidecar);
    }
    if rules.excluded_namespaces.iter().any(|excluded| excluded == pod.namespace()) {
        return Decision::Leave(Leave::ExcludedNamespace);
    }
    if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
        return Decision::Leave(Leave::Finished);
    }
    let nothing = BTreeMap::new();
    let namespace_labels = namespace.map_or(&nothing, |namespace| &namespace.metadata.labels);
    let selected = rules.selectors.iter().any(|selector| {
        selector.pod_selector.matches(&pod.metadata.labels) && selector.namespace_selector.matches(namespace_labels)
    });
    if !selected {
        return Decision::Leave(Leave::NotSelected);
    }
    let yes = |name: &str| annotations.get(name).map(|value| value == "true");
    Decision::Enrol(Enrolment {
        dns_capture: yes(DNS_CAPTURE).unwrap_or(rules.dns_capture),
        bypass_inbound: yes(BYPASS_INBOUND).unwrap_or(false),
        virtual_interfaces: annotations.get(VIRTUAL_INTERFACES).map(|names| interfaces(names)).unwrap_or_default(),
    })
}

fn interfaces(names: &str) -> Vec<String> {
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn pod(namespace: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Pod {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut pod = Pod::default();
        pod.metadata.namespace = namespace.to_owned();
        pod.metadata.labels = map(labels);
        pod.metadata.annotations = map(annotations);
        pod
    }

    fn namespace(mode: Option<&str>) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.labels.extend(mode.map(|mode| (MODE.to_owned(), mode.to_owned())));
        namespace
    }

    #[rstest]
    #[case::neither(None, None, Some(Leave::NotSelected))]
    #[case::pod(Some("ambient"), None, None)]
    #[case::namespace(None, Some("ambient"), None)]
    #[case::pod_says_no(Some("none"), Some("ambient"), Some(Leave::NotSelected))]
    #[case::namespace_says_no(Some("ambient"), Some("none"), None)]
    #[case::other_words(Some("sidecar"), None, Some(Leave::NotSelected))]
    fn labels(#[case] pod_mode: Option<&str>, #[case] ns_mode: Option<&str>, #[case] leave: Option<Leave>) {
        let labels: Vec<_> = pod_mode.map(|mode| (MODE, mode)).into_iter().collect();
        let decision = decide(&pod("shop", &labels, &[]), Some(&namespace(ns_mode)), &Rules::default());
        match leave {
            Some(why) => assert_eq!(decision, Decision::Leave(why)),
            None => assert!(matches!(decision, Decision::Enrol(_)), "{decision:?}"),
        }
    }

    #[test]
    fn hard_exclusions_come_before_labels() {
        let labels = [(MODE, "ambient")];
        let rules = Rules::default();
        let decide = |pod: &Pod| decide(pod, None, &rules);
        let mut host = pod("shop", &labels, &[]);
        host.spec.host_network = true;
        assert_eq!(decide(&host), Decision::Leave(Leave::HostNetwork));
        let sidecar = pod("shop", &labels, &[(SIDECAR, "{}")]);
        assert_eq!(decide(&sidecar), Decision::Leave(Leave::Sidecar));
        assert_eq!(decide(&pod("kube-system", &labels, &[])), Decision::Leave(Leave::ExcludedNamespace));
        for phase in ["Succeeded", "Failed"] {
            let mut finished = pod("shop", &labels, &[]);
            finished.status.phase = phase.to_owned();
            assert_eq!(decide(&finished), Decision::Leave(Leave::Finished), "{phase}");
        }
    }

    #[test]
    fn annotations_say_how() {
        let annotations = [(BYPASS_INBOUND, "true"), (DNS_CAPTURE, "false"), (VIRTUAL_INTERFACES, "docker0, br1,")];
        let pod = pod("shop", &[(MODE, "ambient")], &annotations);
        let expected = Enrolment {
            dns_capture: false,
            bypass_inbound: true,
            virtual_interfaces: vec!["docker0".to_owned(), "br1".to_owned()],
        };
        assert_eq!(decide(&pod, None, &Rules::default()), Decision::Enrol(expected));
    }

    #[test]
    fn the_setting_is_read_as_the_chart_writes_it() {
        let text = "- podSelector:\n    matchLabels:\n      istio.io/dataplane-mode: ambient\n\
                    - namespaceSelector:\n    matchLabels:\n      istio.io/dataplane-mode: ambient\n  podSelector:\n    \
                    matchExpressions:\n    - key: istio.io/dataplane-mode\n      operator: NotIn\n      values:\n      - none\n";
        assert_eq!(selectors(text).unwrap(), default_selectors());
        assert_eq!(selectors("  ").unwrap(), default_selectors());
        assert!(selectors("- podSelector: 7").is_err());
    }
}
