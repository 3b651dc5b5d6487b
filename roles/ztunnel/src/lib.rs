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
mod legacy;
mod listener;
mod neighbours;
mod node;
mod observe;
mod outbound;
mod own;
mod pod;
mod policy;
mod proxy;
mod quota;
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

use inpod::words::WORKER_UID;
use linux::{
    process,
    sandbox::{self, Sandbox},
};
use runtime::{BoxError, Threads, clock::Clock};
use std::path::PathBuf;

/// Where systems keep their resolver's settings.
const DEFAULT_RESOLVER: &str = "/etc/resolv.conf";

/// The node proxy's command line; everything else is in its environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// `ztunnel`, as charts have it; nothing depends on it
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Runs the proxy as a process of its own.
pub fn main(args: Args) -> Result<(), BoxError> {
    let arguments: Vec<String> = std::iter::once("proxy".to_owned()).chain(args.words).collect();
    let config = Config::read(&Environment::of_process(), &arguments)?;
    if config.keeper.is_none() {
        return work(config);
    }
    // The keeper has the rights. What is left here needs none, and a crash shall not be waited for.
    sandbox::drop_rights(WORKER_UID, WORKER_UID)?;
    let caged = || {
        let entered = Sandbox { readable: readable(&config) }.enter();
        match entered.map_err(BoxError::from).and_then(|()| work(config.clone())) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("error: {}", runtime::process::sentence(error.as_ref()));
                1
            }
        }
    };
    match process::supervise(caged)? {
        0 => Ok(()),
        status => Err(format!("the worker ended with status {status}").into()),
    }
}

/// Files that a worker opens while it runs: roots, tokens, revocations, the resolver's.
fn readable(config: &Config) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        ["/etc", "/var/run/secrets", "/usr/lib/ssl", "/usr/share/ca-certificates", "/proc/self", "/sys/fs/cgroup"]
            .map(PathBuf::from)
            .into();
    let controls = [&config.control, &config.certificates.authority];
    let named = controls.into_iter().flat_map(|control| [Some(&control.root), control.token.as_ref()]).flatten();
    let files = named.map(PathBuf::from).chain(config.certificates.revocation_list.clone());
    // Files are replaced by others of the same folder.
    paths.extend(files.filter(|path| path.is_absolute()).filter_map(|path| path.parent().map(PathBuf::from)));
    if let Some(config::LocalXds::Path(path)) = &config.local_xds {
        paths.push(path.clone());
    }
    paths
}

fn work(config: Config) -> Result<(), BoxError> {
    let format = if config.log_json { telemetry::log::Format::Json } else { telemetry::log::Format::Plain };
    let log = telemetry::log::init(format, &config.log_filter)?;
    let resolver = DEFAULT_RESOLVER.into();
    let parts = Parts { levels: Some(log.levels), clock: Clock::system(), resolver };
    runtime::run("ztunnel-main", Threads::Current, |shutdown| run(config, None, parts, shutdown))
}
