//! Services: a stable name and address for pods that come and go.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::int_or_string::IntOrString;
use crate::macros::{object, resource};
use crate::meta::{Condition, ObjectMeta};

object! {
    /// A stable name and address for a set of pods.
    pub struct Service {
        metadata: ObjectMeta,
        spec: ServiceSpec,
        status: ServiceStatus,
    }

    /// What a service stands for.
    pub struct ServiceSpec {
        ports: Vec<ServicePort>,
        selector: BTreeMap<String, String>,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        #[serde(rename = "type")]
        type_: String,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        session_affinity: String,
        session_affinity_config: Option<SessionAffinityConfig>,
        #[serde(rename = "loadBalancerIP")]
        load_balancer_ip: String,
        load_balancer_source_ranges: Vec<String>,
        load_balancer_class: String,
        allocate_load_balancer_node_ports: Option<bool>,
        external_name: String,
        external_traffic_policy: String,
        internal_traffic_policy: String,
        health_check_node_port: i32,
        publish_not_ready_addresses: bool,
        ip_families: Vec<String>,
        ip_family_policy: String,
        traffic_distribution: String,
    }

    /// A port of a service.
    pub struct ServicePort {
        name: String,
        protocol: String,
        app_protocol: String,
        port: i32,
        target_port: Option<IntOrString>,
        node_port: i32,
    }

    /// How long a client keeps its endpoint.
    pub struct SessionAffinityConfig {
        #[serde(rename = "clientIP")]
        client_ip: Option<ClientIpConfig>,
    }

    /// Affinity by client address.
    pub struct ClientIpConfig {
        timeout_seconds: Option<i32>,
    }

    /// What became of a service.
    pub struct ServiceStatus {
        load_balancer: LoadBalancerStatus,
        conditions: Vec<Condition>,
    }

    /// Addresses of the load balancer.
    pub struct LoadBalancerStatus {
        ingress: Vec<LoadBalancerIngress>,
    }

    /// One address of the load balancer.
    pub struct LoadBalancerIngress {
        ip: String,
        hostname: String,
        ip_mode: String,
        ports: Vec<Value>,
    }

    /// The old form of endpoints, kept as it was written.
    pub struct Endpoints {
        metadata: ObjectMeta,
        subsets: Vec<Value>,
    }
}

resource!(Service, "" / "v1", "services", namespaced);
resource!(Endpoints, "" / "v1", "endpoints", namespaced);
