//! Gateways to other networks, and which of them leads to a workload (control-plane A10).
//!
//! A Gateway of class `istio-remote` with a network's label and an HBONE listener says how that network is entered. Of
//! several the first by name counts.

use super::{View, view::ip_bytes, waypoint::hbone_listener};
use api::{Gateway, Resource};
use model::well_known::HBONE_PORT;
use proto::workload::{
    GatewayAddress, NamespacedHostname, NetworkAddress, TunnelProtocol, Workload, gateway_address::Destination,
};
use std::net::IpAddr;

const REMOTE: &str = "istio-remote";
const NETWORK: &str = "topology.istio.io/network";

/// The network that a gateway leads to, if it leads to another one.
pub(super) fn network_of<'g>(gateway: &'g Gateway, view: View<'_>) -> Option<&'g str> {
    let network = gateway.metadata.label(NETWORK)?;
    (gateway.spec.gateway_class_name == REMOTE && network != view.network()).then_some(network)
}

/// The gateway as a workload of its own, to which a proxy opens the outer tunnel.
pub(super) fn workload(gateway: &Gateway, view: View<'_>) -> Option<Workload> {
    let network = network_of(gateway, view)?;
    if !first(network, view).is_some_and(|first| std::ptr::eq(first, gateway)) {
        return None;
    }
    let (address, port) = (address(gateway)?, port(gateway)?);
    let ip = address.parse::<IpAddr>().ok();
    let account = gateway.metadata.annotation("gateway.istio.io/service-account").unwrap_or_default();
    let trust_domain = gateway.metadata.annotation("gateway.istio.io/trust-domain").unwrap_or_default();
    Some(Workload {
        uid: format!("NetworkGateway/{network}/{address}/{port}"),
        name: gateway.name().to_owned(),
        namespace: gateway.namespace().to_owned(),
        addresses: ip.map(ip_bytes).into_iter().collect(),
        hostname: if ip.is_none() { address.to_owned() } else { String::new() },
        network: network.to_owned(),
        service_account: account.to_owned(),
        trust_domain: trust_domain.to_owned(),
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        ..Workload::default()
    })
}

/// How a workload of a network is reached from this one; none for our own network.
pub(super) fn gateway_to(network: &str, view: View<'_>) -> Option<GatewayAddress> {
    if network == view.network() {
        return None;
    }
    let gateway = first(network, view)?;
    let address = address(gateway)?;
    let destination = match address.parse() {
        Ok(ip) => {
            Destination::Address(NetworkAddress { network: network.to_owned(), address: ip_bytes(ip), length: None })
        }
        Err(_) => Destination::Hostname(NamespacedHostname {
            namespace: gateway.namespace().to_owned(),
            hostname: address.to_owned(),
        }),
    };
    Some(GatewayAddress { destination: Some(destination), hbone_mtls_port: port(gateway)? })
}

/// The gateway that counts, of those that lead to a network.
fn first<'a>(network: &str, view: View<'a>) -> Option<&'a Gateway> {
    let leads_there = |gateway: &&Gateway| network_of(gateway, view) == Some(network);
    let gateways = view.objects.gateways.iter().map(AsRef::as_ref).filter(leads_there);
    gateways.min_by_key(|gateway| (gateway.namespace(), gateway.name()))
}

fn address(gateway: &Gateway) -> Option<&str> {
    let asked = gateway.spec.addresses.iter().map(|address| address.value.as_str());
    asked.chain(gateway.status.addresses.iter().map(|address| address.value.as_str())).find(|value| !value.is_empty())
}

fn port(gateway: &Gateway) -> Option<u32> {
    let listener = hbone_listener(gateway)?;
    Some(u16::try_from(listener.port).ok().filter(|port| *port != 0).unwrap_or(HBONE_PORT).into())
}
