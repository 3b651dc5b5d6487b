//! Addresses for service entries that have none: 240.240.0.0/16 and 2001:2::/48 (control-plane A23).

use crate::{leader::Leader, settings::Mesh};
use api::{
    Resource, ServiceEntry,
    istio::{Resolution, ServiceEntryAddress},
};
use cluster::{Client, Patch, Scope, Store};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// How many addresses there are of each family: those of 240.240.0.0/16 besides its first and last.
const ADDRESSES: u16 = u16::MAX - 1;
const RETRY: Duration = Duration::from_secs(1);

/// Whether a host of an entry is to have an allocated address.
pub fn wants(entry: &ServiceEntry, host: &str, mesh: &Mesh) -> bool {
    let opted_out = entry.metadata.label("networking.istio.io/enable-autoallocate-ip") == Some("false");
    mesh.allocate_addresses
        && !opted_out
        && entry.spec.addresses.is_empty()
        && entry.spec.resolution != Resolution::None
        && (!host.starts_with('*') || entry.spec.resolution == Resolution::DynamicDns)
}

/// Keeps the addresses right for as long as it is polled.
pub async fn run(client: Client, mesh: Mesh, mut leader: Leader) {
    let entries: Store<ServiceEntry> = client.watch(Scope::all());
    entries.synced().await;
    let mut version = entries.version();
    loop {
        leader.acquired().await;
        version.borrow_and_update();
        let mut failed = false;
        for (entry, addresses) in assignments(entries.list(), &mesh) {
            if !leader.leads() {
                break;
            }
            if let Err(error) = write(&client, &entry, &addresses).await {
                failed |= !error.is_not_found();
                tracing::warn!(
                    namespace = entry.namespace(),
                    name = entry.name(),
                    "writing allocated addresses: {error}"
                );
            }
        }
        tokio::select! {
            _ = version.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Entries whose addresses are not what they should be, with what they should be.
///
/// An allocated address is kept for life. Of two claims to one the user's own goes first, then the older entry's.
fn assignments(mut entries: Vec<Arc<ServiceEntry>>, mesh: &Mesh) -> Vec<(Arc<ServiceEntry>, Vec<ServiceEntryAddress>)> {
    entries.sort_by_key(|entry| {
        (entry.metadata.creation_timestamp, entry.namespace().to_owned(), entry.name().to_owned())
    });
    let written = entries.iter().flat_map(|entry| &entry.spec.addresses);
    let mut taken: HashSet<IpAddr> = written.filter_map(|address| address.parse().ok()).collect();
    let mut kept: Vec<BTreeMap<&str, Vec<IpAddr>>> = Vec::with_capacity(entries.len());
    for entry in &entries {
        let mut hosts = BTreeMap::<_, Vec<IpAddr>>::new();
        for host in entry.spec.hosts.iter().filter(|host| wants(entry, host, mesh)) {
            let addresses = hosts.entry(host.as_str()).or_default();
            let held = entry.status.addresses.iter().filter(|address| address.host == *host);
            for address in held.filter_map(|address| address.value.parse::<IpAddr>().ok()) {
                let family_is_new = addresses.iter().all(|other: &IpAddr| other.is_ipv4() != address.is_ipv4());
                if is_ours(address) && family_is_new && taken.insert(address) {
                    addresses.push(address);
                }
            }
        }
        kept.push(hosts);
    }
    let mut wanted = Vec::new();
    let mut free = Free { taken, next: 1 };
    for (entry, hosts) in entries.iter().zip(kept) {
        let addresses: Vec<_> = hosts.into_iter().flat_map(|(host, held)| complete(host, held, &mut free)).collect();
        if !same(&entry.status.addresses, &addresses) {
            wanted.push((Arc::clone(entry), addresses));
        }
    }
    wanted
}

/// One address of each family; the new ones are of one number, so that they are easy to read together.
fn complete(host: &str, mut held: Vec<IpAddr>, free: &mut Free) -> Vec<ServiceEntryAddress> {
    let (has_v4, has_v6) = (held.iter().any(IpAddr::is_ipv4), held.iter().any(IpAddr::is_ipv6));
    if !(has_v4 && has_v6)
        && let Some(number) = free.next()
    {
        held.extend((!has_v4).then(|| v4(number)));
        held.extend((!has_v6).then(|| v6(number)));
    }
    held.sort_unstable();
    held.into_iter().map(|address| ServiceEntryAddress { value: address.to_string(), host: host.to_owned() }).collect()
}

/// Order does not matter: another writer may have its own.
fn same(held: &[ServiceEntryAddress], wanted: &[ServiceEntryAddress]) -> bool {
    held.len() == wanted.len() && wanted.iter().all(|address| held.contains(address))
}

struct Free {
    taken: HashSet<IpAddr>,
    next: u16,
}

impl Free {
    /// The next number whose addresses nobody has; none when all are given.
    fn next(&mut self) -> Option<u16> {
        while self.next <= ADDRESSES {
            let number = self.next;
            self.next += 1;
            if !self.taken.contains(&v4(number)) && !self.taken.contains(&v6(number)) {
                return Some(number);
            }
        }
        None
    }
}

fn v4(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(240, 240, high, low).into()
}

fn v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, number).into()
}

fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..2] == [240, 240],
        IpAddr::V6(address) => address.segments()[..3] == [0x2001, 2, 0],
    }
}

async fn write(client: &Client, entry: &ServiceEntry, addresses: &[ServiceEntryAddress]) -> Result<(), cluster::Error> {
    let patch = Patch::Merge(json!({"status": {"addresses": addresses}}));
    client.patch_status::<ServiceEntry>(entry.namespace(), entry.name(), patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, created: &str, spec: serde_json::Value, status: serde_json::Value) -> Arc<ServiceEntry> {
        let metadata = json!({"namespace": "shop", "name": name, "creationTimestamp": created});
        Arc::new(ServiceEntry::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap())
    }

    fn assigned(entries: Vec<Arc<ServiceEntry>>) -> Vec<(String, Vec<String>)> {
        let assignments = assignments(entries, &Mesh::default());
        let values = |list: Vec<ServiceEntryAddress>| list.into_iter().map(|address| address.value).collect();
        assignments.into_iter().map(|(entry, list)| (entry.name().to_owned(), values(list))).collect()
    }

    fn expected(name: &str, addresses: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), addresses.iter().map(|&address| address.to_owned()).collect())
    }

    const OLD: &str = "2026-01-01T00:00:00Z";
    const NEW: &str = "2026-02-01T00:00:00Z";

    #[test]
    fn hosts_get_one_address_of_each_family() {
        let spec = json!({"hosts": ["a.example", "b.example"], "resolution": "DNS"});
        let addresses = ["240.240.0.1", "2001:2::1", "240.240.0.2", "2001:2::2"];
        assert_eq!(assigned(vec![entry("e", OLD, spec, json!({}))]), [expected("e", &addresses)]);
    }

    #[test]
    fn what_was_allocated_stays() {
        let spec = json!({"hosts": ["a.example"], "resolution": "STATIC"});
        let status = json!({"addresses": [{"host": "a.example", "value": "240.240.0.7"}, {"host": "a.example", "value": "2001:2::7"}]});
        let held = entry("held", NEW, spec.clone(), status);
        assert_eq!(assigned(vec![held.clone()]), []);
        assert_eq!(
            assigned(vec![held, entry("new", NEW, spec, json!({}))]),
            [expected("new", &["240.240.0.1", "2001:2::1"])]
        );
    }

    #[test]
    fn of_two_claims_the_users_goes_first_and_then_the_older() {
        let spec = json!({"hosts": ["a.example"], "resolution": "STATIC"});
        let status = json!({"addresses": [{"host": "a.example", "value": "240.240.0.7"}, {"host": "a.example", "value": "2001:2::7"}]});
        let older = entry("older", OLD, spec.clone(), status.clone());
        let newer = entry("newer", NEW, spec, status);
        let moved = expected("newer", &["240.240.0.1", "2001:2::1"]);
        assert_eq!(assigned(vec![newer, older.clone()]), [moved]);
        let users = entry(
            "users",
            NEW,
            json!({"hosts": ["u.example"], "addresses": ["240.240.0.7"], "resolution": "STATIC"}),
            json!({}),
        );
        assert_eq!(assigned(vec![users, older]), [expected("older", &["240.240.0.1", "2001:2::7"])]);
    }

    #[test]
    fn addresses_that_are_no_longer_wanted_are_taken_back() {
        let status = json!({"addresses": [{"host": "a.example", "value": "240.240.0.7"}]});
        let spec = json!({"hosts": ["a.example"], "addresses": ["10.0.0.1"], "resolution": "STATIC"});
        assert_eq!(assigned(vec![entry("e", OLD, spec, status)]), [expected("e", &[])]);
        let wildcard = json!({"hosts": ["*.example"], "resolution": "DNS"});
        assert_eq!(assigned(vec![entry("w", OLD, wildcard, json!({}))]), []);
    }
}
