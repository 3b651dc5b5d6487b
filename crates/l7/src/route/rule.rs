//! A rule of a route, ready for use: what it does with a request that it matches.

use super::filter::Filters;
use crate::{config::BadResource, text::TextMatch};
use model::{NamespacedHostname, Str};
use proto::l7 as wire;
use std::time::Duration;

/// The object that a rule is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Kind.
    pub kind: wire::route::Kind,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Name.
    pub name: Str,
    /// Seconds since 1970.
    pub created: i64,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Whose.
    pub origin: Origin,
    /// Its name, or `<namespace>.<route>.<number>`: what logs call `route_name`.
    pub name: Str,
    /// What is done to requests and responses.
    pub filters: Filters,
    /// Where requests go.
    pub backends: Vec<Backend>,
    /// Limit of the whole request.
    pub timeout: Option<Duration>,
    /// Limit of one attempt.
    pub attempt_timeout: Option<Duration>,
    /// How often to try; `None`: the mesh's default.
    pub retry: Option<Retry>,
    /// Faults that are made on purpose.
    pub fault: Option<Fault>,
}

/// A place where requests go.
#[derive(Debug)]
pub struct Backend {
    /// Its share.
    pub weight: u32,
    /// The service.
    pub service: NamespacedHostname,
    /// The service's port; 0: the port that the client asked for.
    pub port: u16,
    /// Some of its endpoints only.
    pub subset: Option<Str>,
    /// What is done to its share of requests.
    pub filters: Filters,
    /// Why it leads nowhere.
    pub invalid: Option<Str>,
}

/// When a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    /// What is tried again.
    pub on: RetryOn,
    /// Time before the first further try; it grows with each.
    pub backoff: Duration,
    /// Limit of one try.
    pub per_try: Option<Duration>,
}

/// Kinds of failure that deserve another try.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// The endpoint could not be connected.
    pub connect_failure: bool,
    /// The endpoint refused the stream before it looked at it.
    pub refused_stream: bool,
    /// The connection ended before response headers.
    pub reset: bool,
    /// 500 to 599, or no response at all.
    pub server_error: bool,
    /// 502, 503, 504.
    pub gateway_error: bool,
    /// 409.
    pub conflict: bool,
    /// Statuses by number.
    pub codes: Vec<u16>,
    /// gRPC statuses by number, in headers.
    pub grpc: Vec<u32>,
}

/// Envoy's first backoff.
const BACKOFF: Duration = Duration::from_millis(25);

impl Default for Retry {
    /// What a route without a word about retries gets (§2.4).
    fn default() -> Self {
        let on = RetryOn {
            connect_failure: true,
            refused_stream: true,
            grpc: vec![1, 14],
            codes: vec![503],
            ..RetryOn::default()
        };
        Self { attempts: 2, on, backoff: BACKOFF, per_try: None }
    }
}

impl Retry {
    fn new(wire: &wire::Retry) -> Result<Self, BadResource> {
        let mut on = RetryOn { codes: statuses(&wire.codes)?, ..RetryOn::default() };
        let grpc = &mut on.grpc;
        for condition in &wire.conditions {
            match condition.as_str() {
                "connect-failure" => on.connect_failure = true,
                "refused-stream" => on.refused_stream = true,
                "reset" | "reset-before-request" => on.reset = true,
                "5xx" => on.server_error = true,
                "gateway-error" => on.gateway_error = true,
                "retriable-4xx" => on.conflict = true,
                "retriable-status-codes" => {}
                "cancelled" => grpc.push(1),
                "deadline-exceeded" => grpc.push(4),
                "resource-exhausted" => grpc.push(8),
                "internal" => grpc.push(13),
                "unavailable" => grpc.push(14),
                number => match number.parse() {
                    Ok(code @ 100..=599) => on.codes.push(code),
                    _ => return Err(BadResource::new(format!("retry condition {number:?} is not known"))),
                },
            }
        }
        let backoff = duration(wire.backoff.as_ref()).unwrap_or(BACKOFF);
        Ok(Self { attempts: wire.attempts, on, backoff, per_try: duration(wire.per_try.as_ref()) })
    }
}

/// Faults that are made on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Share of requests that wait, in millionths, and how long.
    pub delay: Option<(u32, Duration)>,
    /// Share of requests that fail, in millionths, and how.
    pub abort: Option<(u32, Abort)>,
}

/// How a request is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// With an HTTP status.
    Http(u16),
    /// With a gRPC status.
    Grpc(u32),
}

impl Fault {
    fn new(wire: &wire::Fault) -> Result<Self, BadResource> {
        let share = |share: &Option<wire::Percentage>| share.map_or(1_000_000, |share| share.parts.min(1_000_000));
        let delay = duration(wire.delay.as_ref()).map(|time| (share(&wire.delay_share), time));
        let abort = match (wire.abort_grpc, wire.abort_status) {
            (Some(status), _) => Some(Abort::Grpc(status)),
            (None, 0) => None,
            (None, status) => Some(Abort::Http(statuses(&[status])?[0])),
        };
        Ok(Self { delay, abort: abort.map(|abort| (share(&wire.abort_share), abort)) })
    }
}

impl Rule {
    /// A rule of a route.
    pub fn new(origin: &Origin, index: usize, wire: &wire::Rule) -> Result<Self, BadResource> {
        let name = match wire.name.as_str() {
            "" => format!("{}.{}.{index}", origin.namespace, origin.name).into(),
            name => name.into(),
        };
        Ok(Self {
            origin: origin.clone(),
            name,
            filters: Filters::new(&wire.filters)?,
            backends: wire.backends.iter().map(Backend::new).collect::<Result<_, _>>()?,
            timeout: duration(wire.timeout.as_ref()),
            attempt_timeout: duration(wire.attempt_timeout.as_ref()),
            retry: wire.retry.as_ref().map(Retry::new).transpose()?,
            fault: wire.fault.as_ref().map(Fault::new).transpose()?,
        })
    }

    /// The backend for a point within the sum of the weights; `None` when every weight is zero or there is none.
    pub fn backend(&self, pick: impl FnOnce(u64) -> u64) -> Option<&Backend> {
        let total: u64 = self.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut point = if total == 0 { return None } else { pick(total) };
        self.backends.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let hit = point < weight;
            point = point.saturating_sub(weight);
            hit
        })
    }
}

impl Backend {
    pub(super) fn new(wire: &wire::Backend) -> Result<Self, BadResource> {
        let service = wire.service.clone().unwrap_or_default();
        let text = |text: &str| (!text.is_empty()).then(|| Str::from(text));
        Ok(Self {
            weight: wire.weight,
            service: NamespacedHostname { namespace: service.namespace.into(), hostname: service.hostname.into() },
            port: u16::try_from(wire.port).map_err(|_| BadResource::new(format!("port {} is none", wire.port)))?,
            subset: text(&wire.subset),
            filters: Filters::new(&wire.filters)?,
            invalid: text(&wire.invalid),
        })
    }
}

/// A duration; absent, zero and negative ones are no limit.
pub(crate) fn duration(wire: Option<&prost_types::Duration>) -> Option<Duration> {
    let wire = wire?;
    let duration = Duration::new(wire.seconds.try_into().ok()?, wire.nanos.try_into().ok()?);
    (!duration.is_zero()).then_some(duration)
}

fn statuses(codes: &[u32]) -> Result<Vec<u16>, BadResource> {
    let status = |code: &u32| u16::try_from(*code).ok().filter(|code| (100..600).contains(code));
    let all = codes.iter().map(|code| status(code).ok_or(code)).collect::<Result<_, _>>();
    all.map_err(|code| BadResource::new(format!("{code} is not an HTTP status")))
}

/// A list of text matches.
pub(crate) fn texts(list: &[wire::StringMatch]) -> Result<Vec<TextMatch>, BadResource> {
    Ok(list.iter().map(TextMatch::new).collect::<Result<_, _>>()?)
}
