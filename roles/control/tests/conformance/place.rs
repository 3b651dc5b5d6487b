//! The objects of one test as tables: of each listener, or of each service of a mesh.

use api::{GRPCRoute, Gateway, HTTPRoute, Resource, Service};
use control::l7::{World, by_name, grpc, http};
use l7::{
    config::{Change, Config},
    route::{Route, Table, table},
};
use proto::l7::{self as wire, parent::Parent};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// A listener with its table.
pub(crate) struct Listener {
    pub(crate) gateway: String,
    pub(crate) port: u16,
    pub(crate) hostname: String,
    pub(crate) table: Table,
}

/// Where requests arrive.
pub(crate) struct Place {
    pub(crate) mesh: bool,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) config: Config,
    pub(crate) services: Vec<Arc<Service>>,
}

fn read<T: Resource + DeserializeOwned>(objects: &[&Value]) -> Vec<Arc<T>> {
    let ours = objects.iter().filter(|object| object["kind"] == T::KIND);
    ours.map(|object| Arc::new(serde_json::from_value((*object).clone()).unwrap())).collect()
}

impl Place {
    pub(crate) fn new<'a>(objects: impl Iterator<Item = &'a Value>, mesh: bool) -> Self {
        let objects: Vec<&Value> = objects.collect();
        let services = read::<Service>(&objects);
        let gateways = read::<Gateway>(&objects);
        let namespaces = read::<api::Namespace>(&objects);
        let world = World {
            services: by_name(services.clone()),
            gateways: by_name(gateways.clone()),
            namespaces: namespaces.into_iter().map(|one| (one.name().to_owned(), one)).collect(),
            grants: read(&objects),
            ..World::default()
        };
        let http = read::<HTTPRoute>(&objects).into_iter().filter_map(|route| http(&route, &world).route);
        let grpc = read::<GRPCRoute>(&objects).into_iter().filter_map(|route| grpc(&route, &world).route);
        let wires: Vec<wire::Route> = http.chain(grpc).collect();
        let routes: Vec<Route> = wires.iter().map(|wire| Route::new(wire).unwrap()).collect();
        let changes = wires.iter().map(|wire| {
            let kind = Some(wire::resource::Kind::Route(wire.clone()));
            Change::Set(format!("{}/{}", wire.namespace, wire.name).into(), Box::new(wire::Resource { kind }))
        });
        let (config, refused) = Config::default().apply(changes);
        assert!(refused.is_empty(), "{refused:?}");
        let listeners = gateways.iter().flat_map(|gateway| listeners(gateway, &routes)).collect();
        Self { mesh, listeners, config, services }
    }
}

fn listeners(gateway: &Gateway, routes: &[Route]) -> Vec<Listener> {
    let of_listener = |listener: &api::Listener| {
        let here = |parent: &wire::Parent| {
            let key = wire::GatewayKey { namespace: gateway.namespace().into(), name: gateway.name().into() };
            parent.parent == Some(Parent::Gateway(key)) && parent.section_name == listener.name
        };
        let attached = routes.iter().filter(|route| route.parents.iter().any(here)).map(|route| (route, None));
        let host = if listener.hostname.is_empty() { "*" } else { &listener.hostname };
        Listener {
            gateway: gateway.name().to_owned(),
            port: u16::try_from(listener.port).unwrap(),
            hostname: host.to_owned(),
            table: table(attached, Some(host)),
        }
    };
    gateway.spec.listeners.iter().map(of_listener).collect()
}
