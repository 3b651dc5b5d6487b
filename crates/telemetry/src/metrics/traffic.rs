//! Connections and bytes, by who spoke to whom (ztunnel.md §11.2, "traffic labels").
//!
//! A label set is interned once per pair of ends: [`Traffic::series`] gives a shared [`Series`] whose counters are plain atomics,
//! so a connection pays for its labels only when it is opened. A series that no connection holds and that nothing has
//! happened to for a while is forgotten; beyond a cap, new pairs are counted together, so that the number of series is
//! bounded by what we allow and not by what clients do.

use crate::access::Direction;
use model::{Identity, Reason, ResponseFlag, Str, Workload};
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{MetricType, counter::ConstCounter},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const UNKNOWN: &str = "unknown";
/// Series, each with up to a dozen lines in a scrape.
const MAX_SERIES: usize = 20_000;
/// How long a series without connections is kept: long enough for several scrapes.
const IDLE: Duration = Duration::from_secs(15 * 60);

const FLAGS: [ResponseFlag; 8] = [
    ResponseFlag::None,
    ResponseFlag::Deny,
    ResponseFlag::Connect,
    ResponseFlag::TlsFailure,
    ResponseFlag::H2HandshakeFailure,
    ResponseFlag::NetworkPolicy,
    ResponseFlag::IdentityError,
    ResponseFlag::CertRevoked,
];

/// Who one end is; what is unknown is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// Name of the owning controller.
    pub workload: Option<Str>,
    /// Canonical service.
    pub canonical_service: Option<Str>,
    /// Canonical revision.
    pub canonical_revision: Option<Str>,
    /// Kubernetes namespace.
    pub namespace: Option<Str>,
    /// Identity; the source's only if proven.
    pub principal: Option<Identity>,
    /// The `app` label; equal to the canonical service unless it came from baggage.
    pub app: Option<Str>,
    /// Cluster id.
    pub cluster: Option<Str>,
    /// Region.
    pub region: Option<Str>,
    /// Zone.
    pub zone: Option<Str>,
}

impl Party {
    /// What is known of a workload; `principal` is given apart, because it must be proven.
    pub fn of(workload: &Workload, principal: Option<Identity>) -> Self {
        let known = |text: &Str| (!text.is_empty()).then(|| text.clone());
        Self {
            workload: known(&workload.workload_name),
            canonical_service: known(&workload.canonical_name),
            canonical_revision: known(&workload.canonical_revision),
            namespace: known(&workload.namespace),
            principal,
            app: known(&workload.canonical_name),
            cluster: known(&workload.cluster_id),
            region: known(&workload.locality.region),
            zone: known(&workload.locality.zone),
        }
    }
}

/// The service that was addressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Addressed {
    /// Hostname.
    pub hostname: Str,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Name.
    pub name: Str,
}

/// One label set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Who reports: the source's proxy for outbound connections.
    pub direction: Direction,
    /// Client.
    pub source: Party,
    /// Service, if one was addressed.
    pub service: Option<Addressed>,
    /// Server, or the waypoint or gateway before it.
    pub destination: Party,
    /// Whether it went through a tunnel.
    pub mutual_tls: bool,
}

/// Counters of one label set.
#[derive(Debug)]
pub struct Series {
    labels: Labels,
    opened: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    closed: [AtomicU64; FLAGS.len()],
    /// Seconds since the store was made.
    touched: AtomicU64,
}

/// One open connection; it is counted as closed exactly once, at the latest when dropped.
#[derive(Debug)]
pub struct Open {
    series: Arc<Series>,
    ended: bool,
}

/// Every series.
#[derive(Debug)]
pub struct Traffic {
    /// Who reports, where it is not told by the direction.
    reporter: Option<&'static str>,
    series: Mutex<HashMap<Labels, Arc<Series>>>,
    born: Instant,
    max_series: usize,
    idle: Duration,
}

impl Default for Traffic {
    fn default() -> Self {
        Self::with_limits(MAX_SERIES, IDLE)
    }
}

impl Traffic {
    /// With other limits than the usual ones.
    pub fn with_limits(max_series: usize, idle: Duration) -> Self {
        Self { reporter: None, series: Mutex::default(), born: Instant::now(), max_series, idle }
    }

    /// For a proxy that stands between both ends.
    pub fn reported_by(reporter: &'static str) -> Self {
        Self { reporter: Some(reporter), ..Self::default() }
    }

    /// The series of a label set. Hold on to it: asking costs a hash of all labels.
    pub fn series(&self, labels: Labels) -> Arc<Series> {
        let mut all = self.series.lock();
        let labels =
            if all.len() < self.max_series || all.contains_key(&labels) { labels } else { beyond_cap(&labels) };
        let series = all.entry(labels).or_insert_with_key(|labels| Arc::new(Series::new(labels.clone())));
        series.touched.store(self.age(), Relaxed);
        series.clone()
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn age(&self) -> u64 {
        self.born.elapsed().as_secs()
    }

    /// What a scrape sees: idle series are forgotten first, by the same token used ones are remembered.
    fn sweep(&self) -> Vec<Arc<Series>> {
        let now = self.age();
        let mut all = self.series.lock();
        all.retain(|_, series| {
            let used = Arc::strong_count(series) > 1;
            if used {
                series.touched.store(now, Relaxed);
            }
            used || now.saturating_sub(series.touched.load(Relaxed)) < self.idle.as_secs()
        });
        all.values().cloned().collect()
    }
}

/// Where pairs beyond the cap are counted: everything unknown but the direction and the security.
fn beyond_cap(labels: &Labels) -> Labels {
    let Labels { direction, mutual_tls, .. } = *labels;
    Labels { direction, source: Party::default(), service: None, destination: Party::default(), mutual_tls }
}

impl Series {
    fn new(labels: Labels) -> Self {
        let zero = AtomicU64::default;
        Self {
            labels,
            opened: zero(),
            received: zero(),
            sent: zero(),
            closed: std::array::from_fn(|_| zero()),
            touched: zero(),
        }
    }

    /// Counts a connection as opened.
    pub fn open(self: &Arc<Self>) -> Open {
        self.opened.fetch_add(1, Relaxed);
        Open { series: self.clone(), ended: false }
    }

    fn close(&self, flag: ResponseFlag) {
        self.closed[position(flag)].fetch_add(1, Relaxed);
    }
}

fn position(flag: ResponseFlag) -> usize {
    FLAGS.iter().position(|known| *known == flag).unwrap_or(0)
}

impl Open {
    /// Counts bytes from the client to the server.
    pub fn received(&self, bytes: u64) {
        self.series.received.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes from the server to the client.
    pub fn sent(&self, bytes: u64) {
        self.series.sent.fetch_add(bytes, Relaxed);
    }

    /// Counts the connection as closed.
    pub fn end(mut self, reason: &Reason) {
        self.ended = true;
        self.series.close(reason.flag());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            self.series.close(ResponseFlag::None);
        }
    }
}

/// A series' labels with a flag.
struct Flagged<'a>(&'a Labels, ResponseFlag, Option<&'static str>);

impl EncodeLabelSet for Flagged<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self(labels, flag, reporter) = self;
        let mut put = |name: &str, value: &str| (name, value).encode(encoder.encode_label());
        let reporter = reporter.unwrap_or(match labels.direction {
            Direction::Inbound => "destination",
            Direction::Outbound => "source",
        });
        put("reporter", reporter)?;
        party(&mut put, &SOURCE, &labels.source)?;
        addressed(&mut put, labels.service.as_ref())?;
        party(&mut put, &DESTINATION, &labels.destination)?;
        put("request_protocol", "tcp")?;
        put("response_flags", flag.as_str())?;
        put("connection_security_policy", if labels.mutual_tls { "mutual_tls" } else { UNKNOWN })?;
        put("source_region", known(&labels.source.region))?;
        put("source_zone", known(&labels.source.zone))?;
        put("destination_region", known(&labels.destination.region))?;
        put("destination_zone", known(&labels.destination.zone))
    }
}

/// The names of one end's labels, in the order of [`party`].
pub(super) const SOURCE: [&str; 8] = [
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
];
pub(super) const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
];

fn known(text: &Option<Str>) -> &str {
    text.as_deref().unwrap_or(UNKNOWN)
}

pub(super) fn addressed(put: &mut impl FnMut(&str, &str) -> fmt::Result, service: Option<&Addressed>) -> fmt::Result {
    let part = |part: fn(&Addressed) -> &Str| service.map_or(UNKNOWN, |service| part(service));
    put("destination_service", part(|service| &service.hostname))?;
    put("destination_service_namespace", part(|service| &service.namespace))?;
    put("destination_service_name", part(|service| &service.name))
}

pub(super) fn party(put: &mut impl FnMut(&str, &str) -> fmt::Result, names: &[&str; 8], party: &Party) -> fmt::Result {
    let principal = party.principal.as_ref().map(ToString::to_string);
    let values = [
        known(&party.workload),
        known(&party.canonical_service),
        known(&party.canonical_revision),
        known(&party.namespace),
        principal.as_deref().unwrap_or(UNKNOWN),
        known(&party.app),
        known(&party.canonical_revision),
        known(&party.cluster),
    ];
    names.iter().zip(values).try_for_each(|(name, value)| put(name, value))
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let series = self.sweep();
        if series.is_empty() {
            return Ok(());
        }
        let mut family = |name, help, flags: &[ResponseFlag], value: fn(&Series, ResponseFlag) -> Option<u64>| {
            let lines = series.iter().flat_map(|series| {
                flags.iter().filter_map(move |flag| {
                    Some((Flagged(&series.labels, *flag, self.reporter), value(series, *flag)?))
                })
            });
            let mut lines = lines.peekable();
            if lines.peek().is_none() {
                return Ok(());
            }
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            lines.try_for_each(|(labels, value)| ConstCounter::new(value).encode(metric.encode_family(&labels)?))
        };
        let always = [ResponseFlag::None];
        family("istio_tcp_connections_opened", "The total number of TCP connections opened.", &always, |series, _| {
            Some(series.opened.load(Relaxed))
        })?;
        family("istio_tcp_connections_closed", "The total number of TCP connections closed.", &FLAGS, closed)?;
        family(
            "istio_tcp_received_bytes",
            "The size of total bytes received during request in case of a TCP connection.",
            &always,
            |series, _| Some(series.received.load(Relaxed)),
        )?;
        family(
            "istio_tcp_sent_bytes",
            "The size of total bytes sent during response in case of a TCP connection.",
            &always,
            |series, _| Some(series.sent.load(Relaxed)),
        )?;
        let failed = "The total number of TCP connections that failed to establish or were broken off (unstable).";
        family("istio_tcp_connections_failed", failed, &FLAGS[1..], closed)
    }
}

/// Nothing for a flag that no connection has ended with.
fn closed(series: &Series, flag: ResponseFlag) -> Option<u64> {
    Some(series.closed[position(flag)].load(Relaxed)).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Registry, proxy::Proxy};

    /// The pair of upstream's recorded scrape.
    fn recorded() -> Labels {
        let end = |name: &str, revision: &str| {
            let workload = Workload {
                workload_name: name.into(),
                canonical_name: name.into(),
                canonical_revision: revision.into(),
                namespace: "shop".into(),
                service_account: name.into(),
                ..Workload::default()
            };
            Party::of(&workload, Some(workload.identity()))
        };
        let service =
            Addressed { hostname: "web.shop.svc.cluster.local".into(), namespace: "shop".into(), name: "web".into() };
        Labels {
            direction: Direction::Outbound,
            source: end("client", "latest"),
            service: Some(service),
            destination: end("web", "v1"),
            mutual_tls: true,
        }
    }

    const RECORDED: &str = "{reporter=\"source\",source_workload=\"client\",source_canonical_service=\"client\",\
        source_canonical_revision=\"latest\",source_workload_namespace=\"shop\",\
        source_principal=\"spiffe://cluster.local/ns/shop/sa/client\",source_app=\"client\",source_version=\"latest\",\
        source_cluster=\"Kubernetes\",destination_service=\"web.shop.svc.cluster.local\",\
        destination_service_namespace=\"shop\",destination_service_name=\"web\",destination_workload=\"web\",\
        destination_canonical_service=\"web\",destination_canonical_revision=\"v1\",destination_workload_namespace=\"shop\",\
        destination_principal=\"spiffe://cluster.local/ns/shop/sa/web\",destination_app=\"web\",destination_version=\"v1\",\
        destination_cluster=\"Kubernetes\",request_protocol=\"tcp\",response_flags=\"-\",\
        connection_security_policy=\"mutual_tls\",source_region=\"unknown\",source_zone=\"unknown\",\
        destination_region=\"unknown\",destination_zone=\"unknown\"}";

    #[test]
    fn labels_and_names_are_upstreams() {
        let mut registry = Registry::default();
        let proxy = Proxy::register(&mut registry);
        let series = proxy.traffic.series(recorded());
        let open = series.open();
        open.received(5);
        open.sent(7);
        open.end(&Reason::Complete);
        series.open().end(&Reason::PolicyDenied("x".to_owned()));
        let text = registry.encode();
        let denied = RECORDED.replace("response_flags=\"-\"", "response_flags=\"DENY\"");
        for line in [
            "# HELP istio_tcp_connections_opened The total number of TCP connections opened.".to_owned(),
            "# TYPE istio_tcp_connections_opened counter".to_owned(),
            format!("istio_tcp_connections_opened_total{RECORDED} 2"),
            format!("istio_tcp_connections_closed_total{RECORDED} 1"),
            format!("istio_tcp_connections_closed_total{denied} 1"),
            format!("istio_tcp_connections_failed_total{denied} 1"),
            format!("istio_tcp_received_bytes_total{RECORDED} 5"),
            format!("istio_tcp_sent_bytes_total{RECORDED} 7"),
        ] {
            assert!(text.lines().any(|held| held == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn idle_series_are_forgotten_and_open_ones_are_not() {
        let traffic = Traffic::with_limits(10, Duration::ZERO);
        let open = traffic.series(recorded()).open();
        assert_eq!(traffic.sweep().len(), 1);
        drop(open);
        assert_eq!(traffic.sweep().len(), 0);
    }

    #[test]
    fn beyond_the_cap_pairs_are_counted_together() {
        let traffic = Traffic::with_limits(2, IDLE);
        let pair = |number: u32| {
            let source = Party { workload: Some(number.to_string().into()), ..Party::default() };
            traffic.series(Labels { source, ..recorded() })
        };
        for number in 0..10 {
            pair(number).open().end(&Reason::Complete);
        }
        assert_eq!(traffic.len(), 3);
        assert_eq!(pair(7).opened.load(Relaxed), 8);
        assert_eq!(pair(0).opened.load(Relaxed), 1);
    }
}
