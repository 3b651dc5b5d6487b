//! One node: its own view of the machine's folders, its container runtime, kubelet and kube-proxy.
//!
//! The node's first process is this program; when it ends, the kernel ends everything of the node.

use crate::{
    layout::{DNS_SERVICE, Folders, Node, PODS},
    process::{self, Service},
};
use anyhow::{Context, Result, ensure};
use linux::{mount, netns::NetNs, sysctl};
use runtime::process::Shutdown;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// What the node's first process is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NodeArgs {
    #[arg(long)]
    pub(crate) cluster: String,
    #[arg(long)]
    pub(crate) number: u8,
    #[arg(long)]
    pub(crate) kubernetes: PathBuf,
    #[arg(long)]
    pub(crate) images: PathBuf,
    #[arg(long)]
    pub(crate) cni: String,
}

/// Folders that every node has for itself, with the place on disk that is shown there.
const OWN: [(&str, &str); 7] = [
    ("/var/lib/kubelet", "kubelet"),
    ("/var/lib/containerd", "containerd"),
    ("/etc/cni/net.d", "cni-conf"),
    ("/opt/cni/bin", "cni-bin"),
    ("/var/lib/cni", "cni-state"),
    ("/var/log/pods", "log-pods"),
    ("/var/log/containers", "log-containers"),
];

/// Settings of the whole machine that a kubelet writes; on a node they are plain files.
const MACHINE_SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Prepares the node's mount namespace; runs in it, and in the node's network namespace, before its first process.
pub(crate) fn mounts(folder: &Path) -> linux::Result<()> {
    mount::make_private()?;
    // A /sys of this network namespace, with the control groups carried over; sharing starts only afterwards, or the
    // container runtime does not find its hierarchies.
    let groups = folder.join("cgroup");
    mount::bind("/sys/fs/cgroup", &groups)?;
    mount::sysfs("/sys")?;
    mount::bind(&groups, "/sys/fs/cgroup")?;
    mount::unmount(&groups)?;
    mount::make_shared()?;
    mount::tmpfs("/run", 0o755)?;
    for (target, source) in OWN {
        let source = folder.join(source);
        make_folder(&source)?;
        mount::bind(&source, target)?;
    }
    for setting in MACHINE_SETTINGS {
        let plain = folder.join("sysctl").join(setting);
        make_folder(plain.parent().unwrap_or(folder))?;
        fs::write(&plain, "0\n").map_err(|error| linux::Error::new(format!("write {}", plain.display()), error))?;
        mount::bind(&plain, format!("/proc/sys/{setting}"))?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> linux::Result<()> {
    fs::create_dir_all(path).map_err(|error| linux::Error::new(format!("create {}", path.display()), error))
}

/// The node's first process.
pub(crate) async fn run(args: NodeArgs, shutdown: Shutdown) -> Result<()> {
    let node = Node(args.number);
    let folders = Folders::new(&args.cluster)?;
    set_up_network()?;
    for place in ["/run/netns", "/run/containerd", "/run/lock"] {
        fs::create_dir_all(place).with_context(|| format!("creating {place}"))?;
    }
    write_configuration(&folders, node, &args.cni)?;
    let services = process::Services::new(folders.logs(), shutdown.clone());
    services.start(containerd(&folders, node));
    import_images(&args.images).await?;
    services.start(kubelet(&args, &folders, node));
    services.start(kube_proxy(&args, &folders, node));
    tokio::select! {
        () = shutdown.triggered() => {}
        ended = linux::process::reap_orphans() => ended?,
    }
    Ok(())
}

fn set_up_network() -> Result<()> {
    let here = NetNs::current()?;
    for (name, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
    ] {
        sysctl::write(&here, name, value)?;
    }
    Ok(())
}

fn write_configuration(folders: &Folders, node: Node, cni: &str) -> Result<()> {
    let folder = folders.node(node);
    for plugin in ["bridge", "ptp", "host-local", "portmap", "loopback"] {
        let from = Path::new("/usr/lib/cni").join(plugin);
        fs::copy(&from, folder.join("cni-bin").join(plugin))
            .with_context(|| format!("copying the CNI plugin {}", from.display()))?;
    }
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("cni-conf/10-base.conflist", &format!("{:#}\n", conflist(node, cni)))?;
    write("kubelet.yaml", &format!("{:#}\n", kubelet_configuration(folders, node)))?;
    write("containerd.toml", include_str!("containerd.toml"))
}

fn conflist(node: Node, cni: &str) -> serde_json::Value {
    let ipam = json!({
        "type": "host-local",
        "dataDir": "/var/lib/cni/networks",
        "ranges": [[{"subnet": node.pods().to_string()}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let base = match cni {
        "ptp" => json!({"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": ipam}),
        _ => json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
            "mtu": 1500, "ipam": ipam,
        }),
    };
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true});
    json!({"cniVersion": "1.0.0", "name": "base", "plugins": [base, portmap]})
}

fn kubelet_configuration(folders: &Folders, node: Node) -> serde_json::Value {
    let pki = |name: &str| folders.pki().join(name);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki(&format!("{}.crt", node.name())),
        "tlsPrivateKeyFile": pki(&format!("{}.key", node.name())),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}", folders.cgroup(), node.name()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "rotateCertificates": false,
        // Nobody could pull an image again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%",
        },
        // Without CAP_SYS_RESOURCE some limits cannot be set; this makes them matter less.
        "featureGates": {"KubeletInUserNamespace": true},
    })
}

fn containerd(folders: &Folders, node: Node) -> Service {
    let configuration = folders.node(node).join("containerd.toml");
    Service::new(format!("{}-containerd", node.name()), "containerd").arg("--config").arg(configuration)
}

fn kubelet(args: &NodeArgs, folders: &Folders, node: Node) -> Service {
    Service::new(format!("{}-kubelet", node.name()), &args.kubernetes)
        .arg("kubelet")
        .flag("config", folders.node(node).join("kubelet.yaml"))
        .flag("kubeconfig", folders.pki().join(format!("{}.kubeconfig", node.name())))
        .flag("hostname-override", node.name())
        .flag("node-ip", node.address().to_string())
}

fn kube_proxy(args: &NodeArgs, folders: &Folders, node: Node) -> Service {
    let mut service = Service::new(format!("{}-kube-proxy", node.name()), &args.kubernetes)
        .arg("kube-proxy")
        .flag("kubeconfig", folders.pki().join("kube-proxy.kubeconfig"))
        .flag("hostname-override", node.name())
        .flag("proxy-mode", "nftables")
        .flag("cluster-cidr", PODS)
        .flag("oom-score-adj", "0");
    // The connection table's limits belong to the machine.
    for limit in ["max-per-core", "min", "tcp-timeout-established", "tcp-timeout-close-wait"] {
        service = service.flag(&format!("conntrack-{limit}"), "0");
    }
    service
}

/// Gives the container runtime every image in `folder`, as soon as it answers.
async fn import_images(folder: &Path) -> Result<()> {
    let answers = || async {
        let mut ctr = tokio::process::Command::new("ctr");
        ctr.arg("version").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        ctr.status().await.is_ok_and(|status| status.success())
    };
    process::until("the container runtime answers", Duration::from_secs(60), answers).await?;
    let mut images: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    images.sort();
    for image in images {
        let mut ctr = tokio::process::Command::new("ctr");
        let told = ctr.args(["--namespace", "k8s.io", "images", "import"]).arg(&image).output().await?;
        let said = String::from_utf8_lossy(&told.stderr);
        ensure!(told.status.success(), "importing {}: {}", image.display(), said.trim());
    }
    Ok(())
}
