//! `ambit up`: start, report, wait, end.

use super::{
    RunDir, UpArgs, install, layout, pki, preflight,
    run_dir::{Claim, Mesh},
    world,
};
use crate::Outcome;
use anyhow::{Context, Result, anyhow, bail};
use linux::{
    mount::MountNs,
    netns::NetNs,
    process::{Child, Command, Place},
};
use nix::sys::signal::Signal;
use runtime::process::Threads;
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Descriptor under which the world gets the API's listener.
const LISTENER_FD: i32 = 3;

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) nodes: u8,
    pub(crate) state: Option<PathBuf>,
    pub(crate) profile: install::Profile,
    pub(crate) api_port: u16,
}

/// A running mesh. It ends when this is dropped, at the latest with the process.
#[derive(Debug)]
pub(crate) struct Running {
    claim: Claim,
    world: Child,
    mesh: Mesh,
    /// Credentials of an administrator.
    pub(crate) kubeconfig: PathBuf,
    /// The same, connected.
    pub(crate) client: cluster::Client,
    /// The network namespace in which the nodes' links meet.
    pub(crate) hub: NetNs,
}

pub(super) fn main(args: UpArgs) -> Outcome {
    preflight()?;
    if args.detach {
        return detach(&args);
    }
    let options = Options {
        name: args.name,
        nodes: args.nodes,
        state: args.state,
        profile: args.profile,
        api_port: args.api_port,
    };
    runtime::process::run("up", Threads::Current, |shutdown| async move {
        let begun = Instant::now();
        let mut running = tokio::select! {
            started = start(&options, report(begun)) => started?,
            () = shutdown.triggered() => return Ok(()),
        };
        println!("\nexport KUBECONFIG={}", running.kubeconfig.display());
        println!("Ready after {:.1} s. Ctrl-C or `ambit down` ends it.", begun.elapsed().as_secs_f32());
        let ended = tokio::select! {
            () = shutdown.triggered() => None,
            exit = running.world.wait() => Some(exit?),
        };
        let logs = RunDir::new(&options.name)?.logs();
        running.end().await?;
        match ended {
            None => Ok(()),
            Some(exit) => {
                Err(anyhow!("the mesh's first process ended by itself ({exit:?}); logs: {}", logs.display()).into())
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn report(begun: Instant) -> impl FnMut(&str) {
    move |step| println!("{:>5.1} s  {step}", begun.elapsed().as_secs_f32())
}

/// Starts this program again without a terminal, and returns when the mesh is ready.
fn detach(args: &UpArgs) -> Outcome {
    let dir = RunDir::new(&args.name)?;
    if dir.running().is_some() {
        return Err(anyhow!("a mesh of the name {:?} runs already: end it with `ambit down`", args.name).into());
    }
    fs::create_dir_all("/run/ambit").context("creating /run/ambit")?;
    let log_path = PathBuf::from(format!("/run/ambit/.{}.up.log", args.name));
    let log = fs::File::create(&log_path).with_context(|| format!("creating {}", log_path.display()))?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(["up", "--name", &args.name, "--nodes", &args.nodes.to_string()]);
    command.args(["--api-port", &args.api_port.to_string(), "--profile", args.profile.as_str()]);
    if let Some(state) = &args.state {
        command.arg("--state").arg(state);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: Ctrl-C at this terminal is not meant for it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().context("starting `ambit up` in the background")?;
    runtime::process::run("detach", Threads::Current, |_| async move {
        let mut look = tokio::time::interval(Duration::from_millis(50));
        loop {
            look.tick().await;
            if dir.running().is_some_and(|mesh| mesh.ready) {
                break;
            }
            if let Some(status) = child.try_wait()? {
                let said = fs::read_to_string(&log_path).unwrap_or_default();
                let _kept = fs::remove_file(&log_path);
                return Err(anyhow!("`ambit up` ended early ({status}): {}", said.trim()).into());
            }
        }
        print!("{}", fs::read_to_string(&log_path).unwrap_or_default());
        let _kept = fs::remove_file(&log_path);
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Starts a mesh and waits until it is ready; `report` hears of each step.
pub(crate) async fn start(options: &Options, mut report: impl FnMut(&str)) -> Result<Running> {
    let dir = RunDir::new(&options.name)?;
    let claim = dir.claim()?;
    let listener = listen(options.api_port)?;
    let port = listener.local_addr()?.port();
    let nodes = layout::nodes(options.nodes);
    if let Some(state) = &options.state {
        fs::create_dir_all(state).with_context(|| format!("creating the state folder {}", state.display()))?;
    }
    let pki_folder = pki::prepare(options.state.as_deref(), &dir.pki(), &nodes)?;
    pki::write_admin_kubeconfig(&pki_folder, &dir.kubeconfig(), port)?;
    let hub = NetNs::new_anonymous()?;
    let folders = world::Folders {
        binary: std::env::current_exe().context("finding this program's own file")?,
        pki: pki_folder,
        logs: dir.logs(),
        state: options.state.clone(),
    };
    let world = start_world(options, hub.clone(), folders, listener.into(), &dir.logs())?;
    let mesh = Mesh {
        pid: i32::try_from(std::process::id())?,
        world_pid: i32::try_from(world.pid())?,
        api: format!("https://127.0.0.1:{port}"),
        nodes: nodes.iter().map(|node| node.name.clone()).collect(),
        state: options.state.clone(),
        started: jiff::Timestamp::now().as_second(),
        ready: false,
    };
    claim.publish(&mesh)?;
    let client = cluster::Client::from_kubeconfig(&dir.kubeconfig()).await?;
    let mut running = Running { claim, world, mesh, kubeconfig: dir.kubeconfig(), client, hub };
    tokio::select! {
        installed = install::run(&running.client, &running.mesh.nodes, options.profile, &mut report) => installed?,
        exit = running.world.wait() => {
            let log = fs::read_to_string(dir.logs().join("world.log")).unwrap_or_default();
            bail!("the mesh's first process ended during the start ({:?}): {}", exit?, log.trim());
        }
    }
    running.mesh.ready = true;
    running.claim.publish(&running.mesh)?;
    Ok(running)
}

fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!("port {port} on 127.0.0.1 is in use: choose another with --api-port (0 takes a free one)")
        }
        _ => anyhow!(error).context(format!("listening on 127.0.0.1:{port}")),
    })
}

fn start_world(
    options: &Options,
    hub: NetNs,
    folders: world::Folders,
    listener: OwnedFd,
    logs: &Path,
) -> Result<Child> {
    let log = fs::File::create(logs.join("world.log")).context("creating the world's log")?;
    let command = Command::new(world::BINARY)
        .args(["world", "--nodes", &options.nodes.to_string(), "--api-listener", &LISTENER_FD.to_string()])
        .stdio(Stdio::null(), log.try_clone()?.into(), log.into())
        .net(hub)
        .mount(Place::<MountNs>::New)
        .new_pid_namespace()
        .mount_proc()
        .hostname("ambit")
        .die_with_parent()
        .pass_fd(listener, LISTENER_FD);
    command.set_up(move || world::mounts(&folders)).spawn().context("starting the mesh's first process")
}

impl Running {
    /// Ends the mesh in order and removes what it wrote down.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.world.signal(Signal::SIGTERM)?;
        if tokio::time::timeout(Duration::from_secs(8), self.world.wait()).await.is_err() {
            self.world.signal(Signal::SIGKILL)?;
            self.world.wait().await?;
        }
        self.claim.release()
    }
}

/// Prints the pods, as `status` shows them.
pub(super) async fn show_pods(kubeconfig: &Path) -> Result<()> {
    let client = cluster::Client::from_kubeconfig(kubeconfig).await?;
    install::show_pods(&client).await
}
