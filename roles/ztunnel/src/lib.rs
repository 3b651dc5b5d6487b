//! The node proxy: captures what pods of one node send and receive, tunnels it under their identities, and lets in
//! only what policy allows (ztunnel.md).
//!
//! `run` is its life. `inpod` learns from the node agent which pods to serve, `pod` opens their sockets and puts a shard of
//! each on every data-plane thread. A connection goes through `listener` to `outbound` (decided by `route`) or `inbound`
//! (decided by `policy`), and is counted and recorded by `flow`. `state` holds the mesh, `certificates` the identities.

mod admin;
mod certificates;
pub mod config;
mod connections;
mod dialer;
mod dns;
mod flow;
mod inbound;
mod listener;
mod neighbours;
mod node;
mod observe;
mod outbound;
mod own;
mod pod;
mod policy;
mod proxy;
mod route;
mod run;
mod socks;
mod stale;
mod state;
mod telling;

/// Parsers of foreign bytes, for those who throw garbage at them.
pub mod foreign;

pub use config::{Config, ConfigError, Environment};
pub use run::{Parts, run};

use runtime::{BoxError, Threads, clock::Clock};

/// Where systems keep their resolver's settings.
const DEFAULT_RESOLVER: &str = "/etc/resolv.conf";

/// The node proxy's command line; everything else is in its environment.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// `ztunnel`, as charts have it; nothing depends on it
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Runs the proxy as a process of its own.
pub fn main(args: Args) -> Result<(), BoxError> {
    let arguments: Vec<String> = std::iter::once("proxy".to_owned()).chain(args.words).collect();
    let config = Config::read(&Environment::of_process(), &arguments)?;
    let format = if config.log_json { telemetry::log::Format::Json } else { telemetry::log::Format::Plain };
    let log = telemetry::log::init(format, &config.log_filter)?;
    let resolver = DEFAULT_RESOLVER.into();
    let parts = Parts { levels: Some(log.levels), clock: Clock::system(), resolver };
    runtime::run("ztunnel-main", Threads::Current, |shutdown| run(config, None, parts, shutdown))
}
