//! Measures a mesh beside the plain path: one world, the same pods inside and outside the mesh, the same load on both in turns.
//!
//! The result is a report on standard output; progress goes to standard error. Nothing is judged here: the exit status tells only
//! whether everything could be measured. How to read the figures is in `docs/benchmarks.md`.

mod control_plane;
mod fixture;
mod load;
mod network;
mod report;
mod statistics;
mod usage;
mod work;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::{
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};
use testkit::World;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures a mesh of this host beside the plain path; needs root")]
struct Cli {
    /// Something else than the data path
    #[command(subcommand)]
    part: Option<Part>,
    /// A smoke run: every kind of work, each too short for its figure to mean much
    #[arg(long)]
    quick: bool,
    /// How often each work is done on each path
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// Milliseconds of each round
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    millis: Option<u32>,
    /// Only work whose name holds this text, as in `same-node` or `http`
    #[arg(long, default_value = "")]
    only: String,
    /// The program to measure; without it, the `ambit` beside this one
    #[arg(long)]
    ambit: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// The control plane: memory, pushes, storms of changes, proxies that come back
    Control(control_plane::Args),
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: u16,
    duration: Duration,
}

impl Cli {
    fn extent(&self) -> Extent {
        let (rounds, millis) = if self.quick { (1, 250) } else { (5, 2_000) };
        Extent {
            rounds: self.rounds.unwrap_or(rounds),
            duration: Duration::from_millis(self.millis.unwrap_or(millis).into()),
        }
    }

    fn binary(&self) -> Result<String> {
        let path = match &self.ambit {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("ambit"),
        };
        let path = path.canonicalize().with_context(|| {
            format!(
                "there is no {}: build it with `cargo build --release -p ambit`, or name it by --ambit",
                path.display()
            )
        })?;
        path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{} is no text", path.display()))
    }
}

fn main() -> ExitCode {
    match start(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<()> {
    if let Some(Part::Control(args)) = &cli.part {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(control_plane::run(args));
    }
    let binary = cli.binary()?;
    let list = work::all(&cli.only);
    if list.is_empty() {
        bail!("no work's name holds {:?}; there are: {}", cli.only, work::names().join(", "));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Whichever ends first: the world goes with what is measured in it.
        tokio::select! {
            measured = measure(&binary, &list, cli.extent()) => measured,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("asked to end"),
        }
    })
}

async fn measure(binary: &str, list: &[work::Work], extent: Extent) -> Result<()> {
    let machine = report::Machine::look();
    let begun = Instant::now();
    let world = up(binary).await?;
    let up = begun.elapsed();
    eprintln!("{:>6.1} s  up", up.as_secs_f32());
    let pods = fixture::deploy(&world).await?;
    let ready = begun.elapsed();
    eprintln!("{:>6.1} s  {} pods ready, those of the mesh enrolled", ready.as_secs_f32(), fixture::PODS);
    let network = network::even_out(&world)?;
    let resting = usage::memory(&world)?;
    let bench = load::Bench::new(&world, &pods)?;
    let mut results = Vec::new();
    for work in list {
        results.push(bench.compare(*work, extent).await?);
        eprintln!("{:>6.1} s  {}", begun.elapsed().as_secs_f32(), work.name());
    }
    let loaded = usage::memory(&world)?;
    let report = report::Report { machine, extent, up, ready, network, results, resting, loaded };
    println!("{report}");
    Ok(())
}

/// A mesh of this process's own; nothing of it stays when its start fails.
async fn up(binary: &str) -> Result<World> {
    let name = format!("bench-{}", std::process::id());
    let started = World::up_named(binary, &name).await;
    if started.is_err() {
        // It may have got far enough to need an end; the failure of the start is what is told.
        let _ended = Command::new(binary).args(["down", "--name", &name]).output();
    }
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_can_still_be_told_how_long() {
        let extent = |words: &[&str]| Cli::try_parse_from(words).unwrap().extent();
        assert_eq!(extent(&["bench"]).rounds, 5);
        let quick = extent(&["bench", "--quick", "--millis", "100"]);
        assert_eq!((quick.rounds, quick.duration), (1, Duration::from_millis(100)));
    }
}
