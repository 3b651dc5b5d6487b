//! The views of a dump: which rows, in which columns.

use jiff::Timestamp;

use super::dump::{Certificate, Connection, Dump, Link, Policy, Service, Workload, WorkloadState};
use crate::table::Table;

/// Which workloads to show; an absent filter lets everything pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkloadFilter {
    pub(crate) address: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) name: Option<String>,
}

fn passes(filter: Option<&String>, value: &str) -> bool {
    filter.is_none_or(|wanted| wanted == value)
}

/// Workloads in the dump's own order, which is by uid: that is how programs get them.
pub(crate) fn workloads<'a>(dump: &'a Dump, filter: &WorkloadFilter) -> Vec<&'a Workload> {
    let wanted = |workload: &&Workload| {
        let has_address = |address: &String| workload.workload_ips.contains(address) || workload.hostname == *address;
        filter.address.as_ref().is_none_or(has_address)
            && passes(filter.namespace.as_ref(), &workload.namespace)
            && passes(filter.node.as_ref(), &workload.node)
            && passes(filter.name.as_ref(), &workload.name)
    };
    dump.workloads.iter().filter(wanted).collect()
}

/// Workloads by namespace, name and node.
pub(crate) fn workload_table(dump: &Dump, workloads: &[&Workload]) -> Table {
    let mut table = Table::new(1, &["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"]);
    let mut workloads = workloads.to_vec();
    workloads.sort_by(|a, b| (&a.namespace, &a.name, &a.node).cmp(&(&b.namespace, &b.name, &b.node)));
    for workload in workloads {
        let address =
            if workload.workload_ips.is_empty() { workload.hostname.clone() } else { workload.workload_ips.join(",") };
        table.row([
            workload.namespace.clone(),
            workload.name.clone(),
            address,
            workload.node.clone(),
            dump.waypoint_name(workload.waypoint.as_ref()),
            workload.protocol.clone(),
        ]);
    }
    table
}

/// Services by namespace and name.
pub(crate) fn services<'a>(dump: &'a Dump, namespace: Option<&String>) -> Vec<&'a Service> {
    let mut services: Vec<_> = dump.services.iter().filter(|service| passes(namespace, &service.namespace)).collect();
    services.sort_by(|a, b| (&a.namespace, &a.name, &a.hostname).cmp(&(&b.namespace, &b.name, &b.hostname)));
    services
}

pub(crate) fn service_table(dump: &Dump, services: &[&Service]) -> Table {
    let mut table = Table::new(1, &["NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"]);
    for service in services {
        let vips: Vec<_> = service.vips.iter().map(|vip| without_network(vip)).collect();
        let healthy = service.endpoints.values().filter(|endpoint| {
            let workload = dump.workloads.iter().find(|workload| workload.uid == endpoint.workload_uid);
            let status = workload.map_or(endpoint.status.as_str(), |workload| workload.status.as_str());
            status.is_empty() || status == "Healthy"
        });
        table.row([
            service.namespace.clone(),
            service.name.clone(),
            vips.join(","),
            dump.waypoint_name(service.waypoint.as_ref()),
            format!("{}/{}", healthy.count(), service.endpoints.len()),
        ]);
    }
    table
}

/// `net/10.0.0.1` is `10.0.0.1`.
fn without_network(address: &str) -> &str {
    address.split_once('/').map_or(address, |(_, address)| address)
}

/// Policies by namespace and name.
pub(crate) fn policies<'a>(dump: &'a Dump, namespace: Option<&String>) -> Vec<&'a Policy> {
    let mut policies: Vec<_> = dump.policies.iter().filter(|policy| passes(namespace, &policy.namespace)).collect();
    policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    policies
}

pub(crate) fn policy_table(policies: &[&Policy]) -> Table {
    let mut table = Table::new(1, &["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"]);
    for policy in policies {
        table.row([&policy.namespace, &policy.name, &policy.action, &policy.scope].map(Clone::clone));
    }
    table
}

/// Certificates by identity.
pub(crate) fn certificates<'a>(dump: &'a Dump, identity: Option<&str>) -> Vec<&'a Certificate> {
    let wanted = |certificate: &&Certificate| identity.is_none_or(|identity| certificate.identity.ends_with(identity));
    let mut certificates: Vec<_> = dump.certificates.iter().filter(wanted).collect();
    certificates.sort_by(|a, b| a.identity.cmp(&b.identity));
    certificates
}

pub(crate) fn certificate_table(certificates: &[&Certificate], now: Timestamp) -> Table {
    let headings = ["CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];
    let mut table = Table::new(5, &headings);
    for certificate in certificates {
        let Certificate { identity, state, cert_chain, root_certs } = certificate;
        if cert_chain.is_empty() && root_certs.is_empty() {
            let none = "NA".to_owned();
            let row =
                [identity.clone(), none.clone(), state.clone(), "false".to_owned(), none.clone(), none.clone(), none];
            table.row(row);
            continue;
        }
        let chain =
            cert_chain.iter().enumerate().map(|(index, link)| (if index == 0 { "Leaf" } else { "Intermediate" }, link));
        for (type_, link) in chain.chain(root_certs.iter().map(|link| ("Root", link))) {
            table.row([
                identity.clone(),
                type_.to_owned(),
                state.clone(),
                is_valid(link, now).to_string(),
                hexadecimal(&link.serial_number),
                link.expiration_time.clone(),
                link.valid_from.clone(),
            ]);
        }
    }
    table
}

fn is_valid(link: &Link, now: Timestamp) -> bool {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let from = time(&link.valid_from);
    let until = time(&link.expiration_time);
    from.is_some_and(|from| from <= now) && until.is_some_and(|until| now <= until)
}

/// A decimal number of any length in hexadecimal; other text is left as it is.
fn hexadecimal(decimal: &str) -> String {
    if decimal.is_empty() || decimal.len() > 100 || !decimal.bytes().all(|byte| byte.is_ascii_digit()) {
        return decimal.to_owned();
    }
    // Hexadecimal digits, the lowest first.
    let mut digits: Vec<u32> = vec![0];
    for byte in decimal.bytes() {
        let mut carry = u32::from(byte - b'0');
        for digit in &mut digits {
            let value = *digit * 10 + carry;
            *digit = value % 16;
            carry = value / 16;
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().filter_map(|digit| char::from_digit(*digit, 16)).collect()
}

/// Which connections to show.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionFilter {
    pub(crate) direction: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

impl ConnectionFilter {
    fn shows(&self, direction: &str) -> bool {
        self.direction.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(direction))
    }
}

/// States of the node's own workloads by namespace and name.
pub(crate) fn states(dump: &Dump, filter: &ConnectionFilter) -> Vec<WorkloadState> {
    let wanted = |state: &&WorkloadState| {
        passes(filter.namespace.as_ref(), &state.info.namespace) && passes(filter.name.as_ref(), &state.info.name)
    };
    let mut states: Vec<_> = dump.workload_state.values().filter(wanted).cloned().collect();
    for state in &mut states {
        if !filter.shows("inbound") {
            state.connections.inbound.clear();
        }
        if !filter.shows("outbound") {
            state.connections.outbound.clear();
        }
    }
    states.sort_by(|a, b| (&a.info.namespace, &a.info.name).cmp(&(&b.info.namespace, &b.info.name)));
    states
}

pub(crate) fn connection_table(dump: &Dump, states: &[WorkloadState], raw: bool) -> Table {
    let mut table = Table::new(1, &["WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"]);
    let place = |address: &str| if raw { address.to_owned() } else { named(dump, address) };
    for state in states {
        let name = format!("{}.{}", state.info.name, state.info.namespace);
        for Connection { src, original_dst, actual_dst, protocol } in &state.connections.inbound {
            let target = original_dst.as_deref().unwrap_or_default();
            table.row([name.clone(), "Inbound".into(), place(actual_dst), place(src), place(target), protocol.clone()]);
        }
        for Connection { src, original_dst, actual_dst, protocol } in &state.connections.outbound {
            let target = original_dst.as_deref().unwrap_or_default();
            table.row([
                name.clone(),
                "Outbound".into(),
                place(src),
                place(actual_dst),
                place(target),
                protocol.clone(),
            ]);
        }
    }
    table
}

/// `10.0.0.1:80` as `pod.namespace:80`, or as the service's host.
fn named(dump: &Dump, address: &str) -> String {
    let Ok(socket) = address.parse::<std::net::SocketAddr>() else {
        return address.to_owned();
    };
    let (ip, port) = (socket.ip().to_string(), socket.port());
    if let Some(service) =
        dump.services.iter().find(|service| service.vips.iter().any(|vip| without_network(vip) == ip))
    {
        return format!("{}:{port}", service.hostname);
    }
    match dump.workloads.iter().find(|workload| workload.workload_ips.contains(&ip)) {
        Some(workload) => format!("{}.{}:{port}", workload.name, workload.namespace),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", "0")]
    #[case("255", "ff")]
    #[case("138385835610915195528553494221453018572", "681c2478cbf36c16a3b04a81ac1045cc")]
    #[case("none", "none")]
    fn a_serial_number_is_shown_in_hexadecimal(#[case] decimal: &str, #[case] hex: &str) {
        assert_eq!(hexadecimal(decimal), hex);
    }

    #[test]
    fn connections_name_both_ends() {
        let dump: Dump = serde_json::from_value(serde_json::json!({
            "workloads": [{"name": "client", "namespace": "shop", "workloadIps": ["10.0.0.1"]}],
            "services": [{"name": "web", "namespace": "shop", "hostname": "web.shop.svc.cluster.local", "vips": ["/10.96.0.1"]}],
            "workloadState": {"1": {
                "info": {"name": "client", "namespace": "shop"},
                "connections": {
                    "inbound": [{"src": "10.0.0.9:4", "originalDst": null, "actualDst": "10.0.0.1:80", "protocol": "HBONE"}],
                    "outbound": [{"src": "10.0.0.1:3", "originalDst": "10.96.0.1:80", "actualDst": "10.0.0.2:8080", "protocol": "TCP"}],
                },
            }},
        }))
        .unwrap();
        let states = states(&dump, &ConnectionFilter::default());
        let text = connection_table(&dump, &states, false).render();
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1], ["client.shop", "Inbound", "client.shop:80", "10.0.0.9:4", "HBONE"]);
        assert_eq!(
            lines[2],
            ["client.shop", "Outbound", "client.shop:3", "10.0.0.2:8080", "web.shop.svc.cluster.local:80", "TCP"]
        );
    }

    #[test]
    fn a_certificate_without_a_chain_is_shown_as_missing() {
        let certificate =
            Certificate { identity: "spiffe://a".into(), state: "Initializing".into(), ..Certificate::default() };
        let text = certificate_table(&[&certificate], Timestamp::UNIX_EPOCH).render();
        let cells: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["spiffe://a", "NA", "Initializing", "false", "NA", "NA", "NA"]);
    }
}
