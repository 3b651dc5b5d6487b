//! Where a pod may run and where it runs best.
//!
//! A node fits if it is ready and schedulable, its labels match the pod's selector and required affinity is not asked
//! for in a way that is not read here (then the pod waits and says so); of those that fit, the one with the fewest pods.
//! Resources are not counted: pods are processes of one machine.

use std::collections::BTreeMap;

use api::{Node, Pod, Resource, Taint, Toleration};

/// Chooses a node for the pod, or says for each node why not.
pub(super) fn place<'a>(pod: &Pod, nodes: &[&'a Node], load: &BTreeMap<&str, usize>) -> Result<&'a str, String> {
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for node in nodes {
        match refusal(pod, node) {
            None => fitting.push(*node),
            Some(reason) => *refusals.entry(reason).or_default() += 1,
        }
    }
    let best = fitting.into_iter().min_by_key(|node| (load.get(node.name()).copied().unwrap_or(0), node.name()));
    best.map(|node| node.name()).ok_or_else(|| {
        let reasons: Vec<_> = refusals.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let reasons = if reasons.is_empty() { "no node has registered yet".to_owned() } else { reasons.join(", ") };
        format!("0/{} nodes are available: {reasons}.", nodes.len())
    })
}

/// Why a new pod may not be put on this node.
fn refusal(pod: &Pod, node: &Node) -> Option<String> {
    if !is_ready(node) {
        return Some("node(s) were not ready".to_owned());
    }
    if node.spec.unschedulable {
        return Some("node(s) were unschedulable".to_owned());
    }
    if !matches_selector(&pod.spec.node_selector, node) || has_node_affinity(pod) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    untolerated(&pod.spec.tolerations, node)
        .map(|taint| format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value))
}

/// Whether a DaemonSet's pod belongs on this node. Its pods also run where others may not be put any more.
pub(super) fn wants_daemon(template: &api::PodTemplateSpec, node: &Node) -> bool {
    let spec = &template.spec;
    matches_selector(&spec.node_selector, node)
        && (spec.node_name.is_empty() || spec.node_name == node.name())
        && node.metadata().deletion_timestamp.is_none()
        && untolerated(&spec.tolerations, node).is_none_or(|taint| taint.key.starts_with("node.kubernetes.io/"))
}

pub(super) fn is_ready(node: &Node) -> bool {
    node.status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.is_true())
}

fn matches_selector(selector: &BTreeMap<String, String>, node: &Node) -> bool {
    selector.iter().all(|(key, value)| node.metadata().label(key) == Some(value.as_str()))
}

/// Required node affinity is not read here, and a pod must not run where it said that it may not.
fn has_node_affinity(pod: &Pod) -> bool {
    let required = |affinity: &serde_json::Value| {
        affinity.pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution").is_some()
    };
    pod.spec.affinity.as_ref().is_some_and(required)
}

fn untolerated<'a>(tolerations: &[Toleration], node: &'a Node) -> Option<&'a Taint> {
    let repels = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    node.spec.taints.iter().filter(repels).find(|taint| !tolerations.iter().any(|one| tolerates(one, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.is_empty() || toleration.effect == taint.effect;
    let key = toleration.key.is_empty() || toleration.key == taint.key;
    let value = match toleration.operator.as_str() {
        "Exists" => true,
        _ => !toleration.key.is_empty() && toleration.value == taint.value,
    };
    effect && key && value
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::controllers) fn node(name: &str) -> Node {
        let mut node = Node { metadata: api::ObjectMeta::named("", name), ..Node::default() };
        node.metadata.labels.insert("kubernetes.io/hostname".to_owned(), name.to_owned());
        node.status.conditions.push(api::Condition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..api::Condition::default()
        });
        node
    }

    fn tainted(name: &str) -> Node {
        let mut node = node(name);
        node.spec.taints.push(Taint {
            key: "gpu".into(),
            value: "yes".into(),
            effect: "NoSchedule".into(),
            time_added: None,
        });
        node
    }

    fn toleration(key: &str, operator: &str, value: &str) -> Toleration {
        Toleration { key: key.into(), operator: operator.into(), value: value.into(), ..Toleration::default() }
    }

    #[rstest::rstest]
    #[case::exists_everything("", "Exists", "", true)]
    #[case::exists_key("gpu", "Exists", "", true)]
    #[case::equal("gpu", "Equal", "yes", true)]
    #[case::equal_by_default("gpu", "", "yes", true)]
    #[case::other_value("gpu", "", "no", false)]
    #[case::other_key("disk", "Exists", "", false)]
    fn tolerating(#[case] key: &str, #[case] operator: &str, #[case] value: &str, #[case] fits: bool) {
        let mut pod = Pod::default();
        pod.spec.tolerations.push(toleration(key, operator, value));
        assert_eq!(place(&pod, &[&tainted("n1")], &BTreeMap::new()).is_ok(), fits);
    }

    #[test]
    fn the_emptiest_node_is_chosen() {
        let (one, two) = (node("n1"), node("n2"));
        let load = BTreeMap::from([("n1", 2), ("n2", 1)]);
        assert_eq!(place(&Pod::default(), &[&one, &two], &load), Ok("n2"));
        assert_eq!(place(&Pod::default(), &[&one, &two], &BTreeMap::new()), Ok("n1"));
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_told_why() {
        let mut pod = Pod::default();
        assert_eq!(
            place(&pod, &[], &BTreeMap::new()).unwrap_err(),
            "0/0 nodes are available: no node has registered yet."
        );
        pod.spec.node_selector.insert("disk".to_owned(), "ssd".to_owned());
        let mut down = node("n2");
        down.status.conditions.clear();
        assert_eq!(
            place(&pod, &[&node("n1"), &down], &BTreeMap::new()).unwrap_err(),
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were not ready."
        );
    }
}
