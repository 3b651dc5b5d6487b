//! The cluster as one process tree: process 1 of a PID namespace, in the hub's network namespace.
//!
//! It lays the links, runs the control plane and starts the nodes. Killing it ends the cluster: no process, namespace,
//! link or mount can outlive it.

use crate::{
    layout::{API_PORT, Folders, HUB, HUB_PREFIX, Node, SERVICES},
    node,
    process::{Service, Services},
};
use anyhow::{Context, Result};
use ipnet::IpNet;
use linux::{
    mount::{self, MountNs},
    netlink::{Netlink, Route, VethEnd},
    netns::NetNs,
    process::{Command, Place},
    sysctl,
};
use runtime::{process::Shutdown, task};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::Stdio,
};

const BRIDGE: &str = "hub0";

/// What the cluster's first process is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WorldArgs {
    #[arg(long)]
    pub(crate) cluster: String,
    #[arg(long)]
    pub(crate) nodes: u8,
    #[arg(long)]
    pub(crate) kubernetes: PathBuf,
    #[arg(long)]
    pub(crate) images: PathBuf,
    #[arg(long)]
    pub(crate) cni: String,
    /// Descriptor of the API's listener in the machine's network namespace
    #[arg(long)]
    pub(crate) listener: i32,
}

impl WorldArgs {
    /// The words by which another process is told the same.
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["world".into()];
        let (nodes, listener) = (self.nodes.to_string(), self.listener.to_string());
        let told: [(&str, &OsStr); 6] = [
            ("--cluster", self.cluster.as_ref()),
            ("--nodes", nodes.as_ref()),
            ("--kubernetes", self.kubernetes.as_ref()),
            ("--images", self.images.as_ref()),
            ("--cni", self.cni.as_ref()),
            ("--listener", listener.as_ref()),
        ];
        for (name, value) in told {
            words.extend([name.into(), value.to_owned()]);
        }
        words
    }
}

/// Prepares the world's mount namespace: what nodes create below these folders stays off the machine.
pub(crate) fn mounts() -> linux::Result<()> {
    mount::make_private()?;
    for folder in ["/etc", "/opt", "/var", "/var/lib", "/var/log"] {
        mount::shadow(folder)?;
    }
    Ok(())
}

/// The cluster's first process.
pub(crate) async fn run(args: WorldArgs, shutdown: Shutdown) -> Result<()> {
    let folders = Folders::new(&args.cluster)?;
    let hub = NetNs::current()?;
    lay_hub(&hub)?;
    let services = Services::new(folders.logs(), shutdown.clone());
    for service in control_plane(&args, &folders) {
        services.start(service);
    }
    for node in Node::all(args.nodes) {
        let namespace = lay_node(&hub, node, args.nodes)?;
        start_node(&args, &folders, node, namespace).with_context(|| format!("starting node {}", node.name()))?;
    }
    let listener = std::net::TcpListener::from(linux::inherited_fd(args.listener)?);
    listener.set_nonblocking(true)?;
    task::spawn("api forwarding", forward(tokio::net::TcpListener::from_std(listener)?));
    tokio::select! {
        () = shutdown.triggered() => {}
        ended = linux::process::reap_orphans() => ended?,
    }
    Ok(())
}

fn lay_hub(hub: &NetNs) -> Result<()> {
    let mut links = Netlink::open(hub)?;
    up(&mut links, "lo")?;
    let bridge = links.create_bridge(BRIDGE, None)?;
    links.add_address(bridge, IpNet::new(IpAddr::V4(HUB), HUB_PREFIX)?)?;
    links.set_up(bridge)?;
    sysctl::write(hub, "net.ipv4.ip_forward", "1")?;
    Ok(())
}

/// Links a node to the hub, and teaches everyone where whose pods are.
fn lay_node(hub: &NetNs, node: Node, nodes: u8) -> Result<NetNs> {
    let namespace = NetNs::new_anonymous()?;
    let end = |name| VethEnd { name, mac: None };
    let mut links = Netlink::open(hub)?;
    let port = links.create_veth(&end(&format!("to-{}", node.name())), &end("eth0"), &namespace, 1500)?;
    let bridge = links.link(BRIDGE)?.index;
    links.set_master(port, Some(bridge))?;
    links.set_up(port)?;
    links.add_route(&Route::to(IpNet::V4(node.pods())).via(IpAddr::V4(node.address())))?;

    let mut links = Netlink::open(&namespace)?;
    up(&mut links, "lo")?;
    let eth0 = links.link("eth0")?.index;
    links.add_address(eth0, IpNet::new(IpAddr::V4(node.address()), HUB_PREFIX)?)?;
    links.set_up(eth0)?;
    let everything = IpNet::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)?;
    links.add_route(&Route::to(everything).via(IpAddr::V4(HUB)))?;
    for other in Node::all(nodes).filter(|other| *other != node) {
        links.add_route(&Route::to(IpNet::V4(other.pods())).via(IpAddr::V4(other.address())))?;
    }
    Ok(namespace)
}

fn up(links: &mut Netlink, name: &str) -> Result<()> {
    let index = links.link(name)?.index;
    Ok(links.set_up(index)?)
}

fn start_node(args: &WorldArgs, folders: &Folders, node: Node, namespace: NetNs) -> Result<()> {
    let folder = folders.node(node);
    std::fs::create_dir_all(&folder)?;
    let log = File::create(folders.logs().join(format!("{}.log", node.name())))?;
    let command = Command::new(std::env::current_exe()?)
        .args(["node", "--cluster", &args.cluster, "--number", &node.0.to_string(), "--cni", &args.cni])
        .args(["--kubernetes"])
        .args([&args.kubernetes])
        .args(["--images"])
        .args([&args.images])
        .stdio(Stdio::null(), log.try_clone()?.into(), log.into())
        .net(namespace)
        .mount(Place::<MountNs>::New)
        .new_pid_namespace()
        .mount_proc()
        .hostname(node.name())
        .die_with_parent();
    let mut child = command.set_up(move || node::mounts(&folder)).spawn()?;
    let name = node.name();
    task::spawn("node", async move {
        let ended = child.wait().await;
        tracing::error!(node = name, ?ended, "the node's first process ended");
    });
    Ok(())
}

fn control_plane(args: &WorldArgs, folders: &Folders) -> [Service; 4] {
    let pki = |name: &str| folders.pki().join(name);
    let component = |name: &str| Service::new(name, &args.kubernetes).arg(name);
    let etcd = component("etcd")
        .flag("name", "etcd")
        .flag("data-dir", folders.etcd())
        .arg("--unsafe-no-fsync")
        .flag("log-level", "warn")
        .flag("listen-client-urls", "http://127.0.0.1:2379")
        .flag("advertise-client-urls", "http://127.0.0.1:2379")
        .flag("listen-peer-urls", "http://127.0.0.1:2380")
        .flag("initial-advertise-peer-urls", "http://127.0.0.1:2380")
        .flag("initial-cluster", "etcd=http://127.0.0.1:2380");
    let with_kubeconfig = |name: &str| {
        let file = pki(&format!("{name}.kubeconfig"));
        component(name)
            .flag("kubeconfig", &file)
            .flag("authentication-kubeconfig", &file)
            .flag("authorization-kubeconfig", &file)
            .flag("bind-address", "127.0.0.1")
            .flag("leader-elect", "false")
    };
    let controllers = with_kubeconfig("kube-controller-manager")
        .flag("use-service-account-credentials", "true")
        .flag("service-account-private-key-file", pki("accounts.key"))
        .flag("root-ca-file", pki("ca.crt"))
        .flag("cluster-signing-cert-file", pki("ca.crt"))
        .flag("cluster-signing-key-file", pki("ca.key"))
        .flag("service-cluster-ip-range", SERVICES)
        .flag("allocate-node-cidrs", "false")
        // Those that need a cloud.
        .flag("controllers", "*,-nodeipam,-cloud-node-lifecycle,-node-route-controller,-service-lb-controller");
    [etcd, apiserver(component("kube-apiserver"), folders), controllers, with_kubeconfig("kube-scheduler")]
}

fn apiserver(service: Service, folders: &Folders) -> Service {
    let pki = |name: &str| folders.pki().join(name);
    service
        .flag("etcd-servers", "http://127.0.0.1:2379")
        .flag("advertise-address", HUB.to_string())
        .flag("secure-port", API_PORT.to_string())
        .flag("service-cluster-ip-range", SERVICES)
        .flag("allow-privileged", "true")
        .flag("authorization-mode", "Node,RBAC")
        .flag("enable-admission-plugins", "NodeRestriction")
        .flag("client-ca-file", pki("ca.crt"))
        .flag("tls-cert-file", pki("apiserver.crt"))
        .flag("tls-private-key-file", pki("apiserver.key"))
        .flag("kubelet-client-certificate", pki("kubelet-client.crt"))
        .flag("kubelet-client-key", pki("kubelet-client.key"))
        .flag("kubelet-certificate-authority", pki("ca.crt"))
        .flag("kubelet-preferred-address-types", "InternalIP")
        .flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local")
        .flag("service-account-key-file", pki("accounts.crt"))
        .flag("service-account-signing-key-file", pki("accounts.key"))
        .flag("requestheader-client-ca-file", pki("front-proxy-ca.crt"))
        .flag("requestheader-allowed-names", "front-proxy-client")
        .flag("requestheader-username-headers", "X-Remote-User")
        .flag("requestheader-group-headers", "X-Remote-Group")
        .flag("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .flag("proxy-client-cert-file", pki("front-proxy.crt"))
        .flag("proxy-client-key-file", pki("front-proxy.key"))
        // Webhooks are called at pod addresses, which the hub can reach; it has no kube-proxy.
        .flag("enable-aggregator-routing", "true")
        .flag("endpoint-reconciler-type", "lease")
        .flag("profiling", "false")
}

/// Carries connections from the machine's port to the API.
async fn forward(listener: tokio::net::TcpListener) {
    loop {
        let Ok((mut from, _)) = listener.accept().await else { continue };
        task::spawn("api connection", async move {
            if let Ok(mut to) = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, API_PORT)).await {
                let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            }
        });
    }
}
