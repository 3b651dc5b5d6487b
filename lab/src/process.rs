//! Processes of a cluster: each restarted when it ends by itself, ended when the cluster ends, with a log of its own.

use anyhow::{Context, Result, bail};
use linux::process::{Child, Command};
use nix::sys::signal::Signal;
use runtime::{backoff::Backoff, process::Shutdown, task};
use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// A process to be kept running.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    name: String,
    program: OsString,
    args: Vec<OsString>,
}

impl Service {
    pub(crate) fn new(name: impl Into<String>, program: impl Into<OsString>) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new() }
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds `--name=value`.
    pub(crate) fn flag(self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut arg = OsString::from(format!("--{name}="));
        arg.push(value);
        self.arg(arg)
    }

    fn spawn(&self, logs: &Path) -> Result<Child> {
        let path = logs.join(format!("{}.log", self.name));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let command = Command::new(&self.program)
            .args(&self.args)
            .stdio(Stdio::null(), log.try_clone()?.into(), log.into())
            .die_with_parent();
        Ok(command.spawn()?)
    }

    async fn keep(self, logs: PathBuf, shutdown: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        while !shutdown.is_triggered() {
            match self.spawn(&logs) {
                Ok(mut child) => tokio::select! {
                    ended = child.wait() => tracing::warn!(process = self.name, ?ended, "ended, starting it again"),
                    () = shutdown.triggered() => {
                        let _gone = child.signal(Signal::SIGTERM);
                        let _ended = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
                        return;
                    }
                },
                Err(error) => tracing::error!(process = self.name, error = format!("{error:#}"), "cannot be started"),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

/// The processes of one part of the cluster.
#[derive(Debug)]
pub(crate) struct Services {
    logs: PathBuf,
    shutdown: Shutdown,
}

impl Services {
    pub(crate) fn new(logs: PathBuf, shutdown: Shutdown) -> Self {
        Self { logs, shutdown }
    }

    pub(crate) fn start(&self, service: Service) {
        task::spawn("service", service.keep(self.logs.clone(), self.shutdown.clone()));
    }
}

/// Waits until `condition` holds; says what did not happen when it never does.
pub(crate) async fn until<F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = bool>,
{
    let begun = Instant::now();
    while !condition().await {
        if begun.elapsed() > limit {
            bail!("waited {limit:?} in vain until {what}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
