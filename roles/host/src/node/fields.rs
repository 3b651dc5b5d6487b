//! Fields of a pod as text, for environments and downward files.

use std::collections::BTreeMap;

use api::{Container, Pod, Resource};

/// The value at a field path; `None` if the path is none that pods may read.
pub(super) fn value(pod: &Pod, path: &str) -> Option<String> {
    let metadata = pod.metadata();
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return None,
        };
        return Some(entries.get(key).cloned().unwrap_or_default());
    }
    let text = match path {
        "metadata.name" => pod.name(),
        "metadata.namespace" => pod.namespace(),
        "metadata.uid" => &metadata.uid,
        "metadata.labels" => return Some(lines(&metadata.labels)),
        "metadata.annotations" => return Some(lines(&metadata.annotations)),
        "spec.nodeName" => &pod.spec.node_name,
        "spec.serviceAccountName" => pod.service_account(),
        "status.hostIP" | "status.hostIPs" => &pod.status.host_ip,
        "status.podIP" | "status.podIPs" => &pod.status.pod_ip,
        _ => return None,
    };
    Some(text.to_owned())
}

/// `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` per line, as in Kubernetes' downward files.
fn lines(entries: &BTreeMap<String, String>) -> String {
    let lines: Vec<_> = entries.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A container's resource limit or request, scaled; without one, what the machine has.
pub(super) fn resource(pod: &Pod, container: &Container, field: &api::core::ResourceFieldSelector) -> String {
    let named = |candidate: &&Container| candidate.name == field.container_name;
    let container = pod.spec.containers.iter().find(named).unwrap_or(container);
    let (kind, name) = field.resource.split_once('.').unwrap_or(("limits", field.resource.as_str()));
    let amounts = if kind == "requests" { &container.resources.requests } else { &container.resources.limits };
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as i128);
    let amount = amounts.get(name).and_then(api::quantity::milli).unwrap_or_else(|| match (kind, name) {
        ("limits", "cpu") => cores() * 1_000,
        _ => 0,
    });
    let divisor = field.divisor.as_ref().and_then(api::quantity::milli).filter(|divisor| *divisor > 0);
    let divisor = divisor.unwrap_or(1_000);
    (amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("metadata.name", Some("web-1"))]
    #[case("metadata.labels['app']", Some("web"))]
    #[case("metadata.labels['none']", Some(""))]
    #[case("metadata.labels", Some("app=\"web\""))]
    #[case("spec.serviceAccountName", Some("default"))]
    #[case("status.podIP", Some("10.0.0.1"))]
    #[case("spec.containers", None)]
    #[case("spec.x['app']", None)]
    fn paths(#[case] path: &str, #[case] expected: Option<&str>) {
        let mut pod = Pod { metadata: api::ObjectMeta::named("shop", "web-1"), ..Pod::default() };
        pod.metadata.labels.insert("app".to_owned(), "web".to_owned());
        pod.status.pod_ip = "10.0.0.1".to_owned();
        assert_eq!(value(&pod, path).as_deref(), expected);
    }
}
