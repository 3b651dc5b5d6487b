//! The one binary: picks a role by its first argument, or by the name it was called as.
//!
//! `up`, `demo`, `down` and `status` run the whole mesh on this host ([`onehost`]); everything else belongs to the role that is named.

mod demo;
mod onehost;
mod wait;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "ambit", about = "An ambient service mesh in one program", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a complete mesh on this host
    Up(onehost::UpArgs),
    /// End the mesh that `up` started
    Down(onehost::DownArgs),
    /// Show the mesh that runs on this host
    Status(onehost::StatusArgs),
    /// Run a mesh and walk through what it does, with evidence
    Demo(demo::Args),
    /// Role: the embedded Kubernetes API
    Apiserver(apiserver::Args),
    /// Role: the control plane
    #[command(alias = "discovery")]
    Control(Box<control::Args>),
    /// Role: node agent and CNI plugin
    Cni(cni::Args),
    /// Role: the node proxy
    Ztunnel(ztunnel::Args),
    /// Role: what outlives the node proxy's workers, and makes their sockets
    Keeper(keeper::Args),
    /// Role: a proxy, named as charts name it
    Proxy(Proxy),
    /// Role: pods, services and names on one host
    Host(host::Args),
    /// The demo application
    App(host::app::Args),
    #[command(flatten)]
    Ctl(ctl::Command),
    #[command(hide = true)]
    World(onehost::WorldArgs),
}

#[derive(clap::Args)]
struct Proxy {
    #[command(subcommand)]
    kind: Option<ProxyKind>,
}

#[derive(Subcommand)]
enum ProxyKind {
    /// The node proxy
    Ztunnel(ztunnel::Args),
    /// The L7 proxy before services
    Waypoint(waypoint::Args),
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ambit: {}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    if let Some(plugin) = called_as() {
        return plugin;
    }
    match Cli::parse().command {
        Command::Up(args) => onehost::up(args),
        Command::Down(args) => onehost::down(&args),
        Command::Status(args) => onehost::status(&args),
        Command::World(args) => onehost::world(args),
        Command::Demo(args) => demo::main(args),
        Command::Apiserver(args) => done(apiserver::main(args)),
        Command::Control(args) => done(control::main(*args)),
        Command::Cni(args) => done(cni::main(args)),
        Command::Ztunnel(args) => done(ztunnel::main(args)),
        Command::Keeper(args) => done(keeper::main(args)),
        Command::Proxy(Proxy { kind: Some(ProxyKind::Waypoint(args)) }) => done(waypoint::main(args)),
        Command::Proxy(Proxy { kind: Some(ProxyKind::Ztunnel(args)) }) => done(ztunnel::main(args)),
        Command::Proxy(Proxy { kind: None }) => done(ztunnel::main(ztunnel::Args::default())),
        Command::Host(args) => done(host::main(args)),
        Command::App(args) => done(host::app::main(args)),
        Command::Ctl(command) => done(ctl::main(command)),
    }
}

/// CNI plugins are called by their file name alone, without arguments.
fn called_as() -> Option<Outcome> {
    let name = std::env::args_os().next()?;
    match std::path::Path::new(&name).file_name()?.to_str()? {
        "istio-cni" => Some(done(cni::plugin())),
        host::CNI_PLUGIN => Some(done(host::main(host::Args::cni_plugin()))),
        _ => None,
    }
}

fn done(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) -> Outcome {
    result.map(|()| ExitCode::SUCCESS)
}

/// An error and its causes as one sentence, each cause once.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}
