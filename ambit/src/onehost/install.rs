//! What a mesh consists of, applied through the API as any installer would, and the wait until it runs.

use crate::wait::until;
use anyhow::{Context, Result};
use api::{DaemonSet, Deployment, Node, Pod, Resource};
use cluster::{Client, Scope};
use serde_json::Value;

const MANAGER: &str = "ambit-up";

const PLATFORM: &str = include_str!("../../manifests/platform.yaml");
const MESH: [&str; 3] = [
    include_str!("../../manifests/istiod.yaml"),
    include_str!("../../manifests/cni.yaml"),
    include_str!("../../manifests/ztunnel.yaml"),
];

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Control plane, node agent and node proxy
    Ambient,
    /// Nodes and DNS alone
    Empty,
}

impl Profile {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ambient => "ambient",
            Self::Empty => "empty",
        }
    }
}

/// Installs and waits; `report` hears of each step.
pub(super) async fn run(
    client: &Client,
    nodes: &[String],
    profile: Profile,
    report: &mut impl FnMut(&str),
) -> Result<()> {
    until("the API to answer", async || client.server_version().await.map(drop).map_err(|e| e.to_string())).await?;
    report("the API answers");
    let mut objects = if profile == Profile::Ambient { api::crds() } else { Vec::new() };
    objects.extend(documents(PLATFORM)?);
    if profile == Profile::Ambient {
        for manifest in MESH {
            objects.extend(documents(manifest)?);
        }
    }
    client.apply_manifests(objects, MANAGER, "default").await.context("installing")?;
    until("the nodes to be ready", async || nodes_ready(client, nodes).await).await?;
    report(&format!("nodes ready: {}", nodes.join(" ")));
    let mut workloads = vec![("Deployment", "kube-system", "coredns")];
    if profile == Profile::Ambient {
        workloads.push(("Deployment", "istio-system", "istiod"));
        workloads.push(("DaemonSet", "istio-system", "istio-cni-node"));
        workloads.push(("DaemonSet", "istio-system", "ztunnel-keeper"));
        workloads.push(("DaemonSet", "istio-system", "ztunnel"));
    }
    for (kind, namespace, name) in workloads {
        until(&format!("{kind} {namespace}/{name} to be ready"), async || {
            workload_ready(client, kind, namespace, name).await
        })
        .await?;
        report(&format!("{name} ready"));
    }
    Ok(())
}

/// The documents of a manifest of ours.
pub(crate) fn documents(manifest: &str) -> Result<Vec<Value>> {
    api::yaml::read_documents(manifest.as_bytes()).context("reading a built-in manifest")
}

async fn nodes_ready(client: &Client, names: &[String]) -> Result<(), String> {
    let nodes = client.list::<Node>(&Scope::all()).await.map_err(|error| error.to_string())?;
    for name in names {
        let node = nodes.iter().find(|node| node.name() == name).ok_or_else(|| format!("{name} has not registered"))?;
        let ready = node.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        if !ready {
            return Err(format!("{name} is not ready"));
        }
    }
    Ok(())
}

async fn workload_ready(client: &Client, kind: &str, namespace: &str, name: &str) -> Result<(), String> {
    let (ready, wanted) = if kind == "DaemonSet" {
        let set: DaemonSet = client.get(namespace, name).await.map_err(|error| error.to_string())?;
        let seen = set.status.observed_generation >= set.metadata.generation;
        (set.status.number_ready, if seen { set.status.desired_number_scheduled } else { i32::MAX })
    } else {
        let deployment: Deployment = client.get(namespace, name).await.map_err(|error| error.to_string())?;
        (deployment.status.ready_replicas, deployment.spec.replicas.unwrap_or(1))
    };
    if ready >= wanted && ready > 0 {
        return Ok(());
    }
    Err(format!("{ready} ready; {}", unready_pods(client, namespace, name).await))
}

/// What pods of a workload that are not ready say of themselves.
async fn unready_pods(client: &Client, namespace: &str, name: &str) -> String {
    let pods = client.list::<Pod>(&Scope::namespace(namespace)).await.unwrap_or_default();
    let told: Vec<String> = pods
        .iter()
        .filter(|pod| pod.name().starts_with(name) && !is_ready(pod))
        .map(|pod| format!("{} is {}", pod.name(), state(pod)))
        .collect();
    if told.is_empty() { "no pod tells more".to_owned() } else { told.join(", ") }
}

/// Whether a pod serves.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// A pod's phase, or why a container of it waits.
fn state(pod: &Pod) -> String {
    let waiting = pod.status.container_statuses.iter().find_map(|status| status.state.waiting.as_ref());
    match waiting {
        Some(waiting) => format!("waiting: {} {}", waiting.reason, waiting.message).trim().to_owned(),
        None if pod.status.phase.is_empty() => "unknown".to_owned(),
        None => pod.status.phase.clone(),
    }
}

/// Prints every pod on a line.
pub(super) async fn show_pods(client: &Client) -> Result<()> {
    println!();
    for pod in client.list::<Pod>(&Scope::all()).await? {
        let restarts: i32 = pod.status.container_statuses.iter().map(|status| status.restart_count).sum();
        let ready = if is_ready(&pod) { "ready".to_owned() } else { state(&pod) };
        let name = format!("{}/{}", pod.namespace(), pod.name());
        println!("{name:<48} {:<4} {:<15} {ready}, {restarts} restarts", pod.spec.node_name, pod.status.pod_ip);
    }
    Ok(())
}
