//! How busy the data plane's threads are, under the names that upstream's runtime has (ztunnel.md §11.2, "runtime specific").

use super::Registry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use std::{fmt, time::Duration};

/// One thread's runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thread {
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Tasks that wait to be run for the first time.
    pub queued: usize,
    /// Time spent running tasks.
    pub busy: Duration,
    /// How often it went to sleep.
    pub parks: u64,
    /// How often it went to sleep or woke up.
    pub park_unparks: u64,
}

/// Registers the families; `measure` is asked at each scrape.
pub fn register(registry: &mut Registry, measure: impl Fn() -> Vec<Thread> + Send + Sync + 'static) {
    registry.0.register_collector(Box::new(Threads(Box::new(measure))));
}

struct Threads(Box<dyn Fn() -> Vec<Thread> + Send + Sync>);

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Threads")
    }
}

impl Collector for Threads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let threads = (self.0)();
        let mut gauge = |name, help, value: usize| {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("tokio_num_workers", "The number of data-plane threads", threads.len())?;
        let queued = threads.iter().map(|thread| thread.queued).sum();
        gauge("tokio_global_queue_depth", "Tasks that wait to be run for the first time", queued)?;
        let tasks = threads.iter().map(|thread| thread.tasks).sum();
        gauge("tokio_num_alive_tasks", "Tasks that have not ended", tasks)?;
        let busy = "The time that threads have been running tasks";
        let mut family = encoder.encode_descriptor(
            "tokio_worker_total_busy_duration",
            busy,
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        for (index, thread) in threads.iter().enumerate() {
            let value = ConstCounter::new(thread.busy.as_secs_f64());
            value.encode(family.encode_family(&[("worker", index.to_string())])?)?;
        }
        let mut counts = |name, help, value: fn(&Thread) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            threads.iter().enumerate().try_for_each(|(index, thread)| {
                ConstCounter::new(value(thread)).encode(family.encode_family(&[("worker", index.to_string())])?)
            })
        };
        counts("tokio_worker_park_count", "How often threads went to sleep", |thread| thread.parks)?;
        counts("tokio_worker_park_unpark_count", "How often threads went to sleep or woke up", |thread| {
            thread.park_unparks
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        let mut registry = Registry::new("ztunnel", "unknown");
        let one = Thread { tasks: 2, queued: 1, busy: Duration::from_millis(1500), parks: 3, park_unparks: 6 };
        register(&mut registry, move || vec![one, Thread::default()]);
        let text = registry.encode();
        for line in [
            "tokio_num_workers 2",
            "tokio_global_queue_depth 1",
            "tokio_num_alive_tasks 2",
            "# TYPE tokio_worker_total_busy_duration_seconds counter",
            "tokio_worker_total_busy_duration_seconds_total{worker=\"0\"} 1.5",
            "tokio_worker_park_count_total{worker=\"0\"} 3",
            "tokio_worker_park_unpark_count_total{worker=\"1\"} 0",
        ] {
            assert!(text.lines().any(|held| held == line), "{line} is missing in\n{text}");
        }
    }
}
