//! A real Kubernetes on this machine: one to three nodes, each with network, mount, process and host-name namespaces
//! of its own, everything real, nothing of it left after `down`. Called as `cargo xtask cluster`.
//!
//! What is built and installed is [`binaries`]' work, who may do what [`pki`]'s, the process tree [`world`]'s and [`node`]'s.

mod binaries;
mod cgroup;
mod cluster;
mod image;
mod layout;
mod node;
mod pki;
mod process;
mod world;

use clap::{Parser, Subcommand};
use runtime::process::Threads;
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask cluster", about = "A real Kubernetes on this machine")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build what is missing and start a cluster; it runs until `down`
    Up(cluster::UpArgs),
    /// End the cluster and remove every trace of it
    Down(cluster::Name),
    /// kubectl, as an administrator of the cluster
    Kubectl {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Give every node an image of this program
    Image {
        #[command(flatten)]
        name: cluster::Name,
        /// The program; its libraries come with it
        program: PathBuf,
        /// What manifests call the image
        image: String,
    },
    #[command(hide = true)]
    World(world::WorldArgs),
    #[command(hide = true)]
    Node(node::NodeArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let done = match verb {
        Verb::Up(args) => runtime::process::run("up", Threads::Current, |_| async { Ok(cluster::up(args).await?) }),
        Verb::Down(name) => {
            runtime::process::run("down", Threads::Current, |_| async { Ok(cluster::down(&name).await?) })
        }
        Verb::Kubectl { args } => return cluster::kubectl(&args),
        Verb::Image { name, program, image } => runtime::process::run("image", Threads::Current, |_| async {
            Ok(cluster::add_image(&name, &program, &image).await?)
        }),
        Verb::World(args) => {
            runtime::process::run("world", Threads::Current, |shutdown| async { Ok(world::run(args, shutdown).await?) })
        }
        Verb::Node(args) => {
            runtime::process::run("node", Threads::Current, |shutdown| async { Ok(node::run(args, shutdown).await?) })
        }
    };
    done.map_err(|error| anyhow::anyhow!(error))?;
    Ok(ExitCode::SUCCESS)
}
