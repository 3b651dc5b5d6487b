//! What is served over xDS, from the first change to the last byte.

use super::super::{Count, Counts, Registry, counted::Labels};
use prometheus_client::metrics::{family::Family, histogram::Histogram};
use std::time::Duration;

type Times = Family<Labels, Histogram, fn() -> Histogram>;

/// What is served over xDS.
#[derive(Debug, Clone)]
pub struct Serving {
    /// `pilot_xds{version,type}`: connected clients.
    pub clients: Count,
    /// `pilot_xds_pushes{type}`: responses sent.
    pub pushes: Counts,
    /// `pilot_push_triggers{type}`.
    pub triggers: Counts,
    /// `pilot_total_xds_rejects{type}`: NACKs.
    pub rejects: Counts,
    /// `pilot_xds_expired_nonce{type}`.
    pub expired_nonces: Counts,
    /// `pilot_total_xds_internal_errors`.
    pub internal_errors: Counts,
    /// `pilot_xds_write_timeout`: proxies that took nothing for too long.
    pub write_timeouts: Counts,
    /// `pilot_xds_recv_max`: bytes of the largest request.
    pub largest_request: Count,
    /// `pilot_services`.
    pub services: Count,
    convergence: Times,
    debounce: Times,
    resolve: Times,
    queue: Times,
    send: Times,
    push: Times,
    size: Times,
}

/// One response that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Pushed<'a> {
    /// Abbreviation of its type.
    pub kind: &'a str,
    /// Its size.
    pub bytes: usize,
    /// How long it waited for its turn.
    pub queued: Duration,
    /// How long the transport took to accept it.
    pub took: Duration,
}

fn seconds() -> Histogram {
    Histogram::new([0.01, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0])
}

fn convergence() -> Histogram {
    Histogram::new([0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0])
}

fn sizes() -> Histogram {
    Histogram::new([1.0, 10_000.0, 1_000_000.0, 4_000_000.0, 10_000_000.0, 40_000_000.0])
}

fn times(registry: &mut Registry, name: &'static str, help: &'static str, buckets: fn() -> Histogram) -> Times {
    let family = Times::new_with_constructor(buckets);
    registry.0.register(name, help, family.clone());
    family
}

fn observe(times: &Times, names: &'static [&'static str], values: &[&str], value: f64) {
    times.get_or_create(&Labels::new(names, values)).observe(value);
}

impl Serving {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let by_type = &["type"];
        let count = |registry: &mut Registry, name, help| Count::register(registry, name, help, &[]);
        let serving = Self {
            clients: Count::register(
                registry,
                "pilot_xds",
                "Number of endpoints connected using xDS",
                &["version", "type"],
            ),
            pushes: Counts::register(registry, "pilot_xds_pushes", "Pilot build and send of xDS responses", by_type),
            triggers: Counts::register(registry, "pilot_push_triggers", "Pushes by what triggered them", by_type),
            rejects: Counts::register(
                registry,
                "pilot_total_xds_rejects",
                "xDS responses rejected by proxies",
                by_type,
            ),
            expired_nonces: Counts::register(
                registry,
                "pilot_xds_expired_nonce",
                "Requests with a stale nonce",
                by_type,
            ),
            internal_errors: Counts::register(registry, "pilot_total_xds_internal_errors", "Internal xDS errors", &[]),
            write_timeouts: Counts::register(registry, "pilot_xds_write_timeout", "xDS response write timeouts", &[]),
            largest_request: count(registry, "pilot_xds_recv_max", "The largest request size received, in bytes"),
            services: count(registry, "pilot_services", "Total services known to pilot"),
            convergence: times(
                registry,
                "pilot_proxy_convergence_time",
                "Delay between a change of configuration and a proxy receiving it",
                convergence,
            ),
            debounce: times(registry, "pilot_debounce_time", "Delay while changes are gathered", seconds),
            resolve: times(registry, "pilot_pushcontext_init_seconds", "Time to resolve gathered changes", seconds),
            queue: times(registry, "pilot_proxy_queue_time", "Time a proxy's response waits for its turn", seconds),
            send: times(registry, "pilot_xds_send_time", "Time to hand a response to the transport", seconds),
            push: times(registry, "pilot_xds_push_time", "Time to build and send one response", seconds),
            size: times(registry, "pilot_xds_config_size_bytes", "Sizes of responses", sizes),
        };
        serving.internal_errors.add_many(&[], 0);
        serving.write_timeouts.add_many(&[], 0);
        serving
    }

    /// `pilot_proxy_convergence_time`.
    pub fn converged(&self, after: Duration) {
        observe(&self.convergence, &[], &[], after.as_secs_f64());
    }

    /// `pilot_debounce_time`.
    pub fn debounced(&self, during: Duration) {
        observe(&self.debounce, &[], &[], during.as_secs_f64());
    }

    /// `pilot_pushcontext_init_seconds`.
    pub fn resolved(&self, took: Duration) {
        observe(&self.resolve, &[], &[], took.as_secs_f64());
    }

    /// A response was sent.
    pub fn pushed(&self, pushed: Pushed<'_>) {
        let Pushed { kind, bytes, queued, took } = pushed;
        self.pushes.add(&[kind]);
        observe(&self.queue, &[], &[], queued.as_secs_f64());
        observe(&self.send, &[], &[], took.as_secs_f64());
        observe(&self.push, &["type"], &[kind], (queued + took).as_secs_f64());
        observe(&self.size, &["type"], &[kind], bytes as f64);
    }
}
