//! What objects resolve to: tables of small worlds, and a recorded one.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod incremental;
mod policies;
mod recording;
mod statuses;
mod unreadable;
mod waypoints;
mod workloads;

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
        take(&mut resolver, value);
    }
    resolver
}

/// Calls a generic function for the kind of a document.
macro_rules! of_its_kind {
    ($value:expr, $function:ident($($argument:expr),*)) => {
        match api::type_meta(&$value).unwrap().kind.as_str() {
            "Namespace" => $function::<api::Namespace>($($argument),*),
            "Node" => $function::<api::Node>($($argument),*),
            "Pod" => $function::<api::Pod>($($argument),*),
            "Service" => $function::<api::Service>($($argument),*),
            "EndpointSlice" => $function::<api::EndpointSlice>($($argument),*),
            "ServiceEntry" => $function::<api::ServiceEntry>($($argument),*),
            "WorkloadEntry" => $function::<api::WorkloadEntry>($($argument),*),
            "AuthorizationPolicy" => $function::<api::AuthorizationPolicy>($($argument),*),
            "PeerAuthentication" => $function::<api::PeerAuthentication>($($argument),*),
            "Gateway" => $function::<api::Gateway>($($argument),*),
            "GatewayClass" => $function::<api::GatewayClass>($($argument),*),
            other => panic!("{other} is not expected"),
        }
    };
}
use of_its_kind;

fn take(resolver: &mut Resolver, value: serde_json::Value) {
    of_its_kind!(value, set(resolver, value));
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
