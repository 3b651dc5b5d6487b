//! The world of a one-host mesh: process 1 of a PID namespace, in mount and network namespaces of its own.
//!
//! It lays out the hub and the nodes, starts the platform's processes and restarts those that end. When it ends — by
//! order, or because `up` was killed — the kernel ends every process in it, and with them every namespace, link, rule
//! and mount. Nothing needs to be cleaned up, so nothing can be left behind.

use super::{layout, network};
use anyhow::{Context, Result};
use linux::{
    mount::{self, MountNs},
    netns::NetNs,
    process::{self, Child, Command, Place},
};
use nix::sys::signal::Signal;
use runtime::{backoff::Backoff, process::Shutdown};
use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// Where things of this mesh are in its world's mount namespace; below `/opt`, because nodes have a `/run` each.
pub(crate) const BINARY: &str = "/opt/ambit/bin/ambit";
pub(crate) const PKI: &str = "/opt/ambit/pki";
const LOGS: &str = "/opt/ambit/logs";
const STATE: &str = "/opt/ambit/state";

/// How long ended children have after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// The world, as `up` describes it.
#[derive(Debug, clap::Args)]
pub(crate) struct WorldArgs {
    #[arg(long)]
    nodes: u8,
    /// Descriptor of the API's listener in the machine's network namespace
    #[arg(long)]
    api_listener: i32,
}

/// Folders that are shown to the world.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) binary: PathBuf,
    pub(crate) pki: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) state: Option<PathBuf>,
}

/// Prepares the world's mount namespace; runs in it, before the world's first process starts.
pub(crate) fn mounts(folders: &Folders) -> linux::Result<()> {
    mount::make_private()?;
    mount::shadow("/opt")?;
    mount::bind(&folders.binary, BINARY)?;
    mount::bind(&folders.pki, PKI)?;
    mount::bind(&folders.logs, LOGS)?;
    match &folders.state {
        Some(state) => mount::bind(state, STATE)?,
        // Memory of the world, not of the API's process: objects outlive a crash of it.
        None => fs::create_dir_all(STATE).map_err(|error| linux::Error::new(format!("create {STATE}"), error))?,
    }
    for dir in ["/etc", "/var", "/var/lib", "/var/log"] {
        mount::shadow(dir)?;
    }
    mount::tmpfs("/run", 0o755)?;
    no_name_servers()
}

/// Nothing in a world leads outside, so the machine's name servers would only be waited for.
fn no_name_servers() -> linux::Result<()> {
    const EMPTY: &str = "/opt/ambit/resolv.conf";
    fs::write(EMPTY, "# no name server can be reached from here\n")
        .map_err(|error| linux::Error::new(format!("write {EMPTY}"), error))?;
    mount::bind(EMPTY, "/etc/resolv.conf")
}

/// What differs from node to node: the places where a kubelet, a CNI agent and a node proxy keep their things.
fn node_mounts() -> linux::Result<()> {
    const PLACES: [&str; 7] =
        ["/run", "/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"];
    mount::make_private()?;
    for place in PLACES {
        fs::create_dir_all(place).map_err(|error| linux::Error::new(format!("create {place}"), error))?;
        mount::tmpfs(place, 0o755)?;
    }
    Ok(())
}

pub(crate) fn main(args: WorldArgs) -> Result<(), runtime::BoxError> {
    runtime::process::run("world", runtime::process::Threads::Current, |shutdown| async move {
        world(args, shutdown).await.map_err(Into::into)
    })
}

async fn world(args: WorldArgs, shutdown: Shutdown) -> Result<()> {
    let hub = NetNs::current()?;
    network::make_hub(&hub)?;
    let listener = linux::inherited_fd(args.api_listener)?;
    let mut roles = vec![Role::apiserver(listener), Role::controllers()];
    for node in layout::nodes(args.nodes) {
        let namespace = network::make_node(&hub, &node)?;
        roles.push(Role::node(&node, namespace));
    }
    let mut keepers = tokio::task::JoinSet::new();
    for role in roles {
        keepers.spawn(role.keep(shutdown.clone()));
    }
    tokio::select! {
        () = shutdown.triggered() => {}
        ended = process::reap_orphans() => ended?,
    }
    // Children end by SIGTERM in `keep`; whatever is left dies with this process.
    let _all = tokio::time::timeout(GRACE, keepers.join_all()).await;
    Ok(())
}

/// One process of the platform, restarted whenever it ends.
struct Role {
    name: String,
    args: Vec<String>,
    listener: Option<OwnedFd>,
    namespace: Option<NetNs>,
}

impl Role {
    fn apiserver(listener: OwnedFd) -> Self {
        let listen = format!("{}:{}", layout::HUB, layout::API_PORT);
        let args = [
            "apiserver",
            "--pki",
            PKI,
            "--listen",
            &listen,
            "--listen-fd",
            "3",
            "--state",
            STATE,
            "--advertise-address",
            &layout::HUB.to_string(),
        ];
        Self { name: "apiserver".into(), args: strings(&args), listener: Some(listener), namespace: None }
    }

    fn controllers() -> Self {
        let kubeconfig = format!("{PKI}/controllers.kubeconfig");
        let args = ["host", "controllers", "--kubeconfig", &kubeconfig];
        Self { name: "controllers".into(), args: strings(&args), listener: None, namespace: None }
    }

    fn node(node: &layout::Node, namespace: NetNs) -> Self {
        let kubeconfig = format!("{PKI}/{}.kubeconfig", node.name);
        let args = [
            "host",
            "node",
            "--name",
            &node.name,
            "--address",
            &node.address.to_string(),
            "--pod-range",
            &node.pod_range.to_string(),
            "--cluster-dns",
            &layout::DNS_SERVICE.to_string(),
            "--kubeconfig",
            &kubeconfig,
        ];
        Self { name: node.name.clone(), args: strings(&args), listener: None, namespace: Some(namespace) }
    }

    /// Runs the process until shutdown; each early end is written to the world's log and followed by another start.
    async fn keep(self, shutdown: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let started = Instant::now();
            match self.start().await {
                Ok(mut child) => tokio::select! {
                    ended = child.wait() => tracing::warn!(process = self.name, ended = ?ended, "ended, starting it again"),
                    () = shutdown.triggered() => return end(child).await,
                },
                Err(error) => tracing::error!(process = self.name, error = format!("{error:#}"), "cannot be started"),
            }
            if started.elapsed() > Duration::from_secs(30) {
                backoff.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = shutdown.triggered() => return,
            }
        }
    }

    async fn start(&self) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(Path::new(LOGS).join(format!("{}.log", self.name)))
            .with_context(|| format!("opening the log of {}", self.name))?;
        let mut command = Command::new(BINARY)
            .args(&self.args)
            .stdio(Stdio::null(), log.try_clone()?.into(), log.into())
            .die_with_parent();
        if let Some(listener) = &self.listener {
            command = command.pass_fd(listener.try_clone()?, 3);
        }
        if let Some(namespace) = &self.namespace {
            command =
                command.net(namespace.clone()).mount(Place::<MountNs>::New).hostname(&self.name).set_up(node_mounts);
        }
        Ok(command.spawn()?)
    }
}

async fn end(mut child: Child) {
    let _gone = child.signal(Signal::SIGTERM);
    let _ended = tokio::time::timeout(GRACE, child.wait()).await;
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
