//! The control plane's families, those of control-plane A19 that dashboards and alerts read.
//!
//! Upstream's control plane writes the older text format and names most of its counters without `_total`. [`plain_text`] turns
//! a scrape into that form.

mod serving;

pub use serving::{Pushed, Serving};

use super::{Count, Counts, Registry};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Counters that upstream names without `_total`.
const UNSUFFIXED: &[&str] = &[
    "citadel_server_authentication_failure_count",
    "citadel_server_csr_count",
    "citadel_server_csr_parsing_err_count",
    "citadel_server_csr_sign_err_count",
    "citadel_server_id_extraction_err_count",
    "citadel_server_success_cert_issuance_count",
    "galley_validation_failed",
    "galley_validation_passed",
    "pilot_inbound_updates",
    "pilot_k8s_cfg_events",
    "pilot_k8s_reg_events",
    "pilot_push_triggers",
    "pilot_total_rejected_configs",
    "pilot_total_xds_internal_errors",
    "pilot_total_xds_rejects",
    "pilot_xds_expired_nonce",
    "pilot_xds_pushes",
    "pilot_xds_write_timeout",
    "galley_validation_config_updates",
];

/// Everything the control plane counts.
#[derive(Debug, Clone)]
pub struct Control {
    /// What is served over xDS.
    pub xds: Serving,
    /// What is read from the API.
    pub watching: Watching,
    /// The certificate authority.
    pub authority: Authority,
    uptime: Count,
    root_expires_in: Count,
    chain_expires_in: Count,
    born: Instant,
}

/// What is read from the API.
#[derive(Debug, Clone)]
pub struct Watching {
    /// `pilot_k8s_cfg_events{type,event}`.
    pub config_events: Counts,
    /// `pilot_k8s_reg_events{type,event}`.
    pub registry_events: Counts,
    /// `pilot_inbound_updates{type}`.
    pub updates: Counts,
    /// `pilot_total_rejected_configs{type}`: resources that could not be used.
    pub rejected: Counts,
    /// `ambit_unreadable_objects{type,namespace,name}`: objects that do not have their kind's shape, one series each.
    pub unreadable: Count,
    /// `galley_validation_config_updates`: times that the rules to validate by were read anew.
    pub validation_updates: Counts,
    /// `galley_validation_passed`.
    pub validation_passed: Counts,
    /// `galley_validation_failed{reason}`.
    pub validation_failed: Counts,
}

/// The certificate authority.
#[derive(Debug, Clone)]
pub struct Authority {
    /// `citadel_server_csr_count`.
    pub requests: Counts,
    /// `citadel_server_success_cert_issuance_count`.
    pub issued: Counts,
    /// `citadel_server_authentication_failure_count`.
    pub unauthenticated: Counts,
    /// `citadel_server_csr_parsing_err_count`.
    pub unreadable: Counts,
    /// `citadel_server_csr_sign_err_count{error}`.
    pub unsigned: Counts,
    /// `citadel_server_id_extraction_err_count`.
    pub unidentified: Counts,
    /// `citadel_server_root_cert_expiry_timestamp`: seconds since the epoch.
    pub root_expiry: Count,
    /// `citadel_server_cert_chain_expiry_timestamp`: seconds since the epoch.
    pub chain_expiry: Count,
}

impl Control {
    /// Registers all of them, with `pilot_info{version}`.
    pub fn register(registry: &mut Registry, version: &str) -> Self {
        let info = Count::register(registry, "pilot_info", "Pilot version and build information", &["version"]);
        info.set(&[version], 1);
        let clusters = "Clusters that are watched; this control plane watches its own";
        Count::register(registry, "istiod_managed_clusters", clusters, &["cluster_type"]).set(&["local"], 1);
        let mut expires_in = |name, help| Count::register(registry, name, help, &[]);
        let root_expires_in = expires_in(
            "citadel_server_root_cert_expiry_seconds",
            "The time remaining, in seconds, before the root expires",
        );
        let chain_expires_in = expires_in(
            "citadel_server_cert_chain_expiry_seconds",
            "The time remaining, in seconds, before the certificate chain expires",
        );
        Self {
            xds: Serving::register(registry),
            watching: Watching::register(registry),
            authority: Authority::register(registry),
            uptime: Count::register(registry, "istiod_uptime_seconds", "Current istiod server uptime in seconds", &[]),
            root_expires_in,
            chain_expires_in,
            born: Instant::now(),
        }
    }

    /// A scrape in upstream's form.
    pub fn scrape(&self, registry: &Registry) -> String {
        self.uptime.set(&[], i64::try_from(self.born.elapsed().as_secs()).unwrap_or(i64::MAX));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for (moment, remaining) in [
            (&self.authority.root_expiry, &self.root_expires_in),
            (&self.authority.chain_expiry, &self.chain_expires_in),
        ] {
            // Before the authority is loaded nothing expires.
            if moment.get(&[]) != 0 {
                remaining.set(&[], moment.get(&[]) - now);
            }
        }
        plain_text(&registry.encode(), UNSUFFIXED)
    }
}

impl Watching {
    fn register(registry: &mut Registry) -> Self {
        let events = &["type", "event"];
        Self {
            config_events: Counts::register(registry, "pilot_k8s_cfg_events", "Events from the API's config", events),
            registry_events: Counts::register(
                registry,
                "pilot_k8s_reg_events",
                "Events from the API's registry",
                events,
            ),
            updates: Counts::register(registry, "pilot_inbound_updates", "Updates received by pilot", &["type"]),
            rejected: Counts::register(registry, "pilot_total_rejected_configs", "Resources not used", &["type"]),
            unreadable: Count::register(
                registry,
                "ambit_unreadable_objects",
                "Objects that do not have their kind's shape",
                &["type", "namespace", "name"],
            ),
            validation_updates: Counts::register(
                registry,
                "galley_validation_config_updates",
                "Updates of the configuration of validation",
                &[],
            ),
            validation_passed: Counts::register(registry, "galley_validation_passed", "Resources found valid", &[]),
            validation_failed: Counts::register(registry, "galley_validation_failed", "Resources refused", &["reason"]),
        }
    }
}

impl Authority {
    fn register(registry: &mut Registry) -> Self {
        let mut counts = |name, help| {
            let counts = Counts::register(registry, name, help, &[]);
            counts.add_many(&[], 0);
            counts
        };
        let requests = counts("citadel_server_csr_count", "The number of CSRs received");
        let issued = counts("citadel_server_success_cert_issuance_count", "The number of certificates issued");
        let unauthenticated = counts("citadel_server_authentication_failure_count", "Callers not authenticated");
        let unreadable = counts("citadel_server_csr_parsing_err_count", "CSRs that could not be read");
        let unidentified = counts("citadel_server_id_extraction_err_count", "CSRs whose identity could not be had");
        let unsigned = Counts::register(
            registry,
            "citadel_server_csr_sign_err_count",
            "CSRs that could not be signed",
            &["error"],
        );
        let root = "The unix timestamp, in seconds, when the root certificate expires";
        let chain = "The unix timestamp, in seconds, when the certificate chain expires";
        Self {
            requests,
            issued,
            unauthenticated,
            unreadable,
            unsigned,
            unidentified,
            root_expiry: Count::register(registry, "citadel_server_root_cert_expiry_timestamp", root, &[]),
            chain_expiry: Count::register(registry, "citadel_server_cert_chain_expiry_timestamp", chain, &[]),
        }
    }
}

/// OpenMetrics text as the older text format: counters are named as they are written, those of the list without `_total`.
fn plain_text(open_metrics: &str, unsuffixed: &[&str]) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut counter = None;
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        if let Some(("TYPE", rest)) = comment(line) {
            counter = rest.strip_suffix(" counter").map(|name| (name, unsuffixed.contains(&name)));
        }
        let suffix = "_total";
        match (comment(line), counter) {
            (Some(("TYPE", _)), Some((name, false))) => out.push_str(&format!("# TYPE {name}{suffix} counter")),
            (None, Some((name, true))) => {
                let rest = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(suffix));
                out.push_str(&rest.map_or_else(|| line.to_owned(), |rest| format!("{name}{rest}")));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// The keyword of a comment line and what follows it.
fn comment(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("# ")?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_in_upstreams_form() {
        let mut registry = Registry::new("pilot", "1.0");
        let control = Control::register(&mut registry, "1.0");
        control.xds.pushes.add(&["wds"]);
        control.xds.clients.set(&["1.0", "ztunnel"], 2);
        control.xds.converged(std::time::Duration::from_millis(200));
        control.authority.requests.add(&[]);
        let text = control.scrape(&registry);
        for line in [
            "# TYPE pilot_xds_pushes counter",
            "pilot_xds_pushes{type=\"wds\"} 1",
            "pilot_xds{version=\"1.0\",type=\"ztunnel\"} 2",
            "pilot_info{version=\"1.0\"} 1",
            "citadel_server_csr_count 1",
            "istio_build{component=\"pilot\",tag=\"1.0\"} 1",
            "pilot_proxy_convergence_time_bucket{le=\"0.5\"} 1",
            "# TYPE ambit_log_lines_dropped_total counter",
        ] {
            assert!(text.lines().any(|held| held == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("# EOF"));
    }
}
