//! Bringing a pod up: its network, its volumes, then its containers.

use std::sync::Arc;
use std::time::Duration;

use api::{Container, Pod, Time};
use cluster::EventKind;
use linux::process::{Child, Exit};
use nix::sys::signal::Signal;
use runtime::backoff::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Happening, Life, now, prober, refresh, stop};
use crate::node::container::{self, Plan};
use crate::node::context::{Context, RunningContainer};
use crate::node::log::{self, Stream, Writer};
use crate::node::objects::Objects;
use crate::node::probe::Purpose;
use crate::node::{prepare, sandbox, state};

/// A container that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: String,
    pub(super) pid: u32,
    pub(super) plan: Arc<Plan>,
    /// The grace period of a stop that is under way.
    pub(super) stopping: Option<i64>,
    pub(super) ended: watch::Receiver<bool>,
    probes: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.probes.iter().for_each(JoinHandle::abort);
    }
}

/// Makes the pod's sandbox, however often it takes.
pub(super) async fn connect(context: Arc<Context>, pod: Pod, happenings: mpsc::Sender<Happening>) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
    loop {
        match sandbox::create(&context, &pod).await {
            Ok(sandbox) => {
                if let Err(unsent) = happenings.send(Happening::Connected(sandbox)).await
                    && let Happening::Connected(mut sandbox) = unsent.0
                {
                    sandbox::destroy(&context, &mut sandbox).await;
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, pod = pod.metadata.name, namespace = pod.metadata.namespace, "no sandbox; trying again");
                let message = format!("Failed to create pod sandbox: {error}");
                context.event(&pod, EventKind::Warning, "FailedCreatePodSandBox", message);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = happenings.closed() => return,
        }
    }
}

/// Fetches what the pod refers to and writes its volumes, however often it takes; then keeps them fresh.
pub(super) async fn prepare(context: Arc<Context>, pod: Pod, happenings: mpsc::Sender<Happening>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let mut told = String::new();
    let mut objects = Objects::default();
    loop {
        let prepared = match prepare::fetch(&context, &pod, &objects).await {
            Ok(found) => {
                let written = prepare::write_volumes(&context, &pod, &found);
                objects = found;
                written
            }
            Err(error) => Err(error),
        };
        match prepared {
            Ok(()) => break,
            Err(error) => {
                let message = format!("MountVolume.SetUp failed: {error}");
                if told != message {
                    context.event(&pod, EventKind::Warning, "FailedMount", message.clone());
                    told = message;
                }
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
    if happenings.send(Happening::Prepared(objects.clone())).await.is_ok() {
        tokio::select! {
            () = refresh(&context, &pod, objects, &happenings) => {}
            () = happenings.closed() => {}
        }
    }
}

impl Life {
    /// Starts a container; gives the time to try again if it could not be started.
    pub(super) async fn start(&mut self, name: &str) -> Option<Time> {
        let container = super::find(&self.pod, name)?.clone();
        match self.try_start(&container).await {
            Ok(()) => None,
            Err(error) => Some(self.start_failed(&container, &error)),
        }
    }

    async fn try_start(&mut self, container: &Container) -> Result<(), container::Error> {
        let name = &container.name;
        // Both are there: `advance` asked for the objects, and `next` for the sandbox.
        let objects = self.objects.clone().unwrap_or_default();
        let network = self.sandbox.as_ref().and_then(|sandbox| sandbox.network.clone());
        if let Some(address) = self.state.address
            && let Err(error) = prepare::write_name_files(&self.context, &self.pod, address)
        {
            return Err(container::Error::Log(std::io::Error::other(error.to_string())));
        }
        let plan = Arc::new(container::plan(&self.context, &self.pod, container, &objects, network)?);
        let record = self.state.record(name);
        let restart =
            record.restarts + i32::from(record.last.is_some() || matches!(record.activity, state::Activity::Ended(_)));
        let child = self.launch(container, &plan, restart).await?;
        let id = format!("ambit://{}", uuid::Uuid::new_v4().simple());
        let pid = child.pid();
        self.state.started(container, id.clone(), now());
        let ended = watch_exit(child, name.clone(), id.clone(), self.happenings.clone());
        let running = Running { id, pid, plan: plan.clone(), stopping: None, ended, probes: Vec::new() };
        self.running.insert(name.clone(), running);
        self.context.running.update(&self.pod, |running| {
            running.containers.insert(name.clone(), RunningContainer { pid, plan });
            running.restarts.insert(name.clone(), restart);
        });
        self.context.event(&self.pod, EventKind::Normal, "Started", format!("Started container {name}"));
        self.post_start(container);
        if container.startup_probe.is_some() {
            self.probe(container, Purpose::Startup);
        } else {
            self.probe_started(container);
        }
        Ok(())
    }

    async fn launch(&self, container: &Container, plan: &Plan, restart: i32) -> Result<Child, container::Error> {
        let metadata = &self.pod.metadata;
        let logs = &self.context.logs;
        let folder = log::folder(logs, &metadata.namespace, &metadata.name, &metadata.uid, &container.name);
        let writer = Writer::create(&log::file(&folder, restart)).await.map_err(container::Error::Log)?;
        let out = writer.pipe(Stream::Out).map_err(container::Error::Log)?;
        let error = writer.pipe(Stream::Err).map_err(container::Error::Log)?;
        Ok(plan.start(out, error)?)
    }

    fn start_failed(&mut self, container: &Container, error: &container::Error) -> Time {
        let reason = error.reason();
        let message = error.to_string();
        tracing::warn!(
            pod = self.pod.metadata.name,
            container = container.name,
            reason,
            message,
            "container not started"
        );
        let record = self.state.record(&container.name);
        let activity = state::waiting(reason, &message);
        let again = record.activity == activity;
        record.activity = activity;
        record.crashes += 1;
        // The first failure is not tried again at once, as a crash is: nothing has changed.
        let wait = jiff::SignedDuration::try_from(state::back_off(&self.pod, record.crashes + 1)).unwrap_or_default();
        let at = Time(now().0.checked_add(wait).unwrap_or(jiff::Timestamp::MAX));
        record.restart_at = Some(at);
        if !again {
            self.context.event(&self.pod, EventKind::Warning, "Failed", format!("Error: {message}"));
        }
        at
    }

    /// Starts the probes that run once the container has started.
    pub(super) fn probe_started(&mut self, container: &Container) {
        self.probe(container, Purpose::Readiness);
        self.probe(container, Purpose::Liveness);
    }

    fn probe(&mut self, container: &Container, purpose: Purpose) {
        let probe = match purpose {
            Purpose::Startup => &container.startup_probe,
            Purpose::Readiness => &container.readiness_probe,
            Purpose::Liveness => &container.liveness_probe,
        };
        let Some(probe) = probe.clone() else { return };
        let Some(running) = self.running.get_mut(&container.name) else { return };
        let target = prober::Target {
            address: self.state.address,
            pid: running.pid,
            plan: running.plan.clone(),
            ports: container.ports.clone(),
        };
        let (happenings, name, id) = (self.happenings.clone(), container.name.clone(), running.id.clone());
        let task = prober::run(probe, purpose, target, move |good, answer| {
            let happening = Happening::Probed { container: name.clone(), id: id.clone(), purpose, good, answer };
            let happenings = happenings.clone();
            async move { happenings.send(happening).await.is_ok() }
        });
        running.probes.push(runtime::task::spawn("probe", task));
    }

    /// Runs the container's own start hook; a failing one stops the container.
    fn post_start(&self, container: &Container) {
        let Some(hook) = container.lifecycle.as_ref().and_then(|life| life.post_start.clone()) else { return };
        let Some(running) = self.running.get(&container.name) else { return };
        let (plan, pid, ended) = (running.plan.clone(), running.pid, running.ended.clone());
        let (context, pod, container) = (self.context.clone(), self.pod.clone(), container.clone());
        let address = self.state.address;
        runtime::task::spawn("start hook", async move {
            if let Err(problem) = stop::hook(&hook, &plan, pid, address, &container).await {
                let message = format!("PostStartHook failed: {problem}");
                context.event(&pod, EventKind::Warning, "FailedPostStartHook", message);
                if !*ended.borrow() {
                    stop::signal(pid, Signal::SIGKILL);
                }
            }
        });
    }
}

/// Waits for the container's end beside everything else; what it started goes with it.
fn watch_exit(
    mut child: Child,
    container: String,
    id: String,
    happenings: mpsc::Sender<Happening>,
) -> watch::Receiver<bool> {
    let (over, ended) = watch::channel(false);
    runtime::task::spawn("container", async move {
        let exit = child.wait().await.unwrap_or_else(|error| {
            tracing::warn!(%error, container, "how a container ended is not known");
            Exit::Code(255)
        });
        over.send_replace(true);
        if let Err(error) = child.signal_group(Signal::SIGKILL) {
            tracing::debug!(%error, "nothing else of the container to stop");
        }
        // The pod's task is gone only when the pod is.
        drop(happenings.send(Happening::Exited { container, id, exit }).await);
    });
    ended
}
