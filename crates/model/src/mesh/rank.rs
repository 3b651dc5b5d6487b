//! Which of several things at one address or name is meant: total orders, so that the answer never depends on arrival.

use crate::{Cidr, Service, TunnelProtocol, Workload};
use std::{cmp::Ordering, net::IpAddr, sync::Arc};

/// Best first: pods, then what speaks HBONE, then by uid.
pub(super) fn workloads_at_one_address(a: &Workload, b: &Workload) -> Ordering {
    let rank =
        |workload: &Workload| (!workload.uid.contains("//Pod/"), workload.tunnel_protocol != TunnelProtocol::Hbone);
    rank(a).cmp(&rank(b)).then_with(|| workloads(a, b))
}

/// By uid.
pub(super) fn workloads(a: &Workload, b: &Workload) -> Ordering {
    a.uid.cmp(&b.uid)
}

/// By namespace, then hostname.
pub(super) fn services(a: &Service, b: &Service) -> Ordering {
    (&a.namespace, &a.hostname).cmp(&(&b.namespace, &b.hostname))
}

/// The client's own namespace's, then the canonical one, then the first.
pub(super) fn best<'a>(candidates: &'a [Arc<Service>], client_namespace: Option<&str>) -> Option<&'a Arc<Service>> {
    let visible = candidates.iter().filter(|service| service.is_visible_to(client_namespace));
    visible.min_by_key(|service| (!is_own(service, client_namespace), !service.canonical))
}

/// The client's own namespace's, then the longest prefix, then the canonical one, then the first.
pub(super) fn best_range<'a>(
    ranges: &'a [(Cidr, Arc<Service>)],
    network: &str,
    address: IpAddr,
    client_namespace: Option<&str>,
) -> Option<&'a Arc<Service>> {
    let holding = ranges
        .iter()
        .filter(|(range, service)| range.holds(network, address) && service.is_visible_to(client_namespace));
    let best = holding.min_by_key(|(range, service)| {
        (!is_own(service, client_namespace), u8::MAX - range.range.prefix_len(), !service.canonical)
    });
    best.map(|(_, service)| service)
}

fn is_own(service: &Service, client_namespace: Option<&str>) -> bool {
    client_namespace.is_some_and(|namespace| *namespace == *service.namespace)
}
