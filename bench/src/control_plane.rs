//! Measures the control plane: a generated mesh goes in as a watch would bring it, proxies over TCP take what comes out.
//!
//! Generator, control plane and proxies share this process, so processor time is of all of them; memory is also told for the
//! moment before the first proxy connects.

mod cluster;
mod proxies;

use anyhow::{Context, Result};
use cluster::Shape;
use control::{
    discovery::Discovery,
    index::{self, Debounce, Outputs},
    mesh_config::MeshConfig,
    resolve::Resolver,
    serve::{Authenticator, Debug, Services, XdsGate, plaintext},
    settings::Mesh,
    source::Edit,
};
use proto::type_url::{ADDRESS, AUTHORIZATION};
use proxies::{Proxies, first_request};
use std::{
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use telemetry::metrics::{Registry, control::Control};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use xds::server::{Catalog, Clients, Server, Settings};

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pods
    #[arg(long, default_value_t = 100_000)]
    pods: u32,
    /// Services
    #[arg(long, default_value_t = 20_000)]
    services: u32,
    /// Namespaces
    #[arg(long, default_value_t = 1_000)]
    namespaces: u32,
    /// Proxies
    #[arg(long, default_value_t = 500)]
    proxies: usize,
    /// Single changes, one after the other
    #[arg(long, default_value_t = 100)]
    changes: u32,
    /// Changes per second of the storm
    #[arg(long, default_value_t = 10_000)]
    storm_rate: u32,
    /// Seconds of the storm
    #[arg(long, default_value_t = 60)]
    storm_seconds: u32,
    /// Proxies during the storm
    #[arg(long, default_value_t = 2)]
    storm_proxies: usize,
}

/// A running control plane.
struct Plane {
    edits: mpsc::Sender<Edit>,
    catalog: Catalog,
    address: SocketAddr,
}

/// Measures, and prints a row per figure.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let shape = Shape { pods: args.pods, services: args.services, namespaces: args.namespaces };
    println!("| what | measured |\n|---|---|");
    row("memory before anything", megabytes());
    let (begun, cpu) = (Instant::now(), processor_time());
    let plane = start(shape).await?;
    let resolved = begun.elapsed();
    let mut one = Proxies::connect(plane.address, 1, &first_request(None)).await?;
    one.first().await?;
    row(
        "start to the first full push",
        format!("{:.2} s, resolved after {:.2} s", begun.elapsed().as_secs_f32(), resolved.as_secs_f32()),
    );
    row("processor time of that", format!("{:.2} s", (processor_time() - cpu).as_secs_f32()));
    row("memory with the mesh, one proxy", megabytes());
    drop(one);

    single_changes(args, shape, &plane).await?;
    storm(args, shape, &plane).await?;
    Ok(())
}

/// How long one pod's change takes to every proxy, and what it costs; then all of them come back at once.
async fn single_changes(args: &Args, shape: Shape, plane: &Plane) -> Result<()> {
    let held = proxies::versions(&plane.catalog);
    let request = first_request(Some(held));
    let begun = Instant::now();
    let mut proxies = Proxies::connect(plane.address, args.proxies, &request).await?;
    let told = proxies.first().await?;
    row(
        format!("{} proxies that hold everything connect at once", args.proxies),
        format!(
            "all told after {:.2} s, {told} resources sent; a request has {} kB",
            begun.elapsed().as_secs_f32(),
            request.len() / 1000
        ),
    );
    let (cpu, mut delays) = (processor_time(), Vec::new());
    for change in 0..args.changes {
        let begun = Instant::now();
        send(plane, shape.changed_pod(change, change + 1)).await?;
        proxies.all_told().await?;
        delays.push(begun.elapsed());
    }
    let cpu = (processor_time() - cpu) / args.changes.max(1);
    delays.sort_unstable();
    let at = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    row(
        format!("one pod's change until the last of {} proxies has it", args.proxies),
        format!(
            "p50 {:.1} ms, p99 {:.1} ms; the pause in which changes are gathered is 10 ms of it",
            at(0.5),
            at(0.99)
        ),
    );
    row("processor time of one such change, proxies included", format!("{:.2} ms", cpu.as_secs_f64() * 1e3));
    row("memory with all of them, proxies included", megabytes());
    Ok(())
}

/// Changes without a pause, and how long after the last of them every proxy has it.
async fn storm(args: &Args, shape: Shape, plane: &Plane) -> Result<()> {
    let held = proxies::versions(&plane.catalog);
    let mut proxies = Proxies::connect(plane.address, args.storm_proxies, &first_request(Some(held))).await?;
    proxies.first().await?;
    let (before, cpu, begun) = (megabytes(), processor_time(), Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let (total, per_tick) = (args.storm_rate * args.storm_seconds, args.storm_rate / 100);
    let (mut sent, mut halfway) = (0, String::new());
    while sent < total {
        ticks.tick().await;
        for _ in 0..per_tick.min(total - sent) {
            send(plane, shape.changed_pod(sent, sent)).await?;
            sent += 1;
        }
        if halfway.is_empty() && sent >= total / 2 {
            halfway = megabytes();
        }
    }
    let (took, last) = (begun.elapsed(), Instant::now());
    // A change of its own kind, so that whoever has it has all before it.
    send(plane, shape.last_pod()).await?;
    proxies.until_named(cluster::LAST).await?;
    row(
        format!("{sent} changes of pods in {:.1} s to {} proxies", took.as_secs_f32(), args.storm_proxies),
        format!("converged {:.0} ms after the last", last.elapsed().as_secs_f64() * 1e3),
    );
    row("memory before, halfway, after", format!("{before}, {halfway}, {}", megabytes()));
    let each = (processor_time() - cpu).as_secs_f64() * 1e6 / f64::from(sent.max(1));
    row("processor time of each", format!("{each:.0} µs, proxies included"));
    Ok(())
}

async fn send(plane: &Plane, edit: Edit) -> Result<()> {
    plane.edits.send(edit).await.ok().context("the control plane is gone")
}

/// Starts a control plane and gives it a mesh; done once it is published.
async fn start(shape: Shape) -> Result<Plane> {
    let metrics = Control::register(&mut Registry::new("pilot", "bench"), "bench");
    let catalog = Catalog::new(&[ADDRESS, AUTHORIZATION]);
    let (edits, queue) = mpsc::channel(1024);
    let (statements, mut spoken) = mpsc::unbounded_channel();
    // Statuses would be written by somebody.
    tokio::spawn(async move { while spoken.recv().await.is_some() {} });
    let (done, synced) = oneshot::channel::<()>();
    let discovery = Discovery::new(Resolver::new(Mesh::default()), "default");
    let outputs =
        Outputs { catalog: catalog.clone(), statements, metrics: metrics.xds.clone(), debounce: Debounce::default() };
    tokio::spawn(index::run(discovery, queue, async move { synced.await.unwrap_or(()) }, outputs));
    for edit in shape.everything() {
        edits.send(edit).await.ok().context("the control plane is gone")?;
    }
    // The index waits for it as long as it lives.
    let _ = done.send(());
    catalog.snapshots().wait_for(Option::is_some).await?;

    let clients = Clients::default();
    let debug = Debug {
        clients: clients.clone(),
        snapshots: catalog.snapshots(),
        edits: edits.clone(),
        mesh: watch::channel(Arc::new(MeshConfig::default())).1,
        system_namespace: "istio-system".to_owned(),
        cluster_id: "Kubernetes".to_owned(),
    };
    let authenticator = Arc::new(Authenticator::new(None, Vec::new(), "cluster.local".to_owned()));
    let gate = XdsGate { authenticator, check_identity: true, debug, metrics: metrics.xds };
    let server = Server::new(catalog.snapshots(), gate, clients, Settings::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let services = Services { xds: server, certificates: None };
    tokio::spawn(plaintext(listener, services, std::future::pending()));
    Ok(Plane { edits, catalog, address })
}

fn row(what: impl Into<String>, measured: impl Into<String>) {
    println!("| {} | {} |", what.into(), measured.into());
}

/// Memory of this process that is in use.
fn megabytes() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default();
    format!("{} MiB", kilobytes / 1024)
}

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted after the name, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|place| fields.get(*place)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
