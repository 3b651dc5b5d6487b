//! Debug pages: who is connected, what is served, what it is made of; over HTTP and over xDS (control-plane A12).
//!
//! Every page is a JSON document. Pages of upstream that tell of things which are not here (Envoy's clusters, injected sidecars)
//! are answered with a sentence, not with an empty document that reads like an answer.

use super::caller::Caller;
use crate::{mesh_config::MeshConfig, source::Edit};
use api::Resource;
use proto::{csds::ConfigStatus, type_url};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{mpsc, oneshot, watch};
use xds::{
    server::{ClientStatus, Clients, Snapshot, TypeStatus, metadata_text},
    wds::{Address, decode_address, decode_authorization},
};

/// The pages, as they are listed.
pub(super) const PAGES: &[(&str, &str)] = &[
    ("adsz", "connected proxies, and how far each got"),
    ("ambientz", "workloads, services and policies as they are served; ?namespace= for one namespace"),
    ("authorizationz", "policies as they are served"),
    ("clusterz", "clusters that are watched"),
    ("config_dump", "what the proxy ?proxyID=<pod>.<namespace> subscribed to"),
    ("configz", "the mesh's own resources as they were read; ?namespace= for one namespace"),
    ("connections", "the same as adsz"),
    ("endpointShardz", "endpoints by service, namespace and cluster"),
    ("endpointz", "endpoints by service"),
    ("instancesz", "workloads by node"),
    ("list", "this list"),
    ("mesh", "the mesh's settings, defaults included"),
    ("networkz", "network gateways"),
    ("push_status", "revision of what is served, and who has not got it"),
    ("registryz", "services as they are served"),
    ("resourcesz", "how many objects of each kind were read"),
    ("syncz", "how far each proxy got, by type"),
];

/// Pages that callers outside the control plane's namespace may read: they tell of the caller's own kind of proxy only.
const OF_ONES_OWN: &[&str] = &["config_dump", "ndsz", "edsz"];

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Debug {
    /// Who is connected.
    pub clients: Clients,
    /// What is served.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The way to the objects that it is made of.
    pub edits: mpsc::Sender<Edit>,
    /// The mesh's settings.
    pub mesh: watch::Receiver<Arc<MeshConfig>>,
    /// Namespace of the control plane.
    pub system_namespace: String,
    /// Cluster id.
    pub cluster_id: String,
}

impl Debug {
    /// Whether a caller may read a page; if not, why.
    pub(super) fn allow(&self, caller: &Caller, page: &str) -> Result<(), String> {
        match caller.account() {
            Some((namespace, _)) if namespace != self.system_namespace && !OF_ONES_OWN.contains(&page) => {
                let namespace = &self.system_namespace;
                Err(format!("debug page {page} is for accounts of namespace {namespace}, not for {caller}"))
            }
            _ => Ok(()),
        }
    }

    /// A page by its name, if there is one.
    pub(super) async fn page(&self, name: &str, query: &str) -> Option<Value> {
        let argument = |key: &str| {
            let uri: http::Uri = format!("/?{query}").parse().ok()?;
            runtime::http::query(&uri, key).filter(|value| !value.is_empty())
        };
        let namespace = argument("namespace");
        Some(match name {
            "" | "list" => {
                PAGES.iter().map(|(name, what)| json!({"page": format!("/debug/{name}"), "shows": what})).collect()
            }
            "syncz" => self.clients.list().iter().map(|(_, status)| sync_status(status)).collect(),
            "adsz" | "connections" => self.connections(),
            "registryz" => self.services(),
            "endpointz" => self.endpoints(),
            "endpointShardz" => self.shards(),
            "instancesz" => self.instances(),
            "ambientz" => self.everything(namespace.as_deref()),
            "authorizationz" => json!({"policies": self.policies(None)}),
            "clusterz" => json!([{"id": self.cluster_id, "secretName": "", "syncStatus": self.sync()}]),
            "networkz" => self.networks(),
            "config_dump" => self.config_dump(&argument("proxyID").unwrap_or_default())?,
            "push_status" => self.push_status(),
            "mesh" => self.mesh.borrow().to_value(),
            "configz" => self.ask(move |view| configuration(view, namespace.as_deref())).await?,
            "resourcesz" => self.ask(counts).await?,
            _ => return None,
        })
    }

    /// Asks the task that owns the objects.
    async fn ask(&self, about: impl FnOnce(&crate::objects::Objects) -> Value + Send + 'static) -> Option<Value> {
        let (answer, answered) = oneshot::channel();
        let edit: Edit = Box::new(move |discovery| {
            // Who asked may be gone.
            let _ = answer.send(about(discovery.resolver().view().objects));
        });
        self.edits.send(edit).await.ok()?;
        answered.await.ok()
    }

    fn sync(&self) -> &'static str {
        if self.snapshots.borrow().is_some() { "synced" } else { "syncing" }
    }

    fn connections(&self) -> Value {
        let clients = self.clients.list().into_iter().map(|(since, status)| {
            let types = status.types.iter().map(type_page);
            let seconds = since.elapsed().map_or(0, |age| age.as_secs());
            json!({
                "connectionId": status.node.id, "caller": status.peer, "connectedForSeconds": seconds,
                "types": types.collect::<Vec<_>>(),
            })
        });
        let clients: Vec<Value> = clients.collect();
        json!({"totalClients": clients.len(), "clients": clients})
    }

    fn config_dump(&self, proxy: &str) -> Option<Value> {
        let clients = self.clients.list();
        let (_, status) = clients.iter().find(|(_, status)| name_of(status) == proxy)?;
        let types: Vec<_> = status.types.iter().map(type_page).collect();
        Some(json!({"proxy": proxy, "node": status.node.id, "types": types}))
    }

    fn push_status(&self) -> Value {
        let revision = self.snapshots.borrow().as_ref().map(|snapshot| snapshot.revision());
        let is_behind = |status: &&ClientStatus| status.types.iter().any(|entry| entry.accepted != entry.nonce);
        let clients = self.clients.list();
        let behind: Vec<_> = clients.iter().map(|(_, status)| status).filter(is_behind).map(name_of).collect();
        json!({"revision": revision, "proxies": clients.len(), "notAcknowledged": behind})
    }

    fn addresses(&self) -> Vec<Address> {
        let snapshot = self.snapshots.borrow().clone();
        let collection = snapshot.as_ref().and_then(|snapshot| snapshot.get(type_url::ADDRESS));
        let resources = collection.into_iter().flat_map(|collection| collection.iter());
        let mut addresses: Vec<_> = resources.filter_map(|resource| decode_address(&resource.body).ok()).collect();
        addresses.sort_by_key(Address::name);
        addresses
    }

    fn workloads(&self) -> impl Iterator<Item = Box<model::Workload>> {
        self.addresses().into_iter().filter_map(|address| match address {
            Address::Workload(workload) => Some(workload),
            Address::Service(_) => None,
        })
    }

    fn services(&self) -> Value {
        let services = self.addresses().into_iter().filter_map(|address| match address {
            Address::Service(service) => Some(service_page(&service)),
            Address::Workload(_) => None,
        });
        services.collect()
    }

    fn by_service(&self) -> BTreeMap<String, Vec<Value>> {
        let mut services: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for workload in self.workloads() {
            for (service, ports) in &workload.services {
                services.entry(service.to_string()).or_default().push(json!({
                    "workload": &*workload.uid, "addresses": workload.addresses, "ports": ports.0,
                    "status": format!("{:?}", workload.status), "node": &*workload.node,
                }));
            }
        }
        services
    }

    fn endpoints(&self) -> Value {
        self.by_service()
            .into_iter()
            .map(|(service, endpoints)| json!({"service": service, "endpoints": endpoints}))
            .collect()
    }

    fn shards(&self) -> Value {
        let mut hosts = Map::new();
        for (service, endpoints) in self.by_service() {
            let (namespace, host) = service.split_once('/').unwrap_or(("", &service));
            let shards = json!({"Shards": {format!("Kubernetes/{}", self.cluster_id): endpoints}});
            hosts.entry(host).or_insert_with(|| json!({}))[namespace] = shards;
        }
        Value::Object(hosts)
    }

    fn instances(&self) -> Value {
        let mut nodes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for workload in self.workloads() {
            nodes.entry(workload.node.to_string()).or_default().push(workload.uid.to_string().into());
        }
        json!(nodes)
    }

    fn networks(&self) -> Value {
        let gateways = self.workloads().filter_map(|workload| {
            let gateway = workload.network_gateway.as_ref()?;
            Some((workload.network.to_string(), gateway.destination.to_string()))
        });
        json!(gateways.collect::<BTreeMap<_, _>>())
    }

    fn policies(&self, namespace: Option<&str>) -> Vec<Value> {
        let snapshot = self.snapshots.borrow().clone();
        let collection = snapshot.as_ref().and_then(|snapshot| snapshot.get(type_url::AUTHORIZATION));
        let policies = collection.into_iter().flat_map(|collection| collection.iter());
        let mut policies: Vec<_> = policies.filter_map(|resource| decode_authorization(&resource.body).ok()).collect();
        policies.retain(|policy| namespace.is_none_or(|namespace| *policy.namespace == *namespace));
        policies.sort_by_key(model::Authorization::key);
        let page = |policy: &model::Authorization| {
            json!({
                "name": &*policy.name, "namespace": &*policy.namespace, "scope": format!("{:?}", policy.scope),
                "action": format!("{:?}", policy.action), "rules": policy.rules.len(), "dryRun": policy.dry_run,
            })
        };
        policies.iter().map(page).collect()
    }

    fn everything(&self, namespace: Option<&str>) -> Value {
        let wanted = |other: &str| namespace.is_none_or(|namespace| namespace == other);
        let (mut workloads, mut services) = (Vec::new(), Vec::new());
        for address in self.addresses() {
            match address {
                Address::Workload(workload) if wanted(&workload.namespace) => workloads.push(workload_page(&workload)),
                Address::Service(service) if wanted(&service.namespace) => services.push(service_page(&service)),
                _ => {}
            }
        }
        json!({"workloads": workloads, "services": services, "policies": self.policies(namespace)})
    }
}

/// The mesh's own resources, as they were read.
fn configuration(objects: &crate::objects::Objects, namespace: Option<&str>) -> Value {
    fn of<'a, T: Resource>(objects: impl Iterator<Item = &'a Arc<T>>, namespace: Option<&str>) -> Vec<Value> {
        let wanted = objects.filter(|object| namespace.is_none_or(|namespace| object.namespace() == namespace));
        wanted.map(|object| object.to_value()).collect()
    }
    let mut all = of(objects.policies.iter(), namespace);
    all.extend(of(objects.peer_authentications.iter(), namespace));
    all.extend(of(objects.service_entries.iter(), namespace));
    all.extend(of(objects.workload_entries.iter(), namespace));
    all.extend(of(objects.gateways.iter(), namespace));
    let name = |object: &Value| {
        [&object["kind"], &object["metadata"]["namespace"], &object["metadata"]["name"]].map(Value::to_string)
    };
    all.sort_by_key(name);
    all.into()
}

fn counts(objects: &crate::objects::Objects) -> Value {
    json!({
        "namespaces": objects.namespaces.len(), "nodes": objects.nodes.len(), "pods": objects.pods.len(),
        "services": objects.services.len(), "endpointSlices": objects.slices.len(),
        "serviceEntries": objects.service_entries.len(), "workloadEntries": objects.workload_entries.len(),
        "authorizationPolicies": objects.policies.len(), "peerAuthentications": objects.peer_authentications.len(),
        "gateways": objects.gateways.len(), "gatewayClasses": objects.gateway_classes.len(),
    })
}

/// `<pod>.<namespace>`, the third part of `<type>~<ip>~<pod>.<namespace>~<domain>`.
fn name_of(status: &ClientStatus) -> &str {
    status.node.id.split('~').nth(2).unwrap_or(&status.node.id)
}

fn type_page(entry: &TypeStatus) -> Value {
    json!({
        "typeUrl": entry.type_url, "status": entry.config_status().as_str_name(), "nonce": entry.nonce,
        "accepted": entry.accepted, "refused": entry.refused, "resources": entry.resources,
    })
}

/// How far a proxy got, as readers of this page expect it: who it is, and for each type what was sent and what was accepted.
fn sync_status(status: &ClientStatus) -> Value {
    let text = |key| metadata_text(&status.node, key).unwrap_or_default();
    let mut page = json!({
        "cluster_id": text("CLUSTER_ID"), "proxy": name_of(status),
        "proxy_type": status.node.id.split('~').next().unwrap_or_default(),
        "proxy_version": text("ISTIO_VERSION"), "istio_version": text("ISTIO_VERSION"),
    });
    for entry in &status.types {
        let name = match entry.type_url.as_str() {
            type_url::ADDRESS => "address",
            type_url::AUTHORIZATION => "authorization",
            other => other.rsplit('/').next().unwrap_or(other),
        };
        page[format!("{name}_sent")] = entry.nonce.as_str().into();
        page[format!("{name}_acked")] = entry.accepted.as_str().into();
        if entry.config_status() == ConfigStatus::Error {
            page[format!("{name}_error")] = entry.refused.clone().into();
        }
    }
    page
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
        "services": services.collect::<Map<String, Value>>(),
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
