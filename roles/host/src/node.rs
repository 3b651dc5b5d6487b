//! `host node`: the kubelet and the service routing of one node.
//!
//! It runs inside the node's network and mount namespaces, registers the node, runs the pods that are bound to it and
//! answers the API server on the kubelet's port. [`pod`] is the life of one pod; what it needs is decided in small pure
//! parts ([`state`], [`status`], [`environment`], [`volumes`], [`resolve`], [`probe`]). When this process ends, so do
//! its pods, and the next one starts them anew: a pod's processes are children of its node.

mod chain;
mod container;
mod context;
mod environment;
mod fields;
mod image;
mod log;
pub(crate) mod network;
mod objects;
mod pod;
mod prepare;
mod probe;
mod register;
mod resolve;
mod sandbox;
mod server;
mod state;
mod status;
mod volumes;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::{EndpointSlice, Node, Pod, Resource, Service};
use cluster::{Change, Client, Recorder, Scope, Source, Store};
use runtime::{Shutdown, Threads};
use tokio::sync::watch;

use crate::AnyError;
use crate::service::{routing, ruleset};
use context::{Context, Registry};

/// How a node is called and where its parts are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the node
    #[arg(long, env = "NODE_NAME")]
    name: String,
    /// Address of the node; by default the first of its interfaces' that others can reach
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// Addresses of the node's pods
    #[arg(long)]
    pod_range: ipnet::Ipv4Net,
    /// Addresses of services; the first is that of the API
    #[arg(long, default_value = "10.96.0.0/16")]
    service_range: ipnet::Ipv4Net,
    /// Address of the cluster DNS; may be given again
    #[arg(long = "cluster-dns", default_value = "10.96.0.10")]
    cluster_dns: Vec<IpAddr>,
    /// Domain of cluster names
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Folder of running pods
    #[arg(long, default_value = "/var/lib/kubelet")]
    state: PathBuf,
    /// Folder of containers' logs
    #[arg(long, default_value = "/var/log/pods")]
    logs: PathBuf,
    /// Folder of network configurations
    #[arg(long, default_value = "/etc/cni/net.d")]
    cni_config: PathBuf,
    /// Folder of network plugins
    #[arg(long, default_value = "/opt/cni/bin")]
    cni_binaries: PathBuf,
    /// How to reach the API; by default as any client does
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

/// Runs the node until it is told to stop.
pub(crate) fn main(args: Args) -> Result<(), AnyError> {
    let _log = telemetry::log::init_from_env()?;
    runtime::run("node", Threads::Many(2), |shutdown| run(args, shutdown))
}

async fn run(args: Args, shutdown: Shutdown) -> Result<(), AnyError> {
    let own = network::own_address()?.ok_or("the node has no address yet; give its interface one first")?;
    let address = args.address.unwrap_or(own.1);
    network::set_up(own.0, address, args.service_range.into())?;
    let context = Arc::new(context(&args, address).await?);
    install_network(&context, &args)?;
    sandbox::sweep(&context).await;
    let server = server::bind(context.clone()).await?;
    runtime::task::spawn("kubelet endpoint", server::serve(server, context.clone()));
    runtime::task::spawn("node registration", register::run(context.clone(), args.pod_range.to_string()));
    let nodes: Store<Node> = context.client.watch(Scope::all());
    runtime::task::spawn("ways to pods", follow_nodes(nodes, context.name.clone()));
    let services = context.client.watch(Scope::all());
    let slices = context.client.watch(Scope::all());
    runtime::task::spawn("service routing", follow_services(services, slices, context.name.clone(), address));
    tokio::select! {
        () = run_pods(context.clone()) => {}
        () = shutdown.triggered() => {}
    }
    tracing::info!(pods = context.running.len(), "node stops, and its pods with it");
    Ok(ruleset::remove()?)
}

async fn context(args: &Args, address: Ipv4Addr) -> Result<Context, AnyError> {
    let source = match &args.kubeconfig {
        Some(path) => Source::Kubeconfig { path: Some(path.clone()), context: None },
        None => Source::Infer,
    };
    let client = Client::connect(&source).await?;
    let api = args.service_range.hosts().next().unwrap_or_else(|| args.service_range.addr());
    let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    Ok(Context {
        name: args.name.clone(),
        address: address.into(),
        ambit: std::env::current_exe()?,
        state: args.state.clone(),
        logs: args.logs.clone(),
        cni_config: args.cni_config.clone(),
        cni_binaries: args.cni_binaries.clone(),
        cluster_dns: args.cluster_dns.clone(),
        domain: args.cluster_domain.clone(),
        resolver: resolve::Resolver::parse(&resolver),
        api: (api.to_string(), 443),
        recorder: Recorder::new(client.clone(), "kubelet", &args.name),
        client,
        running: Registry::default(),
    })
}

/// Puts the base plugin in its place, and its configuration where there is none.
fn install_network(context: &Context, args: &Args) -> Result<(), AnyError> {
    let said =
        |path: &Path, error: std::io::Error| format!("cannot install the base network in {}: {error}", path.display());
    for folder in [&context.cni_config, &context.cni_binaries, &context.state, &context.logs] {
        std::fs::create_dir_all(folder).map_err(|error| said(folder, error))?;
    }
    let plugin = context.cni_binaries.join(crate::CNI_PLUGIN);
    if std::fs::symlink_metadata(&plugin).is_err() {
        std::os::unix::fs::symlink(&context.ambit, &plugin).map_err(|error| said(&plugin, error))?;
    }
    if chain::load(&context.cni_config).is_ok() {
        return Ok(());
    }
    let path = context.cni_config.join("10-ambit.conflist");
    let list = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "ambit",
        "plugins": [{ "type": crate::CNI_PLUGIN, "podRange": args.pod_range, "mtu": 1500 }],
    });
    let text = serde_json::to_vec_pretty(&list)?;
    Ok(std::fs::write(&path, text).map_err(|error| said(&path, error))?)
}

/// One task per pod of this node. A pod of the same name is another pod if its uid is another.
async fn run_pods(context: Arc<Context>) {
    let pods: Store<Pod> = context.client.watch(Scope::all().fields(format!("spec.nodeName={}", context.name)));
    let mut changes = pods.changes();
    let mut lives: HashMap<String, watch::Sender<pod::Update>> = HashMap::new();
    let mut uids: HashMap<(String, String), String> = HashMap::new();
    loop {
        match changes.next().await {
            Change::Applied(pod) => {
                let uid = pod.metadata.uid.clone();
                let before = uids.insert((pod.namespace().to_owned(), pod.name().to_owned()), uid.clone());
                if let Some(before) = before.filter(|before| *before != uid)
                    && let Some(life) = lives.remove(&before)
                {
                    life.send_replace(None);
                }
                match lives.get(&uid) {
                    Some(life) => drop(life.send_replace(Some(pod))),
                    None => lives.extend(start(&context, pod).map(|life| (uid, life))),
                }
            }
            Change::Deleted(pod) => {
                uids.remove(&(pod.namespace().to_owned(), pod.name().to_owned()));
                if let Some(life) = lives.remove(&pod.metadata.uid) {
                    life.send_replace(None);
                }
            }
            Change::Rejected(rejected) => tracing::warn!(pod = %rejected.key, error = %rejected.error, "pod not run"),
            Change::Withdrawn(key) => tracing::debug!(pod = %key, "a pod that could not be read is gone"),
            Change::Synced => tracing::debug!("all pods of the node seen"),
        }
    }
}

/// Starts a pod's task; one that is over and not to be deleted needs none.
fn start(context: &Arc<Context>, pod: Arc<Pod>) -> Option<watch::Sender<pod::Update>> {
    if pod.is_terminal() && pod.metadata.deletion_timestamp.is_none() {
        return None;
    }
    let (life, updates) = watch::channel(Some(pod.clone()));
    runtime::task::spawn("pod", pod::run(context.clone(), pod, updates));
    Some(life)
}

/// How long to gather changes before acting on them all at once.
const GATHER: Duration = Duration::from_millis(20);

async fn follow_nodes(nodes: Store<Node>, own: String) {
    let mut version = nodes.version();
    let mut known = BTreeSet::new();
    loop {
        let list = nodes.list();
        let wanted = network::ways(list.iter().map(AsRef::as_ref), &own);
        match network::follow(&known, &wanted) {
            Ok(()) => known = wanted,
            Err(error) => tracing::warn!(%error, "ways to other nodes' pods are not up to date"),
        }
        if version.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_services(services: Store<Service>, slices: Store<EndpointSlice>, node: String, address: Ipv4Addr) {
    let (mut service_version, mut slice_version) = (services.version(), slices.version());
    let mut applied = None;
    services.synced().await;
    slices.synced().await;
    loop {
        service_version.mark_unchanged();
        slice_version.mark_unchanged();
        let (all_services, all_slices) = (services.list(), slices.list());
        let wanted =
            routing::routing(all_services.iter().map(AsRef::as_ref), all_slices.iter().map(AsRef::as_ref), &node);
        if applied.as_ref() != Some(&wanted) {
            match ruleset::apply(&wanted, address) {
                Ok(()) => applied = Some(wanted),
                Err(error) => tracing::warn!(%error, "service routing is not up to date"),
            }
        }
        tokio::select! {
            _ = service_version.changed() => {}
            _ = slice_version.changed() => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}
