//! What the verbs do: start the world and wait for it, end it, speak to it.

use crate::{
    binaries::{self, Binaries},
    cgroup, image,
    layout::{Folders, Node},
    pki, process,
    world::{self, WorldArgs},
};
use anyhow::{Context, Result, bail, ensure};
use linux::{
    mount::MountNs,
    netns::NetNs,
    process::{Child, Command, Place},
};
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

const LISTENER_FD: i32 = 3;

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Name {
    /// Name of the cluster, one of several on this machine
    #[arg(long, env = "AMBIT_CLUSTER", default_value = "default")]
    name: String,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    name: Name,
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    nodes: u8,
    /// The cluster's own CNI plugin
    #[arg(long, default_value = "bridge", value_parser = ["bridge", "ptp"])]
    cni: String,
    /// Port of the API on this machine; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    api_port: u16,
}

pub(crate) async fn up(args: UpArgs) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "root is needed: nodes are network, mount and process namespaces of this machine"
    );
    let folders = Folders::new(&args.name.name)?;
    ensure!(
        world_of(&folders).is_none(),
        "a cluster of the name {:?} runs already; end it with `cargo xtask cluster down --name {0}`",
        args.name.name
    );
    clear(&folders).await?;
    let binaries = binaries::prepare()?;
    let begun = Instant::now();
    let say = |what: &str| eprintln!("{:>6.1} s  {what}", begun.elapsed().as_secs_f32());
    fs::create_dir_all(folders.logs()).with_context(|| format!("creating {}", folders.logs().display()))?;
    let images = write_images(&folders, &binaries)?;
    for node in Node::all(args.nodes) {
        cgroup::make(&format!("{}/{}", folders.cgroup(), node.name()))?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.api_port))
        .with_context(|| format!("listening on 127.0.0.1:{}; choose another with --api-port", args.api_port))?;
    pki::write(&folders, args.nodes, listener.local_addr()?.port())?;
    let mut world = start_world(&args, &folders, &binaries, &images, listener)?;
    fs::write(folders.pid_file(), world.pid().to_string())?;
    tokio::select! {
        ready = wait_ready(&args, &folders, &binaries, &say) => ready?,
        ended = world.wait() => bail!(
            "the cluster's first process ended ({:?}): {}",
            ended?,
            fs::read_to_string(folders.logs().join("world.log")).unwrap_or_default().trim()
        ),
    }
    println!("export KUBECONFIG={}", folders.kubeconfig().display());
    Ok(())
}

fn write_images(folders: &Folders, binaries: &Binaries) -> Result<PathBuf> {
    let images = folders.root().join("images");
    fs::create_dir_all(&images)?;
    for (file, name, program) in [
        ("pause", "registry.k8s.io/pause:3.10", &binaries.pause),
        ("coredns", "registry.k8s.io/coredns/coredns:v1.13.1", &binaries.coredns),
        ("agnhost", "registry.k8s.io/e2e-test-images/agnhost:2.56", &binaries.agnhost),
    ] {
        let target = format!("/{file}");
        let content = [image::File { source: program.clone(), target: target.clone() }];
        image::write(&images.join(format!("{file}.tar")), name, &[&target], &content)?;
    }
    Ok(images)
}

fn start_world(
    args: &UpArgs,
    folders: &Folders,
    binaries: &Binaries,
    images: &Path,
    listener: TcpListener,
) -> Result<Child> {
    let log = fs::File::create(folders.logs().join("world.log")).context("creating the world's log")?;
    let told = WorldArgs {
        cluster: args.name.name.clone(),
        nodes: args.nodes,
        kubernetes: binaries.kubernetes.clone(),
        images: images.to_owned(),
        cni: args.cni.clone(),
        listener: LISTENER_FD,
    };
    let command = Command::new(std::env::current_exe()?)
        .args(told.to_words())
        .stdio(Stdio::null(), log.try_clone()?.into(), log.into())
        .net(NetNs::new_anonymous()?)
        .mount(Place::<MountNs>::New)
        .new_pid_namespace()
        .mount_proc()
        .hostname("hub")
        .new_session()
        .pass_fd(listener.into(), LISTENER_FD);
    command.set_up(world::mounts).spawn().context("starting the cluster's first process")
}

async fn wait_ready(args: &UpArgs, folders: &Folders, binaries: &Binaries, say: &impl Fn(&str)) -> Result<()> {
    let limit = Duration::from_secs(180);
    let kubectl = |args: &[&str]| {
        let mut kubectl = tokio::process::Command::new(&binaries.kubernetes);
        kubectl.args(["kubectl", "--kubeconfig"]).arg(folders.kubeconfig()).args(args);
        async move {
            let told = kubectl.output().await.ok()?;
            told.status.success().then(|| String::from_utf8_lossy(&told.stdout).into_owned())
        }
    };
    process::until("the API answers", limit, async || {
        kubectl(&["get", "--raw", "/readyz"]).await.is_some_and(|answer| answer == "ok")
    })
    .await?;
    say("the API answers");
    for node in Node::all(args.nodes) {
        let name = node.name();
        let ready = ["get", "node", &name, "-o", r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#];
        process::until(&format!("node {name} is ready"), limit, async || {
            kubectl(&ready).await.is_some_and(|answer| answer == "True")
        })
        .await
        .with_context(|| format!("logs: {}", folders.logs().display()))?;
    }
    say("all nodes are ready");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/coredns.yaml");
    let manifest = manifest.to_string_lossy();
    process::until("cluster DNS is applied", limit, async || kubectl(&["apply", "-f", &manifest]).await.is_some())
        .await?;
    let account = ["-n", "default", "get", "serviceaccount", "default"];
    process::until("the default service account exists", limit, async || kubectl(&account).await.is_some()).await?;
    let rolled = ["-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s"];
    process::until("cluster DNS runs", limit, async || kubectl(&rolled).await.is_some()).await?;
    say("cluster DNS runs");
    Ok(())
}

/// The pid of the cluster's first process, while it lives and is ours.
fn world_of(folders: &Folders) -> Option<u32> {
    let pid: u32 = fs::read_to_string(folders.pid_file()).ok()?.trim().parse().ok()?;
    is_part(pid, "world", folders).then_some(pid)
}

/// Pids of the first processes of the cluster's nodes.
fn nodes_of(folders: &Folders) -> Result<Vec<u32>> {
    let pids = fs::read_dir("/proc").context("reading the list of processes")?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| is_part(*pid, "node", folders)).collect())
}

/// Whether a process is this program in the role `role` of this cluster.
fn is_part(pid: u32, role: &str, folders: &Folders) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).collect();
    let cluster = folders.root().file_name().unwrap_or_default().as_encoded_bytes();
    words.get(1) == Some(&role.as_bytes()) && words.windows(2).any(|pair| *pair == [b"--cluster", cluster])
}

pub(crate) async fn down(name: &Name) -> Result<()> {
    let folders = Folders::new(&name.name)?;
    if let Some(pid) = world_of(&folders) {
        let begun = Instant::now();
        let ended = linux::process::pidfd(pid)?;
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).context("ending the cluster's first process")?;
        let mut fds = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&ended), nix::poll::PollFlags::POLLIN)];
        let gone = nix::poll::poll(&mut fds, nix::poll::PollTimeout::try_from(Duration::from_secs(30))?)?;
        ensure!(gone == 1, "the cluster's first process {pid} did not end within 30 s of SIGKILL");
        eprintln!("ended after {:.1} s", begun.elapsed().as_secs_f32());
    }
    clear(&folders).await
}

/// Removes what the end of its processes leaves of a cluster: files and control groups.
async fn clear(folders: &Folders) -> Result<()> {
    let begun = Instant::now();
    // The kernel lets go of a group a moment after its last process has ended.
    while let Err(error) = cgroup::remove(&folders.cgroup()) {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match fs::remove_dir_all(folders.root()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folders.root().display()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn kubectl(args: &[String]) -> Result<ExitCode> {
    let name = std::env::var("AMBIT_CLUSTER").unwrap_or_else(|_| "default".to_owned());
    let folders = Folders::new(&name)?;
    ensure!(world_of(&folders).is_some(), "no cluster {name:?} runs here; start it with `cargo xtask cluster up`");
    let mut kubectl = std::process::Command::new(binaries::prepare()?.kubernetes);
    kubectl.arg("kubectl").args(args).env("KUBECONFIG", folders.kubeconfig());
    Err(kubectl.exec()).context("starting kubectl")
}

/// Imports an image of `program` on every node that runs.
pub(crate) async fn add_image(name: &Name, program: &Path, image: &str) -> Result<()> {
    let folders = Folders::new(&name.name)?;
    let nodes = nodes_of(&folders)?;
    ensure!(!nodes.is_empty(), "no cluster {:?} runs here; start it with `cargo xtask cluster up`", name.name);
    let file = program.file_name().context("a program is a file")?.to_string_lossy();
    let target = format!("/usr/local/bin/{file}");
    let path = folders.root().join("images").join(format!("{file}.tar"));
    image::write(&path, image, &[&target], &image::with_libraries(program, &target)?)?;
    for pid in nodes {
        let mut ctr = Command::new("ctr")
            .args(["--namespace", "k8s.io", "images", "import"])
            .args([&path])
            .mount(Place::Join(MountNs::of_process(pid)?))
            .spawn()?;
        let exit = ctr.wait().await?;
        ensure!(exit.code() == 0, "importing {image} failed ({exit:?})");
    }
    Ok(())
}
