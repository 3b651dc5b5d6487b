//! `host controllers`: the scheduler and the workload controllers, each a loop around a pure decision.
//!
//! Every loop looks at the whole of what it needs whenever any of it changed, decides, and acts; what it did comes back as
//! a change. Stores lag behind our own writes, so each loop remembers what it has just done until it sees it:
//! otherwise it would do it twice.

mod apply;
mod daemon_set;
mod deployment;
mod endpoints;
mod namespaces;
mod pending;
mod replica_set;
mod rollout;
mod scheduling;

use std::path::PathBuf;

use cluster::{Client, Scope, Source, Store};
use runtime::{Shutdown, Threads};

use crate::AnyError;

/// How the controllers reach the API.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to reach the API; by default as any client does
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The API's certificate authority, given to every namespace as ConfigMap kube-root-ca.crt; by default that of the
    /// kubeconfig
    #[arg(long)]
    root_certificate: Option<PathBuf>,
}

/// Runs all controllers until told to stop.
pub(crate) fn main(args: Args) -> Result<(), AnyError> {
    let _log = telemetry::log::init_from_env()?;
    runtime::run("controllers", Threads::Many(2), |shutdown| run(args, shutdown))
}

/// What the controllers see of the cluster.
#[derive(Debug, Clone)]
struct View {
    client: Client,
    pods: Store<api::Pod>,
    nodes: Store<api::Node>,
    deployments: Store<api::Deployment>,
    replica_sets: Store<api::ReplicaSet>,
    daemon_sets: Store<api::DaemonSet>,
    services: Store<api::Service>,
    slices: Store<api::EndpointSlice>,
    namespaces: Store<api::Namespace>,
    leases: Store<api::Lease>,
}

impl View {
    fn open(client: Client) -> Self {
        Self {
            pods: client.watch(Scope::all()),
            nodes: client.watch(Scope::all()),
            deployments: client.watch(Scope::all()),
            replica_sets: client.watch(Scope::all()),
            daemon_sets: client.watch(Scope::all()),
            services: client.watch(Scope::all()),
            slices: client.watch(Scope::all()),
            namespaces: client.watch(Scope::all()),
            leases: client.watch(Scope::namespace("kube-node-lease")),
            client,
        }
    }

    /// Decisions made from a half-seen cluster would create what exists already.
    async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.daemon_sets.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        self.namespaces.synced().await;
    }
}

async fn run(args: Args, shutdown: Shutdown) -> Result<(), AnyError> {
    let source = match &args.kubeconfig {
        Some(path) => Source::Kubeconfig { path: Some(path.clone()), context: None },
        None => Source::Infer,
    };
    let view = View::open(Client::connect(&source).await?);
    let root = namespaces::root_certificate(args.root_certificate.as_deref(), args.kubeconfig.as_deref()).await?;
    runtime::task::spawn("namespaces", namespaces::run(view.clone(), root));
    view.synced().await;
    tracing::info!("controllers run");
    runtime::task::spawn("scheduler", apply::schedule(view.clone()));
    runtime::task::spawn("deployments", apply::deployments(view.clone()));
    runtime::task::spawn("replica sets", apply::replica_sets(view.clone()));
    runtime::task::spawn("daemon sets", apply::daemon_sets(view.clone()));
    runtime::task::spawn("endpoint slices", apply::endpoint_slices(view.clone()));
    runtime::task::spawn("node lifecycle", apply::node_lifecycle(view.clone()));
    shutdown.triggered().await;
    Ok(())
}
