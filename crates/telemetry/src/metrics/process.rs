//! What every process tells about itself: open files, lines of the log that were dropped.

use super::Registry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::{fmt, fs};

pub(super) fn register(registry: &mut Registry) {
    registry.0.register_collector(Box::new(Process));
}

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, value: i64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("process_open_fds", "Number of open file descriptors", open_files())?;
        gauge("process_max_fds", "Maximum number of file descriptors", max_files())?;
        let dropped = ConstCounter::new(crate::log::dropped());
        let help = "Log lines dropped because the writer could not keep up";
        dropped.encode(encoder.encode_descriptor("ambit_log_lines_dropped", help, None, MetricType::Counter)?)
    }
}

fn open_files() -> i64 {
    fs::read_dir("/proc/self/fd").map_or(0, |files| i64::try_from(files.count()).unwrap_or(i64::MAX))
}

/// The soft limit, fourth column of its line.
fn max_files() -> i64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
