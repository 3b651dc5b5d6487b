//! What the proxy counts besides traffic: the configuration stream and the pods that are served.

use inpod::roster::Census;
use telemetry::metrics::proxy::{Workloads, Xds};
use xds::client::Event;

/// Counts what happens on the configuration stream.
#[derive(Debug, Clone)]
pub(crate) struct XdsObserver(pub Xds);

impl XdsObserver {
    /// Takes note of one event.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Connected => tracing::info!("stream to the control plane established"),
            Event::Disconnected(ended) => self.0.terminations.add(&[ended.label()]),
            Event::Received { type_url, bytes } => {
                self.0.messages.add(&[type_url]);
                self.0.message_bytes.add_many(&[type_url], *bytes as u64);
            }
        }
    }
}

/// Shows how many pods are served.
#[derive(Debug)]
pub(crate) struct PodCounter {
    families: Workloads,
    shown: Census,
}

impl PodCounter {
    /// Nothing shown yet.
    pub(crate) fn new(families: Workloads) -> Self {
        Self { families, shown: Census::default() }
    }

    /// Brings the families up to date.
    pub(crate) fn show(&mut self, census: Census) {
        let as_gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.families.active.set(&[], as_gauge(census.active));
        self.families.pending.set(&[], as_gauge(census.pending));
        self.families.started.add_many(&[], census.started - self.shown.started);
        self.families.stopped.add_many(&[], census.stopped - self.shown.stopped);
        self.shown = census;
    }
}
