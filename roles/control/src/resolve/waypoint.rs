//! Which waypoint an object is bound to, or why it is not (control-plane A7).

use super::View;
use api::{Gateway, Listener, ObjectMeta, Resource};
use model::well_known::HBONE_PORT;
use proto::workload::{GatewayAddress, NamespacedHostname, NetworkAddress, gateway_address::Destination};
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
    },
    /// One was asked for and cannot be had.
    Refused(Refusal),
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

/// Which waypoint an object with this metadata asks for, and whether it says so itself.
pub(super) fn wanted(metadata: &ObjectMeta, view: View<'_>) -> Option<(String, String, bool)> {
    let managed = metadata.labels.get(MANAGED).map(String::as_str);
    if matches!(managed, Some("istio.io-mesh-controller" | "istio.io-eastwest-controller")) {
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
    let waypoint = format!("{namespace}/{name}");
    let refused = |reason, message| Binding::Refused(Refusal { reason, message });
    let Some(gateway) = view.objects.gateways.get(&namespace, &name) else {
        return refused(
            "WaypointIsNotReady",
            format!(
                "waypoint {waypoint} does not exist; create it with `ambit waypoint apply -n {namespace} --name {name}`"
            ),
        );
    };
    if !serves(gateway, traffic, view) {
        if traffic == Traffic::Workload && !explicit {
            return Binding::Unasked;
        }
        let kind = if traffic == Traffic::Service { "service" } else { "workload" };
        return refused(
            "UnsupportedTrafficType",
            format!("waypoint {waypoint} does not take {kind} traffic; label it {WAYPOINT_FOR}={kind} or =all"),
        );
    }
    if !admits(gateway, &metadata.namespace, view) {
        return refused(
            "AttachmentDenied",
            format!(
                "waypoint {waypoint} does not admit namespace {}; see allowedRoutes of its HBONE listener",
                metadata.namespace
            ),
        );
    }
    match address(gateway, view) {
        Some(address) => Binding::Bound { waypoint, address },
        None => refused("WaypointIsNotReady", format!("waypoint {waypoint} has no address yet; is its pod ready?")),
    }
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
    let hbone = |listener: &&Listener| listener.protocol == "HBONE" || listener.port == i32::from(HBONE_PORT);
    let listener = gateway.spec.listeners.iter().find(hbone);
    let namespaces = listener.and_then(|listener| listener.allowed_routes.as_ref()?.namespaces.as_ref());
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
