//! How traffic to a service is treated once it is known to go there: balancing, limits, outliers, subsets.

use crate::{config::BadResource, route::rule::duration};
use http::HeaderName;
use model::{NamespacedHostname, Str};
use proto::l7::{self as wire, traffic_policy::Balancer};
use std::{collections::HashSet, time::Duration};

/// What a destination rule says of one host.
#[derive(Debug)]
pub struct Destination {
    /// The host.
    pub service: NamespacedHostname,
    policy: TrafficPolicy,
    ports: Vec<(u16, TrafficPolicy)>,
    subsets: Vec<Subset>,
}

/// Some endpoints of a service.
#[derive(Debug)]
struct Subset {
    name: Str,
    workloads: HashSet<Str>,
    policy: Option<TrafficPolicy>,
}

/// How endpoints are chosen and kept from harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// How one of several is chosen.
    pub balancer: Balancer,
    /// What the same endpoint is chosen by.
    pub hash: Option<HashBy>,
    /// Limits.
    pub limits: Limits,
    /// When an endpoint is left alone for a while.
    pub outliers: Option<Outliers>,
}

/// What the same endpoint is chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// A header.
    Header(HeaderName),
    /// A cookie: name, life and path of the one that is set where there is none.
    Cookie(Str, Option<Duration>, Str),
    /// The client's address.
    Source,
    /// A parameter of the query.
    Query(Str),
}

/// Limits; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Connections to all endpoints together.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests under way.
    pub requests: Option<u32>,
    /// Further tries under way.
    pub retries: Option<u32>,
    /// Requests on one connection.
    pub requests_per_connection: Option<u32>,
    /// Time for a connection to be made.
    pub connect_timeout: Option<Duration>,
    /// Time that an unused connection is kept.
    pub idle: Option<Duration>,
    /// HTTP/2 whatever the client speaks.
    pub http2: bool,
}

/// When an endpoint is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outliers {
    /// Failures in a row (5xx and connection failures).
    pub errors: Option<u32>,
    /// Gateway failures in a row (502, 503, 504 and connection failures).
    pub gateway_errors: Option<u32>,
    /// How often endpoints come back into question.
    pub interval: Duration,
    /// How long the first time; it grows with each.
    pub base: Duration,
    /// At most this share of the endpoints.
    pub max_percent: u32,
    /// Below this share of endpoints in order nothing is left out.
    pub min_health_percent: u32,
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        Self { balancer: Balancer::LeastRequest, hash: None, limits: Limits::default(), outliers: None }
    }
}

impl Destination {
    /// A destination, ready for use.
    pub fn new(wire: &wire::Destination) -> Result<Self, BadResource> {
        let service = wire.service.as_ref().ok_or_else(|| BadResource::new("a destination without a host"))?;
        let policy = TrafficPolicy::of(wire.policy.as_ref())?;
        let ports = wire.ports.iter().map(|port| {
            let number = u16::try_from(port.port).map_err(|_| BadResource::new("a port that is none"))?;
            Ok((number, TrafficPolicy::of(port.policy.as_ref())?))
        });
        let subsets = wire.subsets.iter().map(|subset| {
            Ok(Subset {
                name: subset.name.as_str().into(),
                workloads: subset.workloads.iter().map(|uid| uid.as_str().into()).collect(),
                policy: subset.policy.as_ref().map(TrafficPolicy::new).transpose()?,
            })
        });
        Ok(Self {
            service: crate::config::key(service),
            policy,
            ports: ports.collect::<Result<_, BadResource>>()?,
            subsets: subsets.collect::<Result<_, BadResource>>()?,
        })
    }

    /// What holds for a port and subset: the subset's own word before the port's before the host's.
    pub fn policy(&self, port: u16, subset: Option<&str>) -> &TrafficPolicy {
        let subset = subset.and_then(|name| self.subset(name)).and_then(|subset| subset.policy.as_ref());
        let of_port = self.ports.iter().find(|(own, _)| *own == port).map(|(_, policy)| policy);
        subset.or(of_port).unwrap_or(&self.policy)
    }

    /// The keys of a subset's workloads; `None` if there is no such subset.
    pub fn members(&self, name: &str) -> Option<&HashSet<Str>> {
        self.subset(name).map(|subset| &subset.workloads)
    }

    fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| &*subset.name == name)
    }
}

impl TrafficPolicy {
    fn of(wire: Option<&wire::TrafficPolicy>) -> Result<Self, BadResource> {
        wire.map(Self::new).transpose().map(Option::unwrap_or_default)
    }

    fn new(wire: &wire::TrafficPolicy) -> Result<Self, BadResource> {
        let hash = wire.hash.as_ref().map(hash_by).transpose()?.flatten();
        Ok(Self {
            balancer: wire.balancer(),
            hash,
            limits: wire.pool.as_ref().map(limits).unwrap_or_default(),
            outliers: wire.outliers.as_ref().and_then(outliers),
        })
    }
}

fn hash_by(wire: &wire::Hash) -> Result<Option<HashBy>, BadResource> {
    use wire::hash::By;
    Ok(match &wire.by {
        None | Some(By::SourceIp(false)) => None,
        Some(By::SourceIp(true)) => Some(HashBy::Source),
        Some(By::Query(name)) => Some(HashBy::Query(name.as_str().into())),
        Some(By::Cookie(name)) => Some(HashBy::Cookie(
            name.as_str().into(),
            duration(wire.cookie_ttl.as_ref()),
            wire.cookie_path.as_str().into(),
        )),
        Some(By::Header(name)) => {
            let bad = |_| BadResource::new(format!("{name:?} is not the name of a header"));
            Some(HashBy::Header(HeaderName::try_from(name.as_str()).map_err(bad)?))
        }
    })
}

fn limits(wire: &wire::Pool) -> Limits {
    let limit = |limit: u32| (limit > 0).then_some(limit);
    Limits {
        connections: limit(wire.max_connections),
        pending: limit(wire.max_pending),
        requests: limit(wire.max_requests),
        retries: limit(wire.max_retries),
        requests_per_connection: limit(wire.max_requests_per_connection),
        connect_timeout: duration(wire.connect_timeout.as_ref()),
        idle: duration(wire.idle_timeout.as_ref()),
        http2: wire.upgrade_to_http2,
    }
}

fn outliers(wire: &wire::Outliers) -> Option<Outliers> {
    let limit = |limit: u32| (limit > 0).then_some(limit);
    let (errors, gateway_errors) = (limit(wire.consecutive_errors), limit(wire.consecutive_gateway_errors));
    if errors.is_none() && gateway_errors.is_none() {
        return None;
    }
    Some(Outliers {
        errors,
        gateway_errors,
        interval: duration(wire.interval.as_ref()).unwrap_or(Duration::from_secs(10)),
        base: duration(wire.base_ejection.as_ref()).unwrap_or(Duration::from_secs(30)),
        max_percent: limit(wire.max_ejection_percent).unwrap_or(10).min(100),
        min_health_percent: wire.min_health_percent.min(100),
    })
}
