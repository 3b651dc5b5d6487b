//! What every cluster has from the start: namespaces, roles, and the service that leads to this server.

use crate::api::Api;
use crate::authz;
use crate::crd;
use crate::object::Object;
use crate::status::{Result, Status};
use crate::store::Key;
use crate::verbs::{self, Context, Strictness, admit_fields, create_object, update_object};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Makes what is missing; what is there stays as it is.
pub(crate) fn prepare(api: &Arc<Api>, advertise: Option<SocketAddr>) -> Result<()> {
    let (definitions, _) = api.store.list(&"apiextensions.k8s.io/customresourcedefinitions".into(), None);
    for definition in definitions {
        crd::registered(api, None, Some(&definition));
    }
    for name in NAMESPACES {
        ensure(api, "", "namespaces", "", json!({"metadata": {"name": name}}))?;
    }
    for object in authz::bootstrap::objects() {
        let plural = match object.text("/kind") {
            "ClusterRole" => "clusterroles",
            _ => "clusterrolebindings",
        };
        ensure(api, "rbac.authorization.k8s.io", plural, "", object)?;
    }
    for (name, value) in [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)] {
        ensure(api, "scheduling.k8s.io", "priorityclasses", "", json!({"metadata": {"name": name}, "value": value}))?;
    }
    own_service(api, advertise)
}

/// Creates an object unless there is one of its name.
fn ensure(api: &Arc<Api>, group: &str, plural: &str, namespace: &str, mut value: Value) -> Result<()> {
    let kind = api.catalog().preferred(group, plural).ok_or_else(Status::no_such_path)?;
    let key = Key::new(&kind.resource.storage, namespace, value.name());
    if api.store.get(&key).is_some() {
        return Ok(());
    }
    admit_fields(&kind, &mut value, Strictness::Strict, &mut Vec::new())?;
    create_object(api, &Context::own(kind, namespace), value).map(drop)
}

/// The first address of the service range is this server's own.
fn own_service(api: &Arc<Api>, advertise: Option<SocketAddr>) -> Result<()> {
    let address = Ipv4Addr::from(u32::from(api.service_range.network()) + 1);
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let port = advertise.map_or(6443, |advertise| advertise.port());
    let service = json!({"metadata": {"name": "kubernetes", "labels": labels}, "spec": {"clusterIP": address.to_string(),
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}});
    ensure(api, "", "services", "default", service)?;
    let Some(advertise) = advertise else { return Ok(()) };
    let host = advertise.ip().to_string();
    let form = if advertise.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({"metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": form, "endpoints": [{"addresses": [host], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    let endpoints = json!({"metadata": {"name": "kubernetes"},
        "subsets": [{"addresses": [{"ip": host}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]});
    current(api, "discovery.k8s.io", "endpointslices", slice)?;
    current(api, "", "endpoints", endpoints)
}

/// Makes an object or brings it to where this server listens now.
fn current(api: &Arc<Api>, group: &str, plural: &str, wanted: Value) -> Result<()> {
    ensure(api, group, plural, "default", wanted.clone())?;
    let kind = api.catalog().preferred(group, plural).ok_or_else(Status::no_such_path)?;
    let context = Context::own(kind.clone(), "default");
    update_object(api, &context, wanted.name(), |stored| {
        let mut value = verbs::present(stored, &kind);
        for (field, content) in wanted.as_object().into_iter().flatten().filter(|(field, _)| *field != "metadata") {
            value[field] = content.clone();
        }
        admit_fields(&kind, &mut value, Strictness::Ignore, &mut Vec::new())?;
        Ok(value)
    })
    .map(drop)
}
