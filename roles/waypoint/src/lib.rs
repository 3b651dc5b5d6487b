//! The waypoint: an L7 proxy that stands before services, reached and left through tunnels (l7-waypoint-gateway.md §2).
//!
//! `run` is its life. `inbound` accepts tunnels under the waypoint's own identity and hands each stream, with what `dispatch` says
//! it is for, to `l7::http` or, where no HTTP is spoken, to `tcp`. `dialer` makes the streams to endpoints, `state` follows the
//! control plane.

mod admin;
mod config;
mod dialer;
mod dispatch;
mod inbound;
mod proxy;
mod run;
mod state;
mod tcp;

pub use config::{Config, ConfigError};
pub use run::run;

use runtime::{BoxError, Threads, settings::Settings};

/// The waypoint's command line, as charts have it; what it says is in the environment too, and decides nothing.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// DNS domain of the proxy
    #[arg(long, hide = true)]
    domain: Option<String>,
    /// Name of the cluster that the proxy is part of
    #[arg(long = "serviceCluster", hide = true)]
    service_cluster: Option<String>,
    /// Level of the log
    #[arg(long = "proxyLogLevel", hide = true)]
    proxy_log_level: Option<String>,
    /// Levels of parts of the log
    #[arg(long = "proxyComponentLogLevel", hide = true)]
    component_log_level: Option<String>,
    /// Levels of the agent's log
    #[arg(long = "log_output_level", hide = true)]
    log_output_level: Option<String>,
    /// Seconds that a drain may take
    #[arg(long = "drainTimeSeconds", hide = true)]
    drain_seconds: Option<u64>,
}

/// Runs the waypoint as a process of its own.
pub fn main(_args: Args) -> Result<(), BoxError> {
    let _log = telemetry::log::init_from_env()?;
    let config = Config::read(Settings::from_env())?;
    runtime::run("waypoint", Threads::Current, |shutdown| run(config, shutdown))
}
