//! HTTP requests by who asked whom, as L7 proxies report them (l7-waypoint-gateway.md §2.5).
//!
//! One series per label set, each with a counter and three histograms; the number of label sets is bounded, and what goes beyond it
//! is counted together.

use super::traffic::{self, Addressed, Party};
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Series, each with four families of lines.
const MAX_SERIES: usize = 5_000;

/// Milliseconds and bytes alike, as Envoy has them.
const BOUNDS: [f64; 19] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6];

/// One label set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Who reports: `waypoint`, `source`, `destination`.
    pub reporter: &'static str,
    /// Client.
    pub source: Party,
    /// Service, if one was addressed.
    pub service: Option<Addressed>,
    /// Server.
    pub destination: Party,
    /// gRPC rather than plain HTTP.
    pub grpc: bool,
    /// Status; 0 when no response was sent.
    pub code: u16,
    /// gRPC's status, if there was one.
    pub grpc_status: Option<u16>,
    /// What went wrong, in short; `-` when nothing did.
    pub flags: &'static str,
    /// Whether the client has proven who it is.
    pub mutual_tls: bool,
}

/// What one request adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// From the first byte of the request to the last of the response.
    pub milliseconds: f64,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
}

#[derive(Debug, Default)]
struct Histogram {
    sum: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

impl Histogram {
    fn observe(&self, value: f64) {
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        // Thousandths, so that short times do not vanish.
        self.sum.fetch_add((value * 1e3) as u64, Relaxed);
    }
}

#[derive(Debug, Default)]
struct Series {
    count: AtomicU64,
    duration: Histogram,
    request: Histogram,
    response: Histogram,
}

/// Every series. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Mutex<HashMap<Labels, Arc<Series>>>>);

impl Requests {
    /// Registers the families.
    pub fn register(registry: &mut super::Registry) -> Self {
        let requests = Self::default();
        registry.0.register_collector(Box::new(requests.clone()));
        requests
    }

    /// Counts one request that has ended.
    pub fn ended(&self, labels: Labels, measured: Measured) {
        let series = {
            let mut all = self.0.lock();
            let labels = if all.len() < MAX_SERIES || all.contains_key(&labels) { labels } else { beyond_cap(labels) };
            all.entry(labels).or_default().clone()
        };
        series.count.fetch_add(1, Relaxed);
        series.duration.observe(measured.milliseconds);
        series.request.observe(measured.request_bytes as f64);
        series.response.observe(measured.response_bytes as f64);
    }
}

fn beyond_cap(labels: Labels) -> Labels {
    Labels { source: Party::default(), service: None, destination: Party::default(), ..labels }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, value: &str| (name, value).encode(encoder.encode_label());
        put("reporter", self.reporter)?;
        traffic::party(&mut put, &traffic::SOURCE, &self.source)?;
        traffic::party(&mut put, &traffic::DESTINATION, &self.destination)?;
        traffic::addressed(&mut put, self.service.as_ref())?;
        put("request_protocol", if self.grpc { "grpc" } else { "http" })?;
        put("response_code", &self.code.to_string())?;
        put("grpc_response_status", &self.grpc_status.map(|status| status.to_string()).unwrap_or_default())?;
        put("response_flags", self.flags)?;
        put("connection_security_policy", if self.mutual_tls { "mutual_tls" } else { "none" })
    }
}

impl EncodeMetric for &Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<Labels>(self.sum.load(Relaxed) as f64 / 1e3, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.lock().iter().map(|(labels, series)| (labels.clone(), series.clone())).collect();
        if all.is_empty() {
            return Ok(());
        }
        let help = "The total number of requests.";
        let mut metric = encoder.encode_descriptor("istio_requests", help, None, MetricType::Counter)?;
        for (labels, series) in &all {
            ConstCounter::new(series.count.load(Relaxed)).encode(metric.encode_family(labels)?)?;
        }
        let mut family = |name, help, histogram: fn(&Series) -> &Histogram| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            all.iter().try_for_each(|(labels, series)| {
                EncodeMetric::encode(&histogram(series), metric.encode_family(labels)?)
            })
        };
        family("istio_request_duration_milliseconds", "Duration of requests.", |series| &series.duration)?;
        family("istio_request_bytes", "Size of requests.", |series| &series.request)?;
        family("istio_response_bytes", "Size of responses.", |series| &series.response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    #[test]
    fn a_request_is_a_count_and_three_sizes() {
        let mut registry = Registry::default();
        let requests = Requests::register(&mut registry);
        let labels = Labels {
            reporter: "waypoint",
            source: Party { workload: Some("client".into()), ..Party::default() },
            service: None,
            destination: Party::default(),
            grpc: false,
            code: 200,
            grpc_status: None,
            flags: "-",
            mutual_tls: true,
        };
        requests.ended(labels, Measured { milliseconds: 3.0, request_bytes: 10, response_bytes: 2_000 });
        let text = registry.encode();
        let count = text.lines().find(|line| line.starts_with("istio_requests_total{")).unwrap();
        for part in ["reporter=\"waypoint\"", "source_workload=\"client\"", "response_code=\"200\"", "} 1"] {
            assert!(count.contains(part), "{part} in {count}");
        }
        let bucket = |family: &str, bound: &str| {
            let wanted = format!("le=\"{bound}\"");
            let found =
                text.lines().find(|line| line.starts_with(&format!("{family}_bucket")) && line.contains(&wanted));
            found.unwrap().rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(bucket("istio_request_duration_milliseconds", "1.0"), "0");
        assert_eq!(bucket("istio_request_duration_milliseconds", "5.0"), "1");
        assert_eq!(bucket("istio_response_bytes", "2500.0"), "1");
        assert_eq!(bucket("istio_response_bytes", "+Inf"), "1");
    }
}
