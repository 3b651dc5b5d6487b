//! The one-host platform: what a Kubernetes cluster does below a mesh, for one Linux machine.
//!
//! `node` is the kubelet of one node (pods as processes in network namespaces, the kubelet's HTTP endpoint, service
//! routing), `controllers` are the scheduler and the workload controllers, `dns` is the cluster DNS of pods outside the
//! mesh, `cni` is the base plugin of the pod network, and [`app`] is a demo application. All of them meet in the
//! Kubernetes API only, through `cluster`; nothing here knows the mesh.

pub mod app;
mod cni;
mod controllers;
mod dns;
#[cfg(test)]
mod lab;
mod node;
mod pause;
mod service;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Name of the base CNI plugin: the file name under which the binary acts as `host cni`.
pub const CNI_PLUGIN: &str = "ambit-ptp";

/// Which part of the platform to be.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Kubelet and service routing of one node
    Node(node::Args),
    /// Scheduler and workload controllers
    Controllers(controllers::Args),
    /// Cluster DNS
    Dns(dns::Args),
    /// Hold a pod's network namespace
    Pause(pause::Args),
    /// Base CNI plugin: reads its request from the environment and standard input
    Cni,
}

impl Args {
    /// What a binary called by the name [`CNI_PLUGIN`] does.
    pub const fn cni_plugin() -> Self {
        Self { part: Part::Cni }
    }
}

/// Runs one part of the platform until it is done or told to stop.
pub fn main(args: Args) -> Result<(), AnyError> {
    match args.part {
        Part::Node(args) => node::main(args),
        Part::Controllers(args) => controllers::main(args),
        Part::Dns(args) => dns::main(args),
        Part::Pause(args) => pause::main(&args),
        Part::Cni => cni::main(),
    }
}
