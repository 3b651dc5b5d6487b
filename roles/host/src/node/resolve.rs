//! The files by which a container finds names: `/etc/resolv.conf` and `/etc/hosts`.

use std::net::IpAddr;

use api::{Pod, Resource};

/// What a resolver is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    /// Reads a `resolv.conf`; lines of other kinds are left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => resolver.nameservers.extend(words.next()),
                Some("search" | "domain") => resolver.searches = words.collect(),
                Some("options") => resolver.options.extend(words),
                _ => {}
            }
        }
        resolver
    }

    fn render(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        self.nameservers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }

    fn extend(&mut self, config: &api::core::PodDnsConfig) {
        let add = |list: &mut Vec<String>, more: &[String]| {
            more.iter().for_each(|item| {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            });
        };
        add(&mut self.nameservers, &config.nameservers);
        add(&mut self.searches, &config.searches);
        for option in &config.options {
            self.options.retain(|known| known.split(':').next() != Some(&option.name));
            let value = option.value.as_ref().filter(|value| !value.is_empty());
            self.options.push(value.map_or_else(|| option.name.clone(), |value| format!("{}:{value}", option.name)));
        }
    }
}

/// The pod's `resolv.conf`, by its DNS policy.
pub(super) fn resolv_conf(pod: &Pod, node: &Resolver, cluster_dns: &[IpAddr], domain: &str) -> String {
    let cluster = || {
        let namespace = pod.namespace();
        let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        Resolver {
            nameservers: cluster_dns.iter().map(ToString::to_string).collect(),
            searches: own.into_iter().chain(node.searches.iter().cloned()).collect(),
            options: vec!["ndots:5".to_owned()],
        }
    };
    let mut resolver = match pod.spec.dns_policy.as_str() {
        "None" => Resolver::default(),
        "ClusterFirstWithHostNet" => cluster(),
        "Default" => node.clone(),
        _ if pod.spec.host_network => node.clone(),
        _ => cluster(),
    };
    if let Some(config) = &pod.spec.dns_config {
        resolver.extend(config);
    }
    resolver.render()
}

/// The pod's `hosts`.
pub(super) fn hosts(pod: &Pod, address: IpAddr, hostname: &str, domain: &str) -> String {
    let mut text = "# Written for this pod; see its hostAliases.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let subdomain = &pod.spec.subdomain;
    if subdomain.is_empty() {
        text.push_str(&format!("{address}\t{hostname}\n"));
    } else {
        let full = format!("{hostname}.{subdomain}.{}.svc.{domain}", pod.namespace());
        text.push_str(&format!("{address}\t{full}\t{hostname}\n"));
    }
    for alias in &pod.spec.host_aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    text
}

/// The host name of the pod's containers.
pub(super) fn hostname(pod: &Pod, node: &str) -> String {
    let name = match (pod.spec.host_network, pod.spec.hostname.as_str()) {
        (true, _) => node,
        (false, "") => pod.name(),
        (false, hostname) => hostname,
    };
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::state::tests::pod;

    const NODE: &str = "# comment\nsearch example.com\nnameserver 192.0.2.1\noptions timeout:1\n";
    const CLUSTER: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.96.0.10\noptions ndots:5\n";
    const AS_NODE: &str = "search example.com\nnameserver 192.0.2.1\noptions timeout:1\n";

    #[rstest::rstest]
    #[case::cluster(serde_json::json!({}), CLUSTER)]
    #[case::node(serde_json::json!({ "dnsPolicy": "Default" }), AS_NODE)]
    #[case::host_network(serde_json::json!({ "hostNetwork": true, "dnsPolicy": "ClusterFirst" }), AS_NODE)]
    #[case::host_network_but_cluster(serde_json::json!({ "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" }), CLUSTER)]
    #[case::own(
        serde_json::json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": ["192.0.2.9"], "options": [{ "name": "ndots", "value": "1" }] } }),
        "nameserver 192.0.2.9\noptions ndots:1\n"
    )]
    #[case::merged(
        serde_json::json!({ "dnsConfig": { "searches": ["cluster.local", "more"], "options": [{ "name": "ndots", "value": "2" }] } }),
        "search shop.svc.cluster.local svc.cluster.local cluster.local example.com more\nnameserver 10.96.0.10\noptions ndots:2\n"
    )]
    fn policies(#[case] spec: serde_json::Value, #[case] expected: &str) {
        let dns = ["10.96.0.10".parse().unwrap()];
        assert_eq!(resolv_conf(&pod(spec), &Resolver::parse(NODE), &dns, "cluster.local"), expected);
    }

    #[rstest::rstest]
    #[case(serde_json::json!({}), "web", "10.0.0.1\tweb\n")]
    #[case(serde_json::json!({ "hostname": "a", "subdomain": "db" }), "a", "10.0.0.1\ta.db.shop.svc.cluster.local\ta\n")]
    #[case(serde_json::json!({ "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["x", "y"] }] }), "web", "1.2.3.4\tx\ty\n")]
    fn host_files(#[case] spec: serde_json::Value, #[case] name: &str, #[case] line: &str) {
        let pod = pod(spec);
        assert_eq!(hostname(&pod, "n1"), name);
        let text = hosts(&pod, "10.0.0.1".parse().unwrap(), name, "cluster.local");
        assert!(text.contains(line) && text.contains("127.0.0.1\tlocalhost\n"), "{text}");
    }
}
