//! Which waypoint an object is bound to, or why it is not (control-plane A7).

use super::View;
use api::{Gateway, Listener, ObjectMeta, Resource};
use model::well_known::HBONE_PORT;
use proto::workload::{
    GatewayAddress, NamespacedHostname, NetworkAddress, WeightedWaypoint, gateway_address::Destination,
};
use std::collections::BTreeMap;

const USE_WAYPOINT: &str = "istio.io/use-waypoint";
const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
const MANAGED: &str = "gateway.istio.io/managed";

/// What kind of traffic an object receives through a waypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Addressed to a service.
    Service,
    /// Addressed to the workload itself.
    Workload,
}

/// Whether an object is bound to a waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Nobody asked for one.
    Unasked,
    /// It is.
    Bound {
        /// `<namespace>/<name>` of the waypoint.
        waypoint: String,
        /// How to reach it.
        address: GatewayAddress,
        /// Another one that takes a share of the connections, if one was asked for.
        canary: Option<Result<Canary, Refusal>>,
    },
    /// One was asked for and cannot be had.
    Refused(Refusal),
}

/// A waypoint on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// `<namespace>/<name>` of the waypoint.
    pub waypoint: String,
    /// How to reach it.
    pub address: GatewayAddress,
    /// Its share, of a hundred.
    pub weight: u32,
}

/// Why a waypoint that was asked for cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Reason of the condition.
    pub reason: &'static str,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Binding {
    /// The waypoint's address, if there is one.
    pub fn address(self) -> Option<GatewayAddress> {
        match self {
            Self::Bound { address, .. } => Some(address),
            Self::Unasked | Self::Refused(_) => None,
        }
    }

    /// The waypoints to choose from by weight; none unless one is on trial.
    pub fn weighted(&self) -> Vec<WeightedWaypoint> {
        let Self::Bound { address, canary: Some(Ok(canary)), .. } = self else { return Vec::new() };
        let choice = |address: &GatewayAddress, weight| WeightedWaypoint { destination: Some(address.clone()), weight };
        vec![choice(address, 100 - canary.weight), choice(&canary.address, canary.weight)]
    }
}

/// The waypoint that some labels ask for: namespace and name. `Err` is a "none" that goes before the namespace's word.
fn asked(labels: &BTreeMap<String, String>, namespace: &str) -> Result<Option<(String, String)>, ()> {
    let Some(name) = labels.get(USE_WAYPOINT).filter(|name| !name.is_empty()) else { return Ok(None) };
    if name == "none" {
        return Err(());
    }
    let namespace = labels.get(USE_WAYPOINT_NAMESPACE).map_or(namespace, String::as_str);
    Ok(Some((namespace.to_owned(), name.clone())))
}

/// Whether an object was made for a waypoint or an east-west gateway: those have no waypoint themselves.
pub(super) fn is_managed(metadata: &ObjectMeta) -> bool {
    matches!(metadata.label(MANAGED), Some("istio.io-mesh-controller" | "istio.io-eastwest-controller"))
}

/// The listener that tunnels end at.
pub(super) fn hbone_listener(gateway: &Gateway) -> Option<&Listener> {
    let hbone = |listener: &&Listener| listener.protocol == "HBONE" || listener.port == i32::from(HBONE_PORT);
    gateway.spec.listeners.iter().find(hbone)
}

/// Whether an object with this metadata names a waypoint, as its own or as one on trial.
pub(super) fn names(metadata: &ObjectMeta, gateway: &Gateway, view: View<'_>) -> bool {
    let canary = metadata.label("istio.io/use-waypoint-canary") == Some(gateway.name());
    let primary = wanted(metadata, view);
    canary || primary.is_some_and(|(namespace, name, _)| namespace == gateway.namespace() && name == gateway.name())
}

/// Which waypoint an object with this metadata asks for, and whether it says so itself.
pub(super) fn wanted(metadata: &ObjectMeta, view: View<'_>) -> Option<(String, String, bool)> {
    if is_managed(metadata) {
        return None;
    }
    match asked(&metadata.labels, &metadata.namespace) {
        Err(()) => return None,
        Ok(Some((namespace, name))) => return Some((namespace, name, true)),
        Ok(None) => {}
    }
    let inherited = asked(view.objects.namespace_labels(&metadata.namespace), &metadata.namespace).ok().flatten();
    inherited.map(|(namespace, name)| (namespace, name, false))
}

/// The waypoint of an object with this metadata.
pub fn bind(metadata: &ObjectMeta, traffic: Traffic, view: View<'_>) -> Binding {
    let Some((namespace, name, explicit)) = wanted(metadata, view) else { return Binding::Unasked };
    match reach(&namespace, &name, &metadata.namespace, traffic, view) {
        Ok(address) => {
            let canary = canary(metadata, (&namespace, &name), traffic, view);
            Binding::Bound { waypoint: format!("{namespace}/{name}"), address, canary }
        }
        // A pod in a namespace whose waypoint is for services did not ask for anything.
        Err(refusal) if traffic == Traffic::Workload && !explicit && refusal.reason == UNSUPPORTED => Binding::Unasked,
        Err(refusal) => Binding::Refused(refusal),
    }
}

const UNSUPPORTED: &str = "UnsupportedTrafficType";

/// How to reach a waypoint from a namespace, if that may be.
fn reach(namespace: &str, name: &str, from: &str, traffic: Traffic, view: View<'_>) -> Result<GatewayAddress, Refusal> {
    let waypoint = format!("{namespace}/{name}");
    let refused = |reason, message| Err(Refusal { reason, message });
    let Some(gateway) = view.objects.gateways.get(namespace, name) else {
        let remedy = format!("create it with `ambit waypoint apply -n {namespace} --name {name}`");
        return refused("WaypointIsNotReady", format!("waypoint {waypoint} does not exist; {remedy}"));
    };
    if !serves(gateway, traffic, view) {
        let kind = if traffic == Traffic::Service { "service" } else { "workload" };
        let remedy = format!("label it {WAYPOINT_FOR}={kind} or =all");
        return refused(UNSUPPORTED, format!("waypoint {waypoint} does not take {kind} traffic; {remedy}"));
    }
    if !admits(gateway, from, view) {
        let remedy = "see allowedRoutes of its HBONE listener";
        return refused("AttachmentDenied", format!("waypoint {waypoint} does not admit namespace {from}; {remedy}"));
    }
    let missing = || Refusal {
        reason: "WaypointIsNotReady",
        message: format!("waypoint {waypoint} has no address yet; is its pod ready?"),
    };
    address(gateway, view).ok_or_else(missing)
}

/// The waypoint that takes a share of the connections, if one is asked for.
fn canary(
    metadata: &ObjectMeta,
    primary: (&str, &str),
    traffic: Traffic,
    view: View<'_>,
) -> Option<Result<Canary, Refusal>> {
    const CANARY: &str = "istio.io/use-waypoint-canary";
    const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
    const WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
    let name = metadata.label(CANARY).filter(|name| !name.is_empty())?;
    let namespace = metadata.label(CANARY_NAMESPACE).unwrap_or(&metadata.namespace);
    if (namespace, name) == primary {
        let message = format!("waypoint {namespace}/{name} is both the primary and the canary");
        return Some(Err(Refusal { reason: "CanarySameAsPrimary", message }));
    }
    let text = metadata.annotation(WEIGHT).unwrap_or("0");
    let Some(weight) = text.parse::<u32>().ok().filter(|weight| *weight <= 100) else {
        let message = format!("annotation {WEIGHT} is {text:?}, not a number from 0 to 100");
        return Some(Err(Refusal { reason: "CanaryInvalidWeight", message }));
    };
    let reached = reach(namespace, name, &metadata.namespace, traffic, view);
    Some(reached.map(|address| Canary { waypoint: format!("{namespace}/{name}"), address, weight }))
}

fn serves(gateway: &Gateway, traffic: Traffic, view: View<'_>) -> bool {
    let class = view.objects.gateway_classes.get("", &gateway.spec.gateway_class_name);
    let label = gateway.metadata.label(WAYPOINT_FOR).or_else(|| class?.metadata.label(WAYPOINT_FOR));
    match label.unwrap_or("service") {
        "all" => true,
        "service" => traffic == Traffic::Service,
        "workload" => traffic == Traffic::Workload,
        _ => false,
    }
}

/// Whether objects of a namespace may attach: what the HBONE listener says of routes.
fn admits(gateway: &Gateway, namespace: &str, view: View<'_>) -> bool {
    if gateway.namespace() == namespace {
        return true;
    }
    let namespaces = hbone_listener(gateway).and_then(|listener| listener.allowed_routes.as_ref()?.namespaces.as_ref());
    match namespaces {
        Some(allowed) if allowed.from == "All" => true,
        Some(allowed) if allowed.from == "Selector" => {
            allowed.selector.as_ref().is_some_and(|selector| selector.matches(view.objects.namespace_labels(namespace)))
        }
        _ => false,
    }
}

/// A hostname goes before an address: it says both families.
fn address(gateway: &Gateway, view: View<'_>) -> Option<GatewayAddress> {
    let addresses = &gateway.status.addresses;
    let hostname = addresses.iter().find(|address| address.type_ == "Hostname").map(|address| {
        Destination::Hostname(NamespacedHostname {
            namespace: gateway.namespace().to_owned(),
            hostname: address.value.clone(),
        })
    });
    let ip = || {
        let address = addresses.iter().find_map(|address| address.value.parse().ok())?;
        let network = view.network().to_owned();
        Some(Destination::Address(NetworkAddress { network, address: super::view::ip_bytes(address), length: None }))
    };
    let destination = hostname.or_else(ip)?;
    Some(GatewayAddress { destination: Some(destination), hbone_mtls_port: HBONE_PORT.into() })
}
