//! The node proxy's families besides traffic (ztunnel.md §11.2).

use super::{Count, Counts, Registry, counted::Labels, traffic::Traffic};
use model::Workload;
use prometheus_client::metrics::{family::Family, histogram::Histogram};
use std::{sync::Arc, time::Duration};

const ON_DEMAND_LABELS: &[&str] = &[
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "hostname",
];
const DNS_LABELS: &[&str] =
    &["request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision"];

/// Everything the node proxy counts. Clone it freely: clones count together.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Connections and bytes.
    pub traffic: Arc<Traffic>,
    /// `istio_tcp_sockets_open{reporter}`.
    pub sockets_open: Count,
    /// `istio_crl_policy_rejections_total{reporter}`: handshakes and open connections refused for a revoked certificate.
    pub revocation_rejections: Counts,
    /// `istio_pod_limits_reached_total{limit}`: connections, handshakes and tunnels refused for a limit of their pod (ours).
    pub limits_reached: Counts,
    on_demand_dns: Counts,
    /// DNS.
    pub dns: Dns,
    /// Configuration stream.
    pub xds: Xds,
    /// Pods that are served.
    pub workloads: Workloads,
}

/// DNS queries; labels are query type, protocol, canonical service, canonical revision.
#[derive(Debug, Clone)]
pub struct Dns {
    /// `istio_dns_requests_total`.
    pub requests: Counts,
    /// `istio_dns_upstream_requests_total`.
    pub upstream_requests: Counts,
    /// `istio_dns_upstream_failures_total`.
    pub upstream_failures: Counts,
    upstream_duration: Family<Labels, Histogram, fn() -> Histogram>,
}

/// The configuration stream.
#[derive(Debug, Clone)]
pub struct Xds {
    /// `istio_xds_connection_terminations_total{reason}`.
    pub terminations: Counts,
    /// `istio_xds_message_total{url}`.
    pub messages: Counts,
    /// `istio_xds_message_bytes_total{url}`.
    pub message_bytes: Counts,
}

/// Pods that are served; their names have no `istio_` before them.
#[derive(Debug, Clone)]
pub struct Workloads {
    /// `workload_manager_active_proxy_count`.
    pub active: Count,
    /// `workload_manager_pending_proxy_count`.
    pub pending: Count,
    /// `workload_manager_proxies_started_total`.
    pub started: Counts,
    /// `workload_manager_proxies_stopped_total`.
    pub stopped: Counts,
}

impl Proxy {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let traffic = Arc::new(Traffic::default());
        registry.0.register_collector(Box::new(traffic.clone()));
        let sockets = "The current number of open TCP sockets (unstable)";
        Self {
            traffic,
            sockets_open: Count::register(registry, "istio_tcp_sockets_open", sockets, &["reporter"]),
            revocation_rejections: Counts::register(
                registry,
                "istio_crl_policy_rejections",
                "The total number of connections rejected because a certificate is revoked (unstable)",
                &["reporter"],
            ),
            limits_reached: Counts::register(
                registry,
                "istio_pod_limits_reached",
                "The total number of connections, handshakes and tunnels refused for a limit of their pod (unstable)",
                &["limit"],
            ),
            on_demand_dns: Counts::register(
                registry,
                "istio_on_demand_dns",
                "The total number of names resolved to reach a workload without an address (unstable)",
                ON_DEMAND_LABELS,
            ),
            dns: Dns::register(registry),
            xds: Xds::register(registry),
            workloads: Workloads::register(registry),
        }
    }
}

impl Proxy {
    /// Counts one `istio_on_demand_dns_total`: `source` is about to reach a workload that has only this name.
    pub fn on_demand_dns(&self, source: &Workload, hostname: &str) {
        let principal = source.identity().to_string();
        let known = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        let values = [
            known(&source.workload_name),
            known(&source.canonical_name),
            known(&source.canonical_revision),
            known(&source.namespace),
            principal,
            known(&source.canonical_name),
            known(&source.canonical_revision),
            known(&source.cluster_id),
            hostname.to_owned(),
        ];
        self.on_demand_dns.add(&values.each_ref().map(String::as_str));
    }
}

impl Dns {
    fn register(registry: &mut Registry) -> Self {
        let mut counts = |name, help| Counts::register(registry, name, help, DNS_LABELS);
        let requests = counts("istio_dns_requests", "Total number of DNS requests (unstable)");
        let upstream_requests =
            counts("istio_dns_upstream_requests", "Total number of DNS requests forwarded to upstream (unstable)");
        let upstream_failures = counts(
            "istio_dns_upstream_failures",
            "Total number of DNS requests that upstream did not answer (unstable)",
        );
        let make: fn() -> Histogram = || Histogram::new([0.0005, 0.001, 0.01, 0.1, 1.0, 5.0]);
        let upstream_duration = Family::new_with_constructor(make);
        registry.0.register_with_unit(
            "istio_dns_upstream_request_duration",
            "Time until upstream answered a DNS request (unstable)",
            prometheus_client::registry::Unit::Seconds,
            upstream_duration.clone(),
        );
        Self { requests, upstream_requests, upstream_failures, upstream_duration }
    }

    /// `istio_dns_upstream_request_duration_seconds`.
    pub fn upstream_answered(&self, values: &[&str], after: Duration) {
        self.upstream_duration.get_or_create(&Labels::new(DNS_LABELS, values)).observe(after.as_secs_f64());
    }
}

impl Xds {
    /// Registers them alone, for other clients of the configuration stream.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            terminations: Counts::register(
                registry,
                "istio_xds_connection_terminations",
                "The total number of completed connections to xds server (unstable)",
                &["reason"],
            ),
            messages: Counts::register(
                registry,
                "istio_xds_message",
                "Total number of messages received (unstable)",
                &["url"],
            ),
            message_bytes: Counts::register(
                registry,
                "istio_xds_message_bytes",
                "Total number of bytes received (unstable)",
                &["url"],
            ),
        }
    }
}

impl Workloads {
    fn register(registry: &mut Registry) -> Self {
        let active = "The total number current workloads with active proxies (unstable)";
        let pending = "The total number current workloads with pending proxies (unstable)";
        let started = "The total number of proxies that were started (unstable)";
        let stopped = "The total number of proxies that were stopped (unstable)";
        let workloads = Self {
            active: Count::register(registry, "workload_manager_active_proxy_count", active, &[]),
            pending: Count::register(registry, "workload_manager_pending_proxy_count", pending, &[]),
            started: Counts::register(registry, "workload_manager_proxies_started", started, &[]),
            stopped: Counts::register(registry, "workload_manager_proxies_stopped", stopped, &[]),
        };
        // Present from the start, as zeroes.
        workloads.active.set(&[], 0);
        workloads.pending.set(&[], 0);
        workloads.started.add_many(&[], 0);
        workloads.stopped.add_many(&[], 0);
        workloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        let mut registry = Registry::new("ztunnel", "unknown");
        let proxy = Proxy::register(&mut registry);
        proxy.sockets_open.change(&["source"], 1);
        proxy.dns.requests.add(&["A", "udp", "client", "latest"]);
        proxy.dns.upstream_answered(&["A", "udp", "client", "latest"], Duration::from_millis(2));
        proxy.revocation_rejections.add(&["destination"]);
        let client = Workload { workload_name: "client".into(), namespace: "shop".into(), ..Workload::default() };
        proxy.on_demand_dns(&client, "db.example.com");
        proxy.xds.messages.add(&["type.googleapis.com/istio.workload.Address"]);
        let text = registry.encode();
        for line in [
            "istio_tcp_sockets_open{reporter=\"source\"} 1",
            "istio_dns_requests_total{request_query_type=\"A\",request_protocol=\"udp\",\
             source_canonical_service=\"client\",source_canonical_revision=\"latest\"} 1",
            "# TYPE istio_dns_upstream_request_duration_seconds histogram",
            "istio_xds_message_total{url=\"type.googleapis.com/istio.workload.Address\"} 1",
            "istio_crl_policy_rejections_total{reporter=\"destination\"} 1",
            "istio_on_demand_dns_total{source_workload=\"client\",source_canonical_service=\"unknown\",\
             source_canonical_revision=\"unknown\",source_workload_namespace=\"shop\",\
             source_principal=\"spiffe://cluster.local/ns/shop/sa/default\",source_app=\"unknown\",\
             source_version=\"unknown\",source_cluster=\"Kubernetes\",hostname=\"db.example.com\"} 1",
            "workload_manager_active_proxy_count 0",
            "workload_manager_proxies_started_total 0",
        ] {
            assert!(text.lines().any(|held| held == line), "{line} is missing in\n{text}");
        }
    }
}
