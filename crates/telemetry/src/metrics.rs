//! Metric families by the names that dashboards and alerts know (ztunnel.md §11.2, control-plane A19 and B9).
//!
//! One file per speaker: [`traffic`] and [`proxy`] for the node proxy, [`control`] for the control plane, [`agent`] for the node
//! agent, [`process`] for every one of them, [`threads`] for those with a data plane. A [`Registry`] collects what one process has and writes it down as OpenMetrics.

pub mod agent;
pub mod control;
pub mod process;
pub mod proxy;
pub mod requests;
pub mod threads;
pub mod traffic;

mod counted;

pub use counted::{Count, Counts};

use prometheus_client::{encoding::text, metrics::gauge::Gauge, registry};
use std::fmt;

/// Content type for clients that ask for OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text;charset=utf-8;version=1.0.0";
/// Content type for everybody else.
pub const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// The families of one process.
#[derive(Debug, Default)]
pub struct Registry(pub(crate) registry::Registry);

impl Registry {
    /// Families that every process has, with `istio_build{component,tag}`.
    pub fn new(component: &'static str, tag: &str) -> Self {
        let mut families = Self::default();
        process::register(&mut families);
        let build = prometheus_client::metrics::family::Family::<_, Gauge>::default();
        build.get_or_create(&vec![("component", component.to_owned()), ("tag", tag.to_owned())]).set(1);
        families.0.register("istio_build", "Istio component build info", build);
        families
    }

    /// Adds what counts connections.
    pub fn add_traffic(&mut self, traffic: &std::sync::Arc<traffic::Traffic>) {
        self.0.register_collector(Box::new(traffic.clone()));
    }

    /// The text of a scrape, ending in `# EOF`.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a text cannot fail, and no collector of ours gives up.
        let _: fmt::Result = text::encode(&mut out, &self.0);
        without_empty_labels(&out)
    }
}

/// A family without labels is written as `name{}`; everybody expects `name`.
fn without_empty_labels(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.split_once("{}") {
            Some((name, value)) if !line.starts_with('#') && !name.contains(['{', ' ']) => {
                out.extend([name, value, "\n"]);
            }
            _ => out.extend([line, "\n"]),
        }
    }
    out
}

/// The content type for what a client's `Accept` header says.
pub fn content_type(accept: Option<&str>) -> &'static str {
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) { OPEN_METRICS } else { PLAIN_TEXT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_names_the_build_and_ends() {
        let text = Registry::new("ztunnel", "1.0").encode();
        assert!(text.contains("# HELP istio_build Istio component build info.\n# TYPE istio_build gauge\n"), "{text}");
        assert!(text.contains("istio_build{component=\"ztunnel\",tag=\"1.0\"} 1\n"), "{text}");
        assert!(text.contains("\nprocess_open_fds "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn open_metrics_is_for_who_asks() {
        assert_eq!(content_type(Some("application/openmetrics-text; version=0.0.1,text/plain;q=0.5")), OPEN_METRICS);
        assert_eq!(content_type(Some("*/*")), PLAIN_TEXT);
        assert_eq!(content_type(None), PLAIN_TEXT);
    }
}
