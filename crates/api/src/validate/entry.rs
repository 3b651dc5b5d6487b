//! Checks of ServiceEntries and WorkloadEntries.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{Problem, Problems, not_a_cidr, not_a_hostname, rules};
use crate::istio::{Location, Resolution, ServiceEntry, ServiceEntrySpec, WorkloadEntry, WorkloadEntrySpec};

/// What is wrong with a ServiceEntry.
pub fn service_entry(entry: &ServiceEntry) -> Vec<Problem> {
    let spec = &entry.spec;
    let mut problems = Problems::default();
    problems.check(!spec.hosts.is_empty(), "spec.hosts", "a service entry has at least one host");
    problems.each("spec.hosts", &spec.hosts, |host| not_a_hostname(host, true));
    problems.each("spec.addresses", &spec.addresses, not_a_cidr);
    check_ports(&mut problems, spec);
    problems.check(
        spec.workload_selector.is_none() || spec.endpoints.is_empty(),
        "spec",
        rules::ENDPOINTS_OR_SELECTOR.message,
    );
    let labels = spec.workload_selector.iter().flat_map(|selector| &selector.labels);
    for (key, value) in labels {
        problems.check(
            !key.is_empty() && !value.contains('*'),
            format!("spec.workloadSelector.labels[{key}]"),
            "wildcards are not supported",
        );
    }
    check_resolution(&mut problems, spec);
    let by_name = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns);
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{index}]");
        check_workload(&mut problems, &path, endpoint);
        let is_address = endpoint.address.parse::<IpAddr>().is_ok() || endpoint.address.starts_with("unix://");
        problems.check(
            by_name || endpoint.address.is_empty() || is_address,
            format!("{path}.address"),
            "a name is resolved only with resolution DNS; with STATIC give an IP address",
        );
        for name in endpoint.ports.keys() {
            let known = spec.ports.iter().any(|port| port.name == *name);
            problems.check(known, format!("{path}.ports[{name}]"), "the service entry has no port of this name");
        }
    }
    problems.0
}

fn check_ports(problems: &mut Problems, spec: &ServiceEntrySpec) {
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        problems.check((1..=65535).contains(&port.number), format!("{path}.number"), "is not a port from 1 to 65535");
        problems.check(port.target_port <= 65535, format!("{path}.targetPort"), "is not a port from 1 to 65535");
        problems.check(!port.name.is_empty(), format!("{path}.name"), "a port has a name");
        problems.check(names.insert(&port.name), format!("{path}.name"), "another port has this name");
        problems.check(numbers.insert(port.number), format!("{path}.number"), "another port has this number");
    }
}

fn check_resolution(problems: &mut Problems, spec: &ServiceEntrySpec) {
    let wildcard = spec.hosts.iter().any(|host| host.starts_with('*'));
    match spec.resolution {
        Resolution::None => {
            problems.check(spec.endpoints.is_empty(), "spec.endpoints", rules::NONE_HAS_NO_ENDPOINTS.message);
        }
        Resolution::Static => {
            let none = spec.endpoints.is_empty() && spec.workload_selector.is_none();
            let external = spec.location == Location::MeshExternal;
            problems.check(
                !none || !external,
                "spec.endpoints",
                "resolution STATIC needs endpoints or a workloadSelector",
            );
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            problems.check(
                !wildcard || !spec.endpoints.is_empty(),
                "spec.hosts",
                "a wildcard cannot be resolved; use resolution DYNAMIC_DNS or give endpoints",
            );
            let one = spec.resolution != Resolution::DnsRoundRobin || spec.endpoints.len() <= 1;
            problems.check(one, "spec.endpoints", "resolution DNS_ROUND_ROBIN has at most one endpoint");
        }
        Resolution::DynamicDns => {
            problems.check(wildcard, "spec.hosts", "resolution DYNAMIC_DNS is for wildcard hosts; use DNS");
            problems.check(spec.endpoints.is_empty(), "spec.endpoints", "resolution DYNAMIC_DNS has no endpoints");
        }
    }
    let ranges = spec.addresses.iter().any(|address| address.contains('/'));
    let may_range = matches!(spec.resolution, Resolution::None | Resolution::Static);
    problems.check(!ranges || may_range, "spec.addresses", "CIDR ranges are for resolution NONE and STATIC only");
}

/// What is wrong with a WorkloadEntry.
pub fn workload_entry(entry: &WorkloadEntry) -> Vec<Problem> {
    let mut problems = Problems::default();
    check_workload(&mut problems, "spec", &entry.spec);
    problems.0
}

fn check_workload(problems: &mut Problems, path: &str, workload: &WorkloadEntrySpec) {
    let address = workload.address.as_str();
    if let Some(socket) = address.strip_prefix("unix://") {
        let valid =
            (socket.starts_with('/') && !socket.ends_with('/')) || (socket.starts_with('@') && socket.len() > 1);
        problems.check(
            valid,
            format!("{path}.address"),
            "a Unix socket is an absolute path or an abstract name (@name)",
        );
        problems.check(workload.ports.is_empty(), format!("{path}.ports"), "a Unix socket has no ports");
    } else if address.is_empty() {
        problems.check(
            !workload.network.is_empty(),
            format!("{path}.address"),
            "without an address the network must be given",
        );
    } else if address.parse::<IpAddr>().is_err()
        && let Some(message) = not_a_hostname(address, false)
    {
        problems.add(format!("{path}.address"), message);
    }
    for (name, port) in &workload.ports {
        let path = format!("{path}.ports[{name}]");
        problems.check((1..=65535).contains(port), &path, "is not a port from 1 to 65535");
        problems.check(!name.is_empty() && name.len() < 63, &path, "a port's name has 1 to 62 characters");
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::told;
    use super::*;
    use crate::Resource;

    #[rstest]
    #[case(json!({"hosts": ["a.example.com"], "resolution": "DNS", "ports": [{"number": 443, "name": "tls"}]}), &[])]
    #[case(json!({}), &["spec.hosts"])]
    #[case(json!({"hosts": ["*"]}), &["spec.hosts[0]"])]
    #[case(json!({"hosts": ["*.a.com"], "resolution": "DNS"}), &["spec.hosts"])]
    #[case(json!({"hosts": ["*.a.com"], "resolution": "DYNAMIC_DNS"}), &[])]
    #[case(json!({"hosts": ["a"], "ports": [{"number": 0, "name": "x"}, {"number": 1, "name": "x"}]}),
        &["spec.ports[0].number", "spec.ports[1].name"])]
    #[case(json!({"hosts": ["a"], "resolution": "STATIC", "endpoints": [{"address": "a.com"}]}), &["spec.endpoints[0].address"])]
    #[case(json!({"hosts": ["a"], "endpoints": [{"address": "10.0.0.1"}]}), &["spec.endpoints"])]
    #[case(json!({"hosts": ["a"], "resolution": "STATIC"}), &["spec.endpoints"])]
    #[case(json!({"hosts": ["a"], "resolution": "DNS", "addresses": ["10.0.0.0/8"]}), &["spec.addresses"])]
    #[case(json!({"hosts": ["a"], "resolution": "STATIC", "endpoints": [{"address": "::1", "ports": {"x": 1}}]}),
        &["spec.endpoints[0].ports[x]"])]
    fn problems_of_a_service_entry_name_their_field(#[case] spec: Value, #[case] paths: &[&str]) {
        let entry = ServiceEntry::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        let problems = service_entry(&entry);
        assert_eq!(told(&problems), paths, "{problems:?}");
    }

    #[rstest]
    #[case(json!({"address": "10.0.0.1"}), &[])]
    #[case(json!({"network": "other"}), &[])]
    #[case(json!({}), &["spec.address"])]
    #[case(json!({"address": "unix://relative"}), &["spec.address"])]
    #[case(json!({"address": "unix:///a", "ports": {"x": 1}}), &["spec.ports"])]
    #[case(json!({"address": "a_b..c"}), &["spec.address"])]
    #[case(json!({"address": "a", "ports": {"x": 70000}}), &["spec.ports[x]"])]
    fn problems_of_a_workload_entry_name_their_field(#[case] spec: Value, #[case] paths: &[&str]) {
        let entry = WorkloadEntry::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        assert_eq!(told(&workload_entry(&entry)), paths);
    }
}
