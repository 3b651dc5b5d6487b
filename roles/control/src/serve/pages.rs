//! Pages over HTTP: readiness, metrics, version, and what the control plane thinks it knows (control-plane A12).

use http::{Method, StatusCode};
use proto::{csds::ConfigStatus, type_url};
use runtime::{
    http::{Peer, Request, Response, json, query, text, with_type},
    ready::Ready,
};
use serde_json::{Value, json};
use std::sync::Arc;
use telemetry::metrics::{PLAIN_TEXT, Registry, control::Control};
use tokio::sync::watch;
use xds::{
    server::{Clients, Snapshot, metadata_text},
    wds::{Address, decode_address, decode_authorization},
};

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Whether proxies may come.
    pub ready: Ready,
    /// Who is connected.
    pub clients: Clients,
    /// What is served.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Metrics.
    pub metrics: Control,
    /// Metrics, to be encoded.
    pub registry: Arc<Registry>,
    /// Version of this program.
    pub version: &'static str,
    /// Revision of this control plane.
    pub revision: String,
}

impl Pages {
    /// The page at a path. Debug pages name every workload, so only the pod itself may read them.
    pub fn respond(&self, request: &Request) -> Response {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        }
        if request.uri().path().starts_with("/debug") && !is_local(request) {
            return text(StatusCode::FORBIDDEN, "debug pages are served to the pod itself; use kubectl port-forward\n");
        }
        match request.uri().path() {
            "/ready" => self.ready.response(),
            "/metrics" => self.scrape(),
            "/version" => value(&self.build_info()),
            "/debug" | "/debug/" | "/debug/list" => text(
                StatusCode::OK,
                "/debug/adsz\n/debug/ambientz\n/debug/connections\n/debug/registryz\n/debug/syncz\n",
            ),
            "/debug/syncz" => value(&self.sync_status()),
            "/debug/adsz" | "/debug/connections" => value(&self.connections()),
            "/debug/registryz" => value(&self.services()),
            "/debug/ambientz" => value(&self.everything(query(request.uri(), "namespace").as_deref())),
            _ => text(StatusCode::NOT_FOUND, "there is no such page; see /debug/list\n"),
        }
    }

    fn scrape(&self) -> Response {
        let connected = i64::try_from(self.clients.list().len()).unwrap_or(i64::MAX);
        self.metrics.xds.clients.set(&[self.version, "ztunnel"], connected);
        with_type(StatusCode::OK, PLAIN_TEXT, self.metrics.scrape(&self.registry))
    }

    fn build_info(&self) -> Value {
        json!({
            "version": self.version, "revision": self.revision, "golang_version": "", "status": "Clean", "tag": self.version,
        })
    }

    fn sync_status(&self) -> Value {
        let clients = self.clients.configs().into_iter().map(|config| {
            let node = config.node.unwrap_or_default();
            let configs = config.generic_xds_configs.iter().map(|entry| {
                let status = ConfigStatus::try_from(entry.config_status).unwrap_or(ConfigStatus::Unknown);
                json!({"typeUrl": entry.type_url, "configStatus": status.as_str_name()})
            });
            let text = |key| metadata_text(&node, key).unwrap_or_default();
            json!({
                "node": {"id": node.id, "metadata": {"CLUSTER_ID": text("CLUSTER_ID"), "NAMESPACE": text("NAMESPACE"), "ISTIO_VERSION": text("ISTIO_VERSION")}},
                "genericXdsConfigs": configs.collect::<Vec<_>>(),
            })
        });
        clients.collect()
    }

    fn connections(&self) -> Value {
        let clients = self.clients.list().into_iter().map(|(since, status)| {
            let types = status.types.iter().map(|entry| {
                json!({
                    "typeUrl": entry.type_url, "nonce": entry.nonce, "acknowledged": entry.acknowledged,
                    "refused": entry.refused, "resources": entry.resources,
                })
            });
            let seconds = since.elapsed().map_or(0, |age| age.as_secs());
            json!({
                "connectionId": status.node.id, "caller": status.peer, "connectedForSeconds": seconds,
                "types": types.collect::<Vec<_>>(),
            })
        });
        let clients: Vec<Value> = clients.collect();
        json!({"totalClients": clients.len(), "clients": clients})
    }

    fn addresses(&self) -> Vec<Address> {
        let snapshot = self.snapshots.borrow().clone();
        let collection = snapshot.as_ref().and_then(|snapshot| snapshot.get(type_url::ADDRESS));
        let resources = collection.into_iter().flat_map(|collection| collection.iter());
        let mut addresses: Vec<_> = resources.filter_map(|resource| decode_address(&resource.body).ok()).collect();
        addresses.sort_by_key(Address::name);
        addresses
    }

    fn services(&self) -> Value {
        let services = self.addresses().into_iter().filter_map(|address| match address {
            Address::Service(service) => Some(service_page(&service)),
            Address::Workload(_) => None,
        });
        services.collect()
    }

    fn everything(&self, namespace: Option<&str>) -> Value {
        let wanted = |other: &str| namespace.is_none_or(|namespace| namespace.is_empty() || namespace == other);
        let (mut workloads, mut services) = (Vec::new(), Vec::new());
        for address in self.addresses() {
            match address {
                Address::Workload(workload) if wanted(&workload.namespace) => workloads.push(workload_page(&workload)),
                Address::Service(service) if wanted(&service.namespace) => services.push(service_page(&service)),
                _ => {}
            }
        }
        let snapshot = self.snapshots.borrow().clone();
        let collection = snapshot.as_ref().and_then(|snapshot| snapshot.get(type_url::AUTHORIZATION));
        let policies = collection.into_iter().flat_map(|collection| collection.iter());
        let mut policies: Vec<_> = policies.filter_map(|resource| decode_authorization(&resource.body).ok()).collect();
        policies.retain(|policy| wanted(&policy.namespace));
        policies.sort_by_key(model::Authorization::key);
        let policies: Vec<Value> = policies
            .iter()
            .map(|policy| {
                json!({
                    "name": &*policy.name, "namespace": &*policy.namespace, "scope": format!("{:?}", policy.scope),
                    "action": format!("{:?}", policy.action), "rules": policy.rules.len(), "dryRun": policy.dry_run,
                })
            })
            .collect();
        json!({"workloads": workloads, "services": services, "policies": policies})
    }
}

fn is_local(request: &Request) -> bool {
    request.extensions().get::<Peer>().is_some_and(|peer| peer.0.ip().to_canonical().is_loopback())
}

fn value(value: &Value) -> Response {
    json(StatusCode::OK, format!("{value:#}\n"))
}

fn gateway(gateway: Option<&model::GatewayAddress>) -> Value {
    gateway.map_or(Value::Null, |gateway| gateway.destination.to_string().into())
}

fn workload_page(workload: &model::Workload) -> Value {
    let services =
        workload.services.iter().map(|(key, ports)| (key.to_string(), ports.0.iter().map(|p| json!(p)).collect()));
    json!({
        "uid": &*workload.uid, "name": &*workload.name, "namespace": &*workload.namespace,
        "addresses": workload.addresses, "hostname": &*workload.hostname, "network": &*workload.network,
        "protocol": format!("{:?}", workload.tunnel_protocol), "identity": workload.identity().to_string(),
        "node": &*workload.node, "status": format!("{:?}", workload.status), "waypoint": gateway(workload.waypoint.as_ref()),
        "authorizationPolicies": workload.authorization_policies.iter().map(|name| &**name).collect::<Vec<_>>(),
        "services": services.collect::<serde_json::Map<String, Value>>(),
    })
}

fn service_page(service: &model::Service) -> Value {
    json!({
        "name": &*service.name, "namespace": &*service.namespace, "hostname": &*service.hostname,
        "addresses": service.vips.iter().map(|vip| vip.to_string())
            .chain(service.cidr_vips.iter().map(|vip| format!("{}/{}", vip.network, vip.range))).collect::<Vec<_>>(),
        "ports": service.ports, "waypoint": gateway(service.waypoint.as_ref()), "canonical": service.canonical,
    })
}
