//! Choosing one endpoint of a service: candidates, ranks by locality, weighted choice, port and address (ztunnel.md §6.1).

use super::Source;
use model::{
    IpFamilies, LoadBalancing, LoadBalancingMode, LoadBalancingScope, Mesh, NamespacedHostname, PortMap, Service, Str,
    Workload,
};
use std::{
    hash::{BuildHasher, Hash},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

/// The workload that a client of a service had within this time.
type Kept<'a> = &'a dyn Fn(&NamespacedHostname, Duration) -> Option<Str>;

/// Chance, injected: `below(n)` gives a number in `0..n`.
pub(crate) struct Chooser<'a> {
    below: &'a mut dyn FnMut(u64) -> u64,
    client: Option<IpAddr>,
    kept: Option<Kept<'a>>,
}

impl std::fmt::Debug for Chooser<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chooser").field("client", &self.client).finish_non_exhaustive()
    }
}

impl<'a> Chooser<'a> {
    /// Chance from `below`, for a client at `client` (known where session affinity matters).
    pub(crate) fn new(below: &'a mut dyn FnMut(u64) -> u64, client: Option<IpAddr>) -> Self {
        Self { below, client, kept: None }
    }

    /// The same, for a client that may have an endpoint already.
    pub(crate) fn keeping(self, kept: Kept<'a>) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// The index of the endpoint that the client had, if it may still be chosen.
    fn kept(&self, service: &Service, eligible: &[&Candidate<'_>]) -> Option<usize> {
        let uid = (self.kept?)(&service.key(), service.session_affinity?.timeout)?;
        eligible.iter().position(|candidate| candidate.workload.uid == uid && candidate.workload.capacity > 0)
    }

    /// The index of one of `weights`, chosen in proportion; `None` when all are 0.
    pub(super) fn weighted(&mut self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        let total: u64 = weights.clone().map(u64::from).sum();
        if total == 0 {
            return None;
        }
        let mut left = (self.below)(total);
        weights.into_iter().position(|weight| {
            let hit = left < u64::from(weight);
            left = left.wrapping_sub(u64::from(weight));
            hit
        })
    }
}

/// A chosen workload and the port to reach its application at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The application's port.
    pub port: u16,
}

impl Choice {
    /// The workload itself was addressed.
    pub(super) fn direct(workload: Arc<Workload>, port: u16) -> Self {
        Self { workload, port }
    }
}

/// Which port of a service is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Port {
    /// A client addressed the service at this port.
    Service(u16),
    /// A proxy looks for its waypoint's HBONE port, which the service need not have if the workload has a tunnel.
    Waypoint(u16),
}

/// One endpoint that could be chosen.
struct Candidate<'a> {
    workload: &'a Arc<Workload>,
    port: u16,
    rank: usize,
}

/// Chooses an endpoint of `service`, or none.
pub(super) fn choose(
    mesh: &Mesh,
    source: Source<'_>,
    service: &Service,
    port: Port,
    wanted: IpAddr,
    chooser: &mut Chooser<'_>,
) -> Option<Choice> {
    let balancing = service.load_balancing.as_ref();
    let key = service.key();
    let candidates: Vec<Candidate<'_>> = mesh
        .endpoints(&key)
        .filter(|endpoint| is_reachable(source, service, endpoint.workload, wanted))
        .filter_map(|endpoint| {
            let workload = endpoint.workload;
            let port = target_port(service, workload, endpoint.ports, port)?;
            Some(Candidate { workload, port, rank: rank(source.workload, workload, balancing) })
        })
        .collect();
    let wanted_rank = match balancing.map(|balancing| balancing.mode) {
        Some(LoadBalancingMode::Strict) => balancing.map_or(0, |balancing| full_rank(&balancing.routing_preferences)),
        Some(LoadBalancingMode::Failover) => candidates.iter().map(|candidate| candidate.rank).max()?,
        _ => 0,
    };
    let everyone = !matches!(
        balancing.map(|balancing| balancing.mode),
        Some(LoadBalancingMode::Strict | LoadBalancingMode::Failover)
    );
    let eligible: Vec<&Candidate<'_>> =
        candidates.iter().filter(|candidate| everyone || candidate.rank == wanted_rank).collect();
    let index = match chooser.client.filter(|_| service.session_affinity.is_some()) {
        Some(client) => match chooser.kept(service, &eligible) {
            Some(index) => index,
            None => affine(client, &eligible)?,
        },
        None => chooser.weighted(eligible.iter().map(|candidate| candidate.workload.capacity))?,
    };
    let chosen = eligible[index];
    Some(Choice { workload: chosen.workload.clone(), port: chosen.port })
}

/// Reachable by address or name, or through its network's gateway.
fn is_reachable(source: Source<'_>, service: &Service, workload: &Workload, wanted: IpAddr) -> bool {
    address_of(workload, Some(service), wanted).is_some()
        || !workload.hostname.is_empty()
        || (workload.network != source.workload.network && workload.network_gateway.is_some())
}

/// The application's port on this endpoint: what the endpoint says, else the service, else (for a workload with a
/// tunnel) the port that was asked for.
fn target_port(service: &Service, workload: &Workload, ports: &PortMap, port: Port) -> Option<u16> {
    let (Port::Service(service_port) | Port::Waypoint(service_port)) = port;
    let tunnelled = workload.application_tunnel.is_some_and(|tunnel| tunnel.port.is_some());
    match (ports.target(service_port), service.target_port(service_port)) {
        (Some(target), _) => Some(target),
        (None, Some(target)) if target > 0 => Some(target),
        (None, Some(_)) if tunnelled => Some(service_port),
        (None, None) if tunnelled && matches!(port, Port::Waypoint(_)) => Some(service_port),
        _ => None,
    }
}

/// The address to use: the wanted one if it is the workload's, else the first of a family that the service is served
/// on, the wanted family first.
pub(super) fn address_of(workload: &Workload, service: Option<&Service>, wanted: IpAddr) -> Option<IpAddr> {
    if workload.addresses.contains(&wanted) {
        return Some(wanted);
    }
    let served = |address: &&IpAddr| match service.and_then(|service| service.ip_families) {
        Some(IpFamilies::Ipv4) => address.is_ipv4(),
        Some(IpFamilies::Ipv6) => address.is_ipv6(),
        Some(IpFamilies::Dual) | None => true,
    };
    let allowed = || workload.addresses.iter().filter(served);
    allowed().find(|address| address.is_ipv4() == wanted.is_ipv4()).or_else(|| allowed().next()).copied()
}

/// How many preferences match from the first on. When the first is the network, a mismatch does not end the count and
/// a match outweighs all others together, so that the own network always wins.
fn rank(source: &Workload, workload: &Workload, balancing: Option<&LoadBalancing>) -> usize {
    let preferences = balancing.map_or(&[][..], |balancing| &balancing.routing_preferences);
    if let [LoadBalancingScope::Network, rest @ ..] = preferences {
        let own = matches(source, workload, LoadBalancingScope::Network);
        let bonus = if own { preferences.len() } else { 0 };
        return bonus + rest.iter().take_while(|scope| matches(source, workload, **scope)).count();
    }
    preferences.iter().take_while(|scope| matches(source, workload, **scope)).count()
}

/// The rank of an endpoint that matches every preference.
fn full_rank(preferences: &[LoadBalancingScope]) -> usize {
    match preferences {
        [LoadBalancingScope::Network, rest @ ..] => preferences.len() + rest.len(),
        all => all.len(),
    }
}

fn matches(source: &Workload, workload: &Workload, scope: LoadBalancingScope) -> bool {
    match scope {
        LoadBalancingScope::Region => source.locality.region == workload.locality.region,
        LoadBalancingScope::Zone => source.locality.zone == workload.locality.zone,
        LoadBalancingScope::Subzone => source.locality.subzone == workload.locality.subzone,
        LoadBalancingScope::Node => source.node == workload.node,
        LoadBalancingScope::Cluster => source.cluster_id == workload.cluster_id,
        LoadBalancingScope::Network => source.network == workload.network,
    }
}

/// The endpoint that a new client gets: the highest hash of client and endpoint together, so that other endpoints may
/// come and go without moving it.
fn affine(client: IpAddr, eligible: &[&Candidate<'_>]) -> Option<usize> {
    let hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
    let score = |candidate: &Candidate<'_>| {
        let mut state = hasher.build_hasher();
        (client, &*candidate.workload.uid).hash(&mut state);
        std::hash::Hasher::finish(&state)
    };
    let chosen = eligible.iter().enumerate().filter(|(_, candidate)| candidate.workload.capacity > 0);
    chosen.max_by_key(|(_, candidate)| score(candidate)).map(|(index, _)| index)
}
