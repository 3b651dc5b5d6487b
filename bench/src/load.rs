//! Running load in the client pods, in turns on both paths, with the processor time that the node proxies took meanwhile.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::time::Duration;
use testkit::World;

use crate::{
    Extent,
    fixture::{CLIENT, Sinks},
    usage,
    work::{Path, Work},
};

/// Opens the way before the first round: tunnels, certificates, routes.
const WARM_UP: Duration = Duration::from_millis(200);

/// What `app load` tells.
#[derive(Debug, Clone, Deserialize, PartialEq)]
pub(crate) struct Load {
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_per_second: f64,
    pub(crate) operations_per_second: f64,
    pub(crate) p50_us: f64,
}

/// One run on one path.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) load: Load,
    /// Processor time of all node proxies, in seconds.
    pub(crate) proxy_seconds: f64,
}

/// One work, on both paths in each round.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) work: Work,
    pub(crate) rounds: Vec<Round>,
}

/// Two runs, one right after the other.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) plain: Run,
    pub(crate) mesh: Run,
}

/// What runs load: a world, its sinks, its node proxies.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    world: &'a World,
    sinks: &'a Sinks,
    proxies: Vec<i32>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(world: &'a World, sinks: &'a Sinks) -> Result<Self> {
        let proxies: Vec<i32> = world.processes("proxy ztunnel")?.iter().map(|process| process.pid).collect();
        if proxies.is_empty() {
            bail!("no node proxy runs in {}", world.name);
        }
        Ok(Self { world, sinks, proxies })
    }

    /// A, B, A, B: whatever slows the machine down meanwhile meets both paths.
    pub(crate) async fn compare(&self, work: Work, extent: Extent) -> Result<Comparison> {
        for path in Path::ALL {
            self.run(work, path, WARM_UP).await?;
        }
        let mut rounds = Vec::new();
        for _ in 0..extent.rounds {
            let plain = self.run(work, Path::Plain, extent.duration).await?;
            let mesh = self.run(work, Path::Mesh, extent.duration).await?;
            rounds.push(Round { plain, mesh });
        }
        Ok(Comparison { work, rounds })
    }

    async fn run(&self, work: Work, path: Path, duration: Duration) -> Result<Run> {
        let doing = || format!("{} on path {path:?}", work.name());
        let target = self.sinks.target(path, work.place)?;
        let (connections, duration) = (work.connections.to_string(), format!("{}ms", duration.as_millis()));
        let command = ["ambit", "app", "load", "--mode", work.kind.mode(), "--target", &target];
        let command = [&command[..], &["--connections", &connections, "--duration", &duration]].concat();
        let before = usage::processor_seconds(&self.proxies)?;
        let output = self.world.client.run(path.namespace(), CLIENT, &command).await.with_context(doing)?;
        let after = usage::processor_seconds(&self.proxies)?;
        if !output.success {
            bail!("{}: {}", doing(), output.text.trim());
        }
        let load = read(&output.text).with_context(doing)?;
        Ok(Run { load, proxy_seconds: after - before })
    }
}

fn read(text: &str) -> Result<Load> {
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("the load maker told no result: {text}"))?;
    serde_json::from_str(line).with_context(|| format!("reading {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_found_among_other_lines() {
        let line = r#"{"mode":"http","bytes":0,"operations":7,"errors":0,"bytes_per_second":0.0,"operations_per_second":3.5,"p50_us":81.5}"#;
        let load = read(&format!("a complaint\n{line}\n")).unwrap();
        assert_eq!((load.operations, load.p50_us), (7, 81.5));
        assert!(read("nothing\n").unwrap_err().to_string().contains("told no result"));
    }
}
