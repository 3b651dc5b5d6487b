//! What objects resolve to: tables of small worlds, and a recorded one.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod policies;
mod recording;
mod unreadable;
mod waypoints;
mod workloads;

use api::type_meta;
use control::{
    resolve::{Changes, Kind, Resolver},
    settings::Mesh,
};
use prost::Message;
use proto::workload::address::Type;
use std::sync::Arc;

fn set<T: Kind>(resolver: &mut Resolver, value: serde_json::Value) {
    resolver.set(Arc::new(T::from_value(value).unwrap()));
}

/// A resolver that has seen some documents.
fn resolver(yaml: &str, mesh: Mesh) -> Resolver {
    let mut resolver = Resolver::new(mesh);
    for value in api::yaml::read_documents(yaml.as_bytes()).unwrap() {
        let kind = type_meta(&value).unwrap().kind;
        match kind.as_str() {
            "Namespace" => set::<api::Namespace>(&mut resolver, value),
            "Node" => set::<api::Node>(&mut resolver, value),
            "Pod" => set::<api::Pod>(&mut resolver, value),
            "Service" => set::<api::Service>(&mut resolver, value),
            "EndpointSlice" => set::<api::EndpointSlice>(&mut resolver, value),
            "ServiceEntry" => set::<api::ServiceEntry>(&mut resolver, value),
            "WorkloadEntry" => set::<api::WorkloadEntry>(&mut resolver, value),
            "AuthorizationPolicy" => set::<api::AuthorizationPolicy>(&mut resolver, value),
            "PeerAuthentication" => set::<api::PeerAuthentication>(&mut resolver, value),
            "Gateway" => set::<api::Gateway>(&mut resolver, value),
            "GatewayClass" => set::<api::GatewayClass>(&mut resolver, value),
            other => panic!("{other} is not expected"),
        }
    }
    resolver
}

fn resolve(yaml: &str) -> Changes {
    resolver(yaml, Mesh::default()).resolve()
}

fn address(changes: &Changes, name: &str) -> Option<Type> {
    let resource = changes.addresses.get(name)?.as_ref()?;
    proto::workload::Address::decode(resource.body.as_slice()).unwrap().r#type
}

fn workload(changes: &Changes, name: &str) -> Option<proto::workload::Workload> {
    match address(changes, name) {
        Some(Type::Workload(workload)) => Some(workload),
        _ => None,
    }
}

fn service(changes: &Changes, name: &str) -> Option<proto::workload::Service> {
    match address(changes, name) {
        Some(Type::Service(service)) => Some(service),
        _ => None,
    }
}

fn policy(changes: &Changes, name: &str) -> Option<model::Authorization> {
    let resource = changes.authorizations.get(name)?.as_ref()?;
    Some(xds::wds::decode_authorization(&resource.body).unwrap())
}
