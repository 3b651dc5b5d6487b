//! The node agent's families (control-plane B9).

use super::{Count, Counts, Registry};

/// Everything the node agent counts.
#[derive(Debug, Clone)]
pub struct Agent {
    /// `istio_cni_installs_total{result}`.
    pub installs: Counts,
    /// `istio_cni_install_ready`: 1 when the plugin is in place.
    pub install_ready: Count,
    /// `istio_cni_plugin_requests_total{response_code}`.
    pub plugin_requests: Counts,
    /// `istio_cni_repair_pods_repaired_total{type,result}`.
    pub repaired: Counts,
    /// `nodeagent_reconcile_events_total{type}`.
    pub reconcile_events: Counts,
    /// `ztunnel_connected`: 1 while a node proxy is connected.
    pub proxy_connected: Count,
}

impl Agent {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let installs = "Total number of installations of the plugin by the node agent";
        let ready = "Whether the plugin is installed and the agent can serve it";
        let requests = "Total number of requests by the plugin";
        let repaired = "Total number of pods repaired";
        let reconciled = "Total number of events that the node agent reconciled";
        let connected = "Whether a node proxy is connected";
        let agent = Self {
            installs: Counts::register(registry, "istio_cni_installs", installs, &["result"]),
            install_ready: Count::register(registry, "istio_cni_install_ready", ready, &[]),
            plugin_requests: Counts::register(registry, "istio_cni_plugin_requests", requests, &["response_code"]),
            repaired: Counts::register(registry, "istio_cni_repair_pods_repaired", repaired, &["type", "result"]),
            reconcile_events: Counts::register(registry, "nodeagent_reconcile_events", reconciled, &["type"]),
            proxy_connected: Count::register(registry, "ztunnel_connected", connected, &[]),
        };
        agent.install_ready.set(&[], 0);
        agent.proxy_connected.set(&[], 0);
        agent
    }
}
