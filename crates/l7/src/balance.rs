//! Which endpoint a request goes to: the endpoints of a service with what is known of each, and the choice among them.
//!
//! A set of endpoints is computed once per snapshot of the mesh; what is known of an endpoint (requests under way, failures in a
//! row, since when it is left alone) outlives snapshots. The choice is two random ones and the less busy of them, unless the
//! destination says otherwise.

mod health;

pub use health::{Busy, Health, Outcome};

use crate::destination::{Destination, TrafficPolicy};
use model::{Mesh, NamespacedHostname, Str, Workload};
use parking_lot::Mutex;
use proto::l7::traffic_policy::Balancer;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::time::Instant;

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its address and the application's port.
    pub address: SocketAddr,
    /// What is known of it.
    pub health: Arc<Health>,
}

/// The endpoints that may serve a port of a service, and what they share.
#[derive(Debug, Default)]
pub struct Set {
    /// Endpoints, by uid.
    pub endpoints: Vec<Endpoint>,
    turn: AtomicUsize,
    /// Counters of the whole port.
    pub load: Arc<Load>,
}

/// What is under way to a port of a service.
#[derive(Debug, Default)]
pub struct Load {
    /// Requests.
    pub requests: AtomicU32,
    /// Further tries.
    pub retries: AtomicU32,
}

type Key = (NamespacedHostname, u16, Option<Str>);

/// Every set that was asked for, for one process.
#[derive(Debug, Default)]
pub struct Sets {
    sets: Mutex<HashMap<Key, (usize, Arc<Set>)>>,
    known: Mutex<HashMap<(Str, u16), Arc<Health>>>,
}

/// Sets that are remembered; beyond, all are computed again.
const MAX_SETS: usize = 16_384;

impl Sets {
    /// The set of a service's port in a snapshot, which `generation` numbers; `subset` leaves only its members.
    pub fn get(
        &self,
        mesh: &Mesh,
        generation: usize,
        key: (&NamespacedHostname, u16),
        subset: Option<(&Str, &Destination)>,
    ) -> Arc<Set> {
        let name = (key.0.clone(), key.1, subset.map(|(name, _)| name.clone()));
        let mut sets = self.sets.lock();
        let before = sets.get(&name);
        if let Some((_, set)) = before.filter(|(known, _)| *known == generation) {
            return set.clone();
        }
        let load = before.map(|(_, set)| set.load.clone()).unwrap_or_default();
        let set = Arc::new(Set { endpoints: self.endpoints(mesh, key, subset), turn: AtomicUsize::new(0), load });
        if sets.len() >= MAX_SETS {
            sets.clear();
        }
        sets.insert(name, (generation, set.clone()));
        set
    }

    fn endpoints(
        &self,
        mesh: &Mesh,
        (service, port): (&NamespacedHostname, u16),
        subset: Option<(&Str, &Destination)>,
    ) -> Vec<Endpoint> {
        let own = mesh.service_by_key(service);
        let members = subset.map(|(name, destination)| destination.members(name));
        let mut known = self.known.lock();
        // What nobody holds any more is forgotten when it is in the way.
        if known.len() > MAX_SETS {
            known.retain(|_, health| Arc::strong_count(health) > 1);
        }
        let usable = mesh.endpoints(service).filter_map(|endpoint| {
            let workload = endpoint.workload;
            if members.is_some_and(|members| !members.is_some_and(|members| members.contains(&workload.uid))) {
                return None;
            }
            let of_service = || own.and_then(|service| service.target_port(port)).filter(|port| *port != 0);
            let target = endpoint.ports.target(port).or_else(of_service)?;
            let address = SocketAddr::new(*workload.addresses.first()?, target);
            let health = known.entry((workload.uid.clone(), target)).or_default().clone();
            (workload.capacity > 0).then(|| Endpoint { workload: workload.clone(), address, health })
        });
        usable.collect()
    }
}

/// What a choice may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// How endpoints are to be treated.
    pub policy: &'a TrafficPolicy,
    /// The value that always leads to the same endpoint.
    pub hash: Option<u64>,
    /// Addresses that were tried already.
    pub tried: &'a [SocketAddr],
    /// The address that the client asked for itself.
    pub original: Option<IpAddr>,
    /// Now.
    pub now: Instant,
}

impl Set {
    /// A single endpoint.
    pub fn of_one(endpoint: Option<Endpoint>) -> Self {
        Self { endpoints: endpoint.into_iter().collect(), ..Self::default() }
    }

    /// An endpoint; `random` gives a number below its argument. Those that failed too often, or were tried already, come only
    /// when there are no others.
    pub fn choose(&self, wish: &Wish<'_>, mut random: impl FnMut(usize) -> usize) -> Option<&Endpoint> {
        let all: Vec<&Endpoint> = self.endpoints.iter().collect();
        let mut from: Vec<&Endpoint> = match &wish.policy.outliers {
            None => all.clone(),
            Some(outliers) => {
                let healthy: Vec<_> = all.iter().copied().filter(|one| !one.health.is_ejected(wish.now)).collect();
                let enough = healthy.len() * 100 >= all.len() * outliers.min_health_percent as usize;
                if healthy.is_empty() || !enough { all.clone() } else { healthy }
            }
        };
        if !wish.tried.is_empty() && wish.hash.is_none() {
            let untried: Vec<_> = from.iter().copied().filter(|one| !wish.tried.contains(&one.address)).collect();
            if !untried.is_empty() {
                from = untried;
            }
        }
        if from.len() < 2 {
            return from.first().copied();
        }
        match (wish.policy.balancer, wish.hash) {
            (Balancer::ConsistentHash, Some(hash)) => from.into_iter().max_by_key(|one| score(hash, one)),
            (Balancer::RoundRobin, _) => Some(from[self.turn.fetch_add(1, Relaxed) % from.len()]),
            (Balancer::Random, _) => Some(from[random(from.len())]),
            (Balancer::Passthrough, _) if let Some(address) = wish.original => {
                let same = from.iter().copied().find(|one| one.workload.addresses.contains(&address));
                same.or_else(|| from.first().copied())
            }
            _ => {
                let first = random(from.len());
                let second = (first + 1 + random(from.len() - 1)) % from.len();
                let busy = |index: usize| from[index].health.active();
                Some(from[if busy(second) < busy(first) { second } else { first }])
            }
        }
    }
}

/// The endpoint with the highest score keeps the value whatever others come and go.
fn score(hash: u64, endpoint: &Endpoint) -> u64 {
    let mut hasher = DefaultHasher::new();
    (hash, &*endpoint.workload.uid, endpoint.address.port()).hash(&mut hasher);
    hasher.finish()
}

/// The hash of a value.
pub fn hash(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
