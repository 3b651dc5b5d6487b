//! The command line of a mesh that runs: what its proxies know, whether they are in step, which versions run.
//!
//! Each command reads flags, gets facts over the same ways that an operator's own tools have (the Kubernetes API, a port
//! of a pod), and prints them. What is printed is decided by pure functions over those facts.
//! Commands and columns are those of `istioctl`, so that scripts and people find what they know.

mod analyze;
mod connection;
mod error;
mod http;
mod output;
mod pod;
mod proxy_config;
mod proxy_status;
mod syncz;
mod table;
mod version;
mod waypoint;
mod ztunnel_config;

use clap::Subcommand;

pub use analyze::{Args as AnalyzeArgs, ValidateArgs};
pub use error::Error;
pub use proxy_config::Args as ProxyConfigArgs;
pub use proxy_status::Args as ProxyStatusArgs;
pub use version::Args as VersionArgs;
pub use waypoint::Args as WaypointArgs;
pub use ztunnel_config::Args as ZtunnelConfigArgs;

/// The commands, to be flattened into a program's own.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a node proxy knows
    #[command(alias = "zc")]
    ZtunnelConfig(ZtunnelConfigArgs),
    /// Show which proxies are connected to the control plane, and whether they are in step
    #[command(alias = "ps")]
    ProxyStatus(ProxyStatusArgs),
    /// Show what a waypoint or gateway holds
    #[command(alias = "pc")]
    ProxyConfig(ProxyConfigArgs),
    /// Show the versions of this program, the control plane and the proxies
    Version(VersionArgs),
    /// Look for mistakes in configuration, in a cluster and in files
    Analyze(AnalyzeArgs),
    /// Check files without a cluster
    #[command(alias = "v")]
    Validate(ValidateArgs),
    /// Make, show and delete waypoints
    #[command(alias = "wp")]
    Waypoint(WaypointArgs),
}

/// Runs a command and prints its result.
pub fn main(command: Command) -> Result<(), runtime::BoxError> {
    runtime::run("ctl", runtime::Threads::Current, |_| async {
        let text = run(command).await?;
        print(&text)
    })
}

async fn run(command: Command) -> Result<String, Error> {
    match command {
        Command::ZtunnelConfig(args) => ztunnel_config::run(args).await,
        Command::ProxyStatus(args) => proxy_status::run(args).await,
        Command::ProxyConfig(args) => proxy_config::run(args).await,
        Command::Version(args) => version::run(args).await,
        Command::Analyze(args) => analyze::run(args).await,
        Command::Validate(args) => analyze::validate(&args),
        Command::Waypoint(args) => waypoint::run(args).await,
    }
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<(), runtime::BoxError> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        command: super::Command,
    }

    #[test]
    fn the_commands_fit_into_a_program() {
        Program::command().debug_assert();
        let line = ["istioctl", "zc", "certs", "-i", "mesh", "--node", "n1", "-o", "json"];
        assert!(matches!(Program::parse_from(line).command, super::Command::ZtunnelConfig(_)));
        assert!(matches!(Program::parse_from(["istioctl", "ps"]).command, super::Command::ProxyStatus(_)));
        assert!(matches!(
            Program::parse_from(["istioctl", "pc", "routes", "waypoint.shop"]).command,
            super::Command::ProxyConfig(_)
        ));
        assert!(Program::try_parse_from(["istioctl", "version", "--remote=false", "-o", "yaml"]).is_ok());
    }
}
