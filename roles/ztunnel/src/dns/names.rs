//! Which service a name means, and its addresses: pure, over one snapshot (ztunnel.md §9).
//!
//! A client may ask short (`web`), long (`web.shop.svc.cluster.local`) or through its search path
//! (`web.shop.svc.cluster.local.shop.svc.cluster.local`); `candidates` lists what it may have meant, best first, and
//! `find` takes the first that is a service which this client may see, or one pod of a service without an address of its own.

use model::{IpFamilies, Mesh, Service, Str, Workload};
use std::{net::IpAddr, sync::Arc};

/// Who asks, and from which standpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// Namespace of the client.
    pub namespace: &'a str,
    /// Network of the client.
    pub network: &'a str,
    /// DNS domain of the cluster.
    pub domain: &'a str,
    /// Namespace whose services win a tie.
    pub preferred_namespace: Option<&'a str>,
    /// Domains of the client's search path; `None`: those that a cluster gives every pod.
    pub search: Option<&'a [String]>,
}

/// One thing that a name may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    name: String,
    /// What is left of the question without the search domain, if that is how the candidate was found.
    stripped: Option<String>,
}

/// A service that a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The service.
    pub service: Arc<Service>,
    /// The one endpoint that was asked for by its pod's name.
    pub pod: Option<Arc<Workload>>,
    /// The question is answered by an alias to this name.
    pub alias: Option<String>,
}

/// The service that `name` (lower case, no final dot) means to the asker.
pub(crate) fn find(mesh: &Mesh, asker: Asker<'_>, name: &str) -> Option<Found> {
    candidates(asker, name).into_iter().find_map(|candidate| {
        if let Some(service) = visible(mesh, asker, &candidate.name) {
            return Some(Found { service, pod: None, alias: candidate.stripped });
        }
        if let Some((service, pod)) = pod(mesh, asker, &candidate.name) {
            return Some(Found { service, pod: Some(pod), alias: candidate.stripped });
        }
        // A wildcard answers under the asked name itself: the alias would not be what the wildcard stands for.
        wildcards(&candidate.name).find_map(|name| visible(mesh, asker, &name)).map(|service| Found {
            service,
            pod: None,
            alias: None,
        })
    })
}

/// The addresses of one family; empty when the service is not served on it.
pub(crate) fn addresses(mesh: &Mesh, asker: Asker<'_>, found: &Found, v6: bool) -> Vec<IpAddr> {
    let service = &found.service;
    let served = match service.ip_families {
        Some(IpFamilies::Ipv4) => !v6,
        Some(IpFamilies::Ipv6) => v6,
        Some(IpFamilies::Dual) | None => true,
    };
    if !served {
        return Vec::new();
    }
    if let Some(pod) = &found.pod {
        return pod.addresses.iter().filter(|ip| ip.is_ipv6() == v6).copied().collect();
    }
    if !service.vips.is_empty() {
        let own = service.vips.iter().filter(|vip| *vip.network == *asker.network && vip.address.is_ipv6() == v6);
        return own.map(|vip| vip.address).collect();
    }
    let key = service.key();
    let headless = mesh.endpoints(&key);
    headless.filter_map(|endpoint| endpoint.workload.addresses.iter().find(|ip| ip.is_ipv6() == v6)).copied().collect()
}

/// The best service of exactly this hostname that the asker may see.
fn visible(mesh: &Mesh, asker: Asker<'_>, hostname: &str) -> Option<Arc<Service>> {
    let cluster_suffix =
        |service: &Service| service.hostname.strip_suffix(asker.domain).is_some_and(|rest| rest.ends_with(".svc."));
    let eligible = mesh.services_by_hostname(hostname).iter().filter(|service| {
        (!service.vips.is_empty() || cluster_suffix(service)) && service.is_visible_to(Some(asker.namespace))
    });
    let rank = |service: &&Arc<Service>| {
        let preferred = asker.preferred_namespace == Some(&*service.namespace);
        (*service.namespace != *asker.namespace, !service.canonical, !preferred)
    };
    eligible.min_by_key(rank).cloned()
}

/// The pod that a name `<pod>.<service>` means: an endpoint of a service without an address, by its own name, as the pods of a
/// StatefulSet are called.
fn pod(mesh: &Mesh, asker: Asker<'_>, name: &str) -> Option<(Arc<Service>, Arc<Workload>)> {
    let (pod, service) = name.split_once('.')?;
    let service = visible(mesh, asker, service).filter(|service| service.vips.is_empty())?;
    let key = service.key();
    let found = mesh.endpoints(&key).find(|endpoint| *endpoint.workload.name == *pod)?.workload.clone();
    Some((service, found))
}

/// Everything that the name may mean, best first.
fn candidates(asker: Asker<'_>, name: &str) -> Vec<Candidate> {
    let mut list = Vec::with_capacity(8);
    push(&mut list, asker, name, None);
    let Asker { namespace, domain, .. } = asker;
    let own = || vec![format!(".{namespace}.svc.{domain}"), format!(".svc.{domain}"), format!(".{domain}")];
    let given = |search: &[String]| search.iter().map(|domain| format!(".{domain}")).collect();
    for search in asker.search.map_or_else(own, given) {
        if let Some(rest) = name.strip_suffix(&search).filter(|rest| !rest.is_empty()) {
            push(&mut list, asker, rest, Some(rest));
        }
    }
    list
}

/// The name itself and what a search path could make of it.
fn push(list: &mut Vec<Candidate>, asker: Asker<'_>, name: &str, stripped: Option<&str>) {
    let Asker { namespace, domain, .. } = asker;
    let mut add = |name: String| list.push(Candidate { name, stripped: stripped.map(str::to_owned) });
    add(name.to_owned());
    let labels = name.split('.').count();
    let ends_in_svc = name.rsplit('.').next() == Some("svc");
    match labels {
        1 => add(format!("{name}.{namespace}.svc.{domain}")),
        2 => {
            add(format!("{name}.svc.{domain}"));
            add(format!("{name}.{namespace}.svc.{domain}"));
        }
        3 => {
            if ends_in_svc {
                add(format!("{name}.{domain}"));
            }
            add(format!("{name}.svc.{domain}"));
        }
        4 if ends_in_svc => add(format!("{name}.{domain}")),
        _ => {}
    }
}

/// `*.<parent>`, from the most to the least specific.
fn wildcards(name: &str) -> impl Iterator<Item = Str> {
    let parents = std::iter::successors(name.split_once('.'), |(_, rest)| rest.split_once('.'));
    parents.map(|(_, parent)| format!("*.{parent}").into())
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
