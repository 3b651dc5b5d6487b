//! What a deployed proxy looks like before anybody's overlay: its pod, and the service in front of it (control-plane A14).
//!
//! Everything that a server would fill in and a comparison would trip over (`divisor`, `protocol`) is written out.

use super::{Role, Settings};
use api::{Gateway, Listener, Resource};
use model::well_known::{READINESS_PORT, STATS_PORT};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Raw metrics, the second port that dashboards know.
const RAW_STATS_PORT: u16 = 15090;
/// The account that proxies run as on their node.
const PROXY_USER: u32 = 1337;
/// Longest name of a port of a service.
const LONGEST_PORT_NAME: usize = 63;

/// Names and labels of what is deployed for a gateway.
pub(super) struct Frame<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) role: Role,
    pub(super) settings: &'a Settings,
    /// Of the deployment and the service.
    pub(super) name: String,
    pub(super) service_account: String,
    pub(super) service_type: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Frame<'_> {
    /// An object of ours: named, labelled, and deleted with the gateway.
    pub(super) fn object(&self, api_version: &str, kind: &str, name: &str) -> Value {
        let owner = self.gateway.owner_reference();
        let mut metadata = json!({
            "name": name, "namespace": self.gateway.namespace(), "labels": self.labels,
            "ownerReferences": [{"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}],
        });
        if !self.annotations.is_empty() {
            metadata["annotations"] = json!(self.annotations);
        }
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata})
    }

    /// The labels that select the pods.
    pub(super) fn selector(&self) -> Value {
        json!({"gateway.networking.k8s.io/gateway-name": self.gateway.name()})
    }

    /// The service in front of the pods.
    pub(super) fn service(&self) -> Value {
        let mut service = self.object("v1", "Service", &self.name);
        if self.role == Role::Waypoint {
            service["metadata"]["annotations"]["networking.istio.io/traffic-distribution"] = "PreferClose".into();
        }
        service["spec"] = json!({
            "type": self.service_type, "ipFamilyPolicy": "PreferDualStack", "selector": self.selector(),
            "ports": ports(&self.gateway.spec.listeners),
        });
        if let [address] = self.gateway.spec.addresses.as_slice() {
            let field = if self.service_type == "LoadBalancer" { "loadBalancerIP" } else { "clusterIP" };
            service["spec"][field] = address.value.as_str().into();
        }
        service
    }

    /// The deployment of the pods, without a number of replicas.
    pub(super) fn deployment(&self) -> Value {
        let mut deployment = self.object("apps/v1", "Deployment", &self.name);
        deployment["spec"] = json!({
            "selector": {"matchLabels": self.selector()},
            "template": {"metadata": self.pod_metadata(), "spec": self.pod_spec()},
        });
        deployment
    }

    fn pod_metadata(&self) -> Value {
        let mut labels = self.labels.clone();
        let own = [
            ("istio.io/dataplane-mode", "none"),
            ("sidecar.istio.io/inject", "false"),
            ("service.istio.io/canonical-name", &*self.name),
            ("service.istio.io/canonical-revision", "latest"),
        ];
        labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let mut annotations = self.annotations.clone();
        let own = [
            ("istio.io/rev", &*self.settings.revision),
            ("prometheus.io/path", "/stats/prometheus"),
            ("prometheus.io/port", "15020"),
            ("prometheus.io/scrape", "true"),
        ];
        annotations.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        json!({"labels": labels, "annotations": annotations})
    }

    fn pod_spec(&self) -> Value {
        let mut spec = json!({
            "serviceAccountName": self.service_account,
            "containers": [self.container()],
            "volumes": volumes(),
        });
        if self.role == Role::Edge {
            // Ports below 1024 without a capability.
            spec["securityContext"] =
                json!({"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]});
        }
        spec
    }

    fn container(&self) -> Value {
        let probe = |period: u32, failures: u32| {
            json!({
                "httpGet": {"path": "/healthz/ready", "port": READINESS_PORT, "scheme": "HTTP"},
                "periodSeconds": period, "failureThreshold": failures, "successThreshold": 1, "timeoutSeconds": 1,
            })
        };
        let mut startup = probe(1, 30);
        startup["initialDelaySeconds"] = 1.into();
        let port = |name: &str, number: u16| json!({"name": name, "containerPort": number, "protocol": "TCP"});
        json!({
            "name": "istio-proxy", "image": self.settings.image, "args": self.arguments(), "env": self.environment(),
            "ports": [port("metrics", STATS_PORT), port("status-port", READINESS_PORT), port("http-envoy-prom", RAW_STATS_PORT)],
            "startupProbe": startup, "readinessProbe": probe(15, 4),
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "privileged": false, "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": PROXY_USER, "runAsGroup": PROXY_USER,
            },
            "volumeMounts": [
                {"name": "workload-socket", "mountPath": "/var/run/secrets/workload-spiffe-uds"},
                {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"},
                {"name": "istio-data", "mountPath": "/var/lib/istio/data"},
                {"name": "istio-envoy", "mountPath": "/etc/istio/proxy"},
                {"name": "istio-token", "mountPath": "/var/run/secrets/tokens"},
                {"name": "istio-podinfo", "mountPath": "/etc/istio/pod"},
            ],
        })
    }

    fn arguments(&self) -> Value {
        let kind = if self.role == Role::Waypoint { "waypoint" } else { "router" };
        let domain = format!("$(POD_NAMESPACE).svc.{}", self.settings.mesh.domain);
        let cluster = format!("{}.$(POD_NAMESPACE)", self.service_account);
        json!([
            "proxy",
            kind,
            "--domain",
            domain,
            "--serviceCluster",
            cluster,
            "--proxyLogLevel",
            "warning",
            "--proxyComponentLogLevel",
            "misc:error",
            "--log_output_level",
            "default:info",
        ])
    }

    fn environment(&self) -> Vec<Value> {
        let (mesh, settings) = (&self.settings.mesh, self.settings);
        let host = if matches!(settings.revision.as_str(), "" | "default") {
            "istiod".to_owned()
        } else {
            format!("istiod-{}", settings.revision)
        };
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
        let limit = |name: &str, resource: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": "1"}}});
        let plain = |name: &str, value: &str| json!({"name": name, "value": value});
        let mut variables = vec![
            field("ISTIO_META_SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("ISTIO_META_NODE_NAME", "spec.nodeName"),
            plain("PILOT_CERT_PROVIDER", "istiod"),
            plain("CA_ADDR", &format!("{host}.{}.svc:15012", settings.namespace)),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("INSTANCE_IP", "status.podIP"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("HOST_IP", "status.hostIP"),
            limit("ISTIO_CPU_LIMIT", "limits.cpu"),
            plain("PROXY_CONFIG", &settings.proxy_config.to_string()),
        ];
        let metadata = settings.proxy_config["proxyMetadata"].as_object().into_iter().flatten();
        variables.extend(metadata.filter_map(|(name, value)| Some(plain(name, value.as_str()?))));
        variables.push(limit("GOMEMLIMIT", "limits.memory"));
        variables.push(plain("ISTIO_META_CLUSTER_ID", &mesh.cluster_id));
        if !settings.network.is_empty() {
            variables.push(plain("ISTIO_META_NETWORK", &settings.network));
        }
        if self.name != self.gateway.name() {
            variables.push(plain("GATEWAY_NAME", self.gateway.name()));
        }
        let (namespace, name) = (self.gateway.namespace(), &self.name);
        let owner = format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        variables.extend([
            plain("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
            plain("ISTIO_META_WORKLOAD_NAME", name),
            plain("ISTIO_META_OWNER", &owner),
            plain("ISTIO_META_MESH_ID", &settings.mesh_id),
            plain("TRUST_DOMAIN", &mesh.trust_domain),
        ]);
        variables
    }
}

fn volumes() -> Value {
    let downward =
        |path: &str| json!({"path": path, "fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.{path}")}});
    json!([
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-podinfo", "downwardAPI": {"items": [downward("labels"), downward("annotations")]}},
        {"name": "istio-token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}},
        ]}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
    ])
}

/// The readiness port and every port that a listener names, each once.
fn ports(listeners: &[Listener]) -> Vec<Value> {
    let port = |name: &str, number: i32, protocol: &str| json!({"name": name, "port": number, "targetPort": number, "protocol": "TCP", "appProtocol": protocol});
    let mut ports = vec![port("status-port", READINESS_PORT.into(), "tcp")];
    let mut names = Map::new();
    for listener in listeners {
        let taken = listener.port == i32::from(READINESS_PORT) || names.values().any(|number| *number == listener.port);
        if taken {
            continue;
        }
        let mut name = port_name(&listener.name);
        if names.contains_key(&name) || name == "status-port" {
            name = format!("port-{}", listener.port);
        }
        ports.push(port(&name, listener.port, &listener.protocol.to_lowercase()));
        names.insert(name, listener.port.into());
    }
    ports
}

/// A listener's name as the name of a port, which has no dots.
fn port_name(listener: &str) -> String {
    let short: String = listener.replace('.', "-").chars().take(LONGEST_PORT_NAME).collect();
    short.trim_matches('-').to_owned()
}
