//! A whole mesh on this host: `ambit up`, `down` and `status`.
//!
//! `up` prepares credentials ([`pki`]), starts the [`mod@world`] and installs the platform and the mesh through the API as
//! anyone else would ([`install`]). What it writes down about itself is in [`run_dir`].

mod install;
mod layout;
mod network;
mod pki;
mod run_dir;
mod up;
mod world;

pub(crate) use install::{Profile, documents, is_ready};
pub(crate) use layout::nodes;
pub(crate) use network::port_of;
pub(crate) use run_dir::RunDir;
pub(crate) use up::{Options, Running, start};
pub(crate) use world::WorldArgs;

use crate::Outcome;
use anyhow::{Context, bail};
use nix::{sys::signal, unistd::Pid};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// How long `down` waits before it ends the mesh by force.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) nodes: u8,
    /// Folder that keeps the API's objects over `down` and `up`; without it they live in memory
    #[arg(long)]
    pub(crate) state: Option<PathBuf>,
    /// What is installed: the mesh, or nothing beyond nodes and DNS
    #[arg(long, value_enum, default_value_t = install::Profile::Ambient)]
    pub(crate) profile: Profile,
    /// Port of the API on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 6443)]
    pub(crate) api_port: u16,
    /// Name of the mesh; several can run at once
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
    /// Return when the mesh is ready, and leave it running
    #[arg(long, short)]
    pub(crate) detach: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DownArgs {
    /// Name of the mesh
    #[arg(long, default_value = "default")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Name of the mesh; all without it
    #[arg(long)]
    name: Option<String>,
}

pub(crate) fn up(args: UpArgs) -> Outcome {
    up::main(args)
}

pub(crate) fn world(args: WorldArgs) -> Outcome {
    world::main(args).map(|()| ExitCode::SUCCESS)
}

pub(crate) fn down(args: &DownArgs) -> Outcome {
    let dir = RunDir::new(&args.name)?;
    match dir.running() {
        Some(mesh) => {
            end(mesh.pid)?;
            dir.wait_ended()?;
            println!("mesh {:?} has ended", args.name);
        }
        None => {
            dir.wait_ended()?;
            println!("no mesh {:?} runs here", args.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks `up` to end; the lock tells when it has. A process that does not listen is ended by force in the end.
fn end(pid: i32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid);
    signal::kill(pid, signal::Signal::SIGTERM).with_context(|| format!("asking `ambit up` (process {pid}) to end"))?;
    std::thread::spawn(move || {
        let (_never, deadline) = std::sync::mpsc::channel::<()>();
        let _timeout = deadline.recv_timeout(PATIENCE);
        let _gone = signal::kill(pid, signal::Signal::SIGKILL);
    });
    Ok(())
}

pub(crate) fn status(args: &StatusArgs) -> Outcome {
    let names = args.name.clone().map_or_else(RunDir::names, |name| vec![name]);
    let mut found = false;
    for name in names {
        let dir = RunDir::new(&name)?;
        let Some(mesh) = dir.running() else { continue };
        found = true;
        let state = mesh.state.as_ref().map_or_else(|| "memory".to_owned(), |path| path.display().to_string());
        println!("mesh        {name} ({})", if mesh.ready { "ready" } else { "starting" });
        println!("nodes       {}", mesh.nodes.join(" "));
        println!("api         {}", mesh.api);
        println!("state       {state}");
        println!("process     {}", mesh.pid);
        println!("logs        {}", dir.logs().display());
        println!("kubeconfig  export KUBECONFIG={}", dir.kubeconfig().display());
        runtime::process::run("status", runtime::process::Threads::Current, |_| async move {
            up::show_pods(&dir.kubeconfig()).await.map_err(Into::into)
        })?;
    }
    if !found {
        return match &args.name {
            Some(name) => {
                Err(anyhow::anyhow!("no mesh {name:?} runs here; start it with `ambit up --name {name}`").into())
            }
            None => {
                println!("no mesh runs here; start one with `ambit up`");
                Ok(ExitCode::FAILURE)
            }
        };
    }
    Ok(ExitCode::SUCCESS)
}

/// Why this process cannot make a mesh, if it can't.
pub(crate) fn preflight() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "root is needed: a mesh on one host makes network namespaces, links, mounts and nftables rules \
             (all of them in namespaces of its own). Run it with sudo, or in a container that has CAP_SYS_ADMIN and CAP_NET_ADMIN"
        );
    }
    network::probe().context("this kernel or container does not let a mesh run")
}
