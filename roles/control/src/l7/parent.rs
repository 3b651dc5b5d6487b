//! Whether a parent takes a route: services by their ports, gateways by what their listeners allow.

use super::world::World;
use api::{Gateway, Listener, ObjectMeta, Resource, gateway::ParentReference};
use proto::l7::{self as wire, parent::Parent};

/// What a parent makes of a route.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attached {
    /// It takes it, as this.
    To(Vec<wire::Parent>),
    /// It does not: reason and message.
    Refused(&'static str, String),
    /// It is nothing of ours.
    Ignored,
}

/// Looks a parent up and asks it.
pub(super) fn attach(
    reference: &ParentReference,
    route: &ObjectMeta,
    hostnames: &[String],
    kind: &str,
    world: &World,
) -> Attached {
    let namespace = if reference.namespace.is_empty() { &route.namespace } else { &reference.namespace };
    let group = if reference.group.is_empty() && matches!(reference.kind.as_str(), "" | "Gateway") {
        api::gateway::GROUP
    } else {
        &reference.group
    };
    match (group, reference.kind.as_str()) {
        ("" | "core", "Service") => to_service(reference, namespace, world),
        ("networking.istio.io", "ServiceEntry") => match world.entry_keys(namespace, &reference.name) {
            Some(keys) => Attached::To(keys.into_iter().map(|key| service(key, reference)).collect()),
            None => Attached::Refused(
                "NoMatchingParent",
                format!("there is no service entry {namespace}/{}", reference.name),
            ),
        },
        (api::gateway::GROUP, "" | "Gateway") => {
            match world.gateways.get(&(namespace.clone(), reference.name.clone())) {
                Some(gateway) => to_gateway(reference, gateway, route, hostnames, kind, world),
                // Somebody else may be about to make it, or it may be somebody else's.
                None => Attached::Ignored,
            }
        }
        _ => Attached::Ignored,
    }
}

fn to_service(reference: &ParentReference, namespace: &str, world: &World) -> Attached {
    let Some(found) = world.service(namespace, &reference.name) else {
        return Attached::Refused("NoMatchingParent", format!("there is no service {namespace}/{}", reference.name));
    };
    if reference.port != 0 && !found.spec.ports.iter().any(|port| port.port == reference.port) {
        let message = format!("service {namespace}/{} has no port {}", reference.name, reference.port);
        return Attached::Refused("NoMatchingParent", message);
    }
    Attached::To(vec![service(world.key(namespace, &reference.name), reference)])
}

fn service(key: wire::ServiceKey, reference: &ParentReference) -> wire::Parent {
    let port = u32::try_from(reference.port).unwrap_or_default();
    wire::Parent { parent: Some(Parent::Service(key)), port, section_name: reference.section_name.clone() }
}

fn to_gateway(
    reference: &ParentReference,
    gateway: &Gateway,
    route: &ObjectMeta,
    hostnames: &[String],
    kind: &str,
    world: &World,
) -> Attached {
    let named = |listener: &&Listener| {
        (reference.section_name.is_empty() || listener.name == reference.section_name)
            && (reference.port == 0 || listener.port == reference.port)
    };
    let matching: Vec<&Listener> = gateway.spec.listeners.iter().filter(named).collect();
    if matching.is_empty() {
        return Attached::Refused("NoMatchingParent", "no listener has this name or port".to_owned());
    }
    let allowing: Vec<&Listener> =
        matching.into_iter().filter(|listener| allows(listener, gateway, route, kind, world)).collect();
    if allowing.is_empty() {
        return Attached::Refused(
            "NotAllowedByListeners",
            "no listener allows routes of this kind or namespace".to_owned(),
        );
    }
    let fits = |listener: &&Listener| {
        hostnames.is_empty()
            || listener.hostname.is_empty()
            || hostnames.iter().any(|host| meet(host, &listener.hostname))
    };
    let fitting: Vec<&Listener> = allowing.into_iter().filter(fits).collect();
    if fitting.is_empty() {
        return Attached::Refused("NoMatchingListenerHostname", "no listener is for any of these hostnames".to_owned());
    }
    let key = wire::GatewayKey { namespace: gateway.namespace().to_owned(), name: gateway.name().to_owned() };
    let parents = fitting.into_iter().map(|listener| {
        // A waypoint has one listener, whose port is the tunnels' and none that a client asks for.
        let port = if listener.protocol == "HBONE" { 0 } else { u32::try_from(listener.port).unwrap_or_default() };
        wire::Parent { parent: Some(Parent::Gateway(key.clone())), port, section_name: listener.name.clone() }
    });
    Attached::To(parents.collect())
}

fn allows(listener: &Listener, gateway: &Gateway, route: &ObjectMeta, kind: &str, world: &World) -> bool {
    let allowed = listener.allowed_routes.clone().unwrap_or_default();
    let kinds = match (allowed.kinds.as_slice(), listener.protocol.as_str()) {
        ([], "HTTP" | "HTTPS" | "HBONE") => matches!(kind, "HTTPRoute" | "GRPCRoute"),
        ([], _) => false,
        (kinds, _) => kinds.iter().any(|one| one.kind == kind),
    };
    let namespaces = allowed.namespaces.unwrap_or_default();
    let near = match namespaces.from.as_str() {
        "All" => true,
        "Selector" => {
            namespaces.selector.as_ref().is_some_and(|selector| selector.matches(&world.labels(&route.namespace)))
        }
        _ => route.namespace == gateway.namespace(),
    };
    kinds && near
}

/// Whether two hostnames, each possibly `*.x`, have anything in common.
fn meet(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (None, None) => one.eq_ignore_ascii_case(other),
        (Some(suffix), None) => other.len() > suffix.len() && other.ends_with(suffix),
        (None, Some(suffix)) => one.len() > suffix.len() && one.ends_with(suffix),
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
    }
}
