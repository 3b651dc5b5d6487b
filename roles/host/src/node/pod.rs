//! The life of one pod on its node, from the moment it is bound here to the moment that nothing of it is left.
//!
//! One task owns a pod. Everything slow (network, configuration, stopping) runs beside it and reports back as a
//! [`Happening`]; after each one the task carries out what [`super::state`] decides and publishes the status.

mod prober;
mod publish;
mod start;
mod stop;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Pod, Resource, Time};
use cluster::EventKind;
use linux::process::Exit;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::context::Context;
use super::objects::Objects;
use super::probe::Purpose;
use super::sandbox::{self, Sandbox};
use super::state::{self, Activity, Ended, PodState, Step};
use super::status;
use super::{prepare, volumes};
use publish::Publisher;
use start::Running;

/// What a pod's task is told: the newest object, or that it is gone from the API.
pub(super) type Update = Option<Arc<Pod>>;

/// Something that happened beside the pod's task.
#[derive(Debug)]
enum Happening {
    Connected(Sandbox),
    Prepared(Objects),
    Exited { container: String, id: String, exit: Exit },
    Probed { container: String, id: String, purpose: Purpose, good: bool, answer: String },
}

/// The task's knowledge and hands.
struct Life {
    context: Arc<Context>,
    pod: Pod,
    state: PodState,
    sandbox: Option<Sandbox>,
    objects: Option<Objects>,
    running: BTreeMap<String, Running>,
    happenings: mpsc::Sender<Happening>,
    publisher: Publisher,
}

/// Runs the pod until it is gone.
pub(super) async fn run(context: Arc<Context>, pod: Arc<Pod>, mut updates: watch::Receiver<Update>) {
    let (happenings, mut happened) = mpsc::channel(64);
    let pod = volumes::with_service_account(Pod::clone(&pod));
    let publisher = Publisher::start(context.clone(), &pod);
    let state = PodState::begin(&pod, now());
    let mut life =
        Life { context, pod, state, sandbox: None, objects: None, running: BTreeMap::new(), happenings, publisher };
    let (connecting, preparing) = life.set_up();
    let first = updates.borrow_and_update().clone();
    life.update(first);
    while !life.over() {
        let alarm = life.advance().await;
        life.publish();
        tokio::select! {
            happening = happened.recv() => {
                // The sender lives in `life`.
                if let Some(happening) = happening {
                    life.take(happening);
                }
            }
            changed = updates.changed() => {
                let update = if changed.is_ok() { updates.borrow_and_update().clone() } else { None };
                life.update(update);
            }
            () = until(alarm) => {}
        }
    }
    preparing.abort();
    // A sandbox that is being made must be taken down, too: here, or by its maker who finds nobody to give it to.
    happened.close();
    while let Some(happening) = happened.recv().await {
        life.take(happening);
    }
    drop(connecting.await);
    life.finish().await;
}

fn now() -> Time {
    Time(jiff::Timestamp::now())
}

async fn until(alarm: Option<Time>) {
    match alarm {
        Some(at) => {
            let wait = at.0.duration_since(jiff::Timestamp::now());
            tokio::time::sleep(wait.try_into().unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}

impl Life {
    /// Starts what the containers wait for.
    fn set_up(&self) -> (JoinHandle<()>, JoinHandle<()>) {
        let connect = start::connect(self.context.clone(), self.pod.clone(), self.happenings.clone());
        let prepare = start::prepare(self.context.clone(), self.pod.clone(), self.happenings.clone());
        (runtime::task::spawn("pod sandbox", connect), runtime::task::spawn("pod volumes", prepare))
    }

    /// Takes in what happened.
    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Connected(sandbox) => {
                self.state.address = Some(sandbox.address);
                self.state.sandbox = true;
                self.pod.status.pod_ip = sandbox.address.to_string();
                self.pod.status.host_ip = self.context.address.to_string();
                let network = sandbox.network.clone();
                self.context.running.update(&self.pod, |running| running.network = network);
                self.sandbox = Some(sandbox);
            }
            Happening::Prepared(objects) => self.objects = Some(objects),
            Happening::Exited { container, id, exit } => self.exited(&container, &id, exit),
            Happening::Probed { container, id, purpose, good, answer } => {
                self.probed(&container, &id, purpose, good, &answer);
            }
        }
    }

    /// Takes in the newest object. What a running pod may change is its metadata; a deletion ends it.
    fn update(&mut self, update: Update) {
        match update {
            Some(pod) => {
                self.pod.metadata = pod.metadata.clone();
                self.pod.status.conditions = pod.status.conditions.clone();
                if let Some(grace) = pod.metadata.deletion_grace_period_seconds
                    && pod.metadata.deletion_timestamp.is_some()
                {
                    self.stop(grace);
                }
            }
            None => self.stop(0),
        }
    }

    /// Stops every container within the grace period; asking again can only shorten it.
    fn stop(&mut self, grace: i64) {
        self.state.stopping = true;
        for (name, running) in &mut self.running {
            let container = find(&self.pod, name).cloned().unwrap_or_default();
            if running.stopping.is_none_or(|known| grace < known) {
                running.stopping = Some(grace);
                let message = format!("Stopping container {name}");
                self.context.event(&self.pod, EventKind::Normal, "Killing", message);
                stop::spawn(running, container, self.state.address, grace);
            }
        }
    }

    fn over(&self) -> bool {
        self.state.stopping && self.running.is_empty()
    }

    /// Carries out what is to be done now; gives the time of what is to be done later.
    async fn advance(&mut self) -> Option<Time> {
        self.objects.as_ref()?;
        self.release_when_over().await;
        let mut alarm = None;
        for step in state::next(&self.pod, &self.state, now()) {
            match step {
                Step::Wait(at) => alarm = Some(alarm.map_or(at, |known: Time| known.min(at))),
                Step::Start(name) => {
                    if let Some(again) = self.start(&name).await {
                        alarm = Some(alarm.map_or(again, |known: Time| known.min(again)));
                    }
                }
            }
        }
        alarm
    }

    /// A pod that has done its work needs no network any more, only its logs and its object stay.
    async fn release_when_over(&mut self) {
        let over = matches!(self.status().phase.as_str(), "Succeeded" | "Failed") && self.running.is_empty();
        if over && let Some(mut sandbox) = self.sandbox.take() {
            self.state.sandbox = false;
            self.context.running.update(&self.pod, |running| running.network = None);
            sandbox::destroy(&self.context, &mut sandbox).await;
        }
    }

    fn exited(&mut self, name: &str, id: &str, exit: Exit) {
        let Some(container) = find(&self.pod, name).cloned() else { return };
        let stopped = self.running.get(name).is_some_and(|running| running.id == id && running.stopping.is_some());
        self.running.remove(name);
        self.context.running.update(&self.pod, |running| drop(running.containers.remove(name)));
        let started_at = match self.state.record(name).activity {
            Activity::Running { since, .. } => since,
            _ => now(),
        };
        let code = exit.code();
        let ended = Ended {
            code,
            signal: if let Exit::Signal(signal) = exit { signal } else { 0 },
            reason: if code == 0 { "Completed" } else { "Error" },
            message: String::new(),
            started_at,
            finished_at: now(),
            id: id.to_owned(),
        };
        tracing::info!(pod = %self.pod.name(), container = name, code, "container ended");
        self.state.ended(&self.pod, &container, ended);
        let record = self.state.record(name);
        if record.crashes > 1 && !stopped && !self.state.stopping && state::restarts(&self.pod, &container, code) {
            let message = format!("Back-off restarting failed container {name}");
            self.context.event(&self.pod, EventKind::Warning, "BackOff", message);
        }
    }

    fn probed(&mut self, name: &str, id: &str, purpose: Purpose, good: bool, answer: &str) {
        let Some(container) = find(&self.pod, name).cloned() else { return };
        let Activity::Running { id: current, started, ready, .. } = &mut self.state.record(name).activity else {
            return;
        };
        if current != id {
            return;
        }
        match (purpose, good) {
            (Purpose::Startup, true) => {
                *started = true;
                *ready = container.readiness_probe.is_none();
                self.probe_started(&container);
            }
            (Purpose::Readiness, _) => *ready = good && *started,
            (Purpose::Liveness, true) => {}
            (Purpose::Startup | Purpose::Liveness, false) => self.kill_unwell(&container, purpose),
        }
        if !good {
            let message = format!("{} probe failed: {answer}", purpose.name());
            self.context.event(&self.pod, EventKind::Warning, "Unhealthy", message);
        }
    }

    /// A container that fails its probe is stopped; what comes then is the restart policy's business.
    fn kill_unwell(&mut self, container: &api::Container, purpose: Purpose) {
        let grace = stop::grace(&self.pod, container, purpose);
        let Some(running) = self.running.get_mut(&container.name) else { return };
        if running.stopping.is_some() {
            return;
        }
        running.stopping = Some(grace);
        let name = purpose.name().to_lowercase();
        let message = format!("Container {} failed {name} probe, will be restarted", container.name);
        self.context.event(&self.pod, EventKind::Normal, "Killing", message);
        stop::spawn(running, container.clone(), self.state.address, grace);
    }

    fn publish(&self) {
        self.publisher.publish(self.status());
    }

    fn status(&self) -> api::PodStatus {
        status::status(&self.pod, &self.state, self.context.address, now())
    }

    /// Takes down what is left, says so a last time and lets the object go.
    async fn finish(mut self) {
        self.context.running.remove(&self.pod);
        if let Some(mut sandbox) = self.sandbox.take() {
            sandbox::destroy(&self.context, &mut sandbox).await;
        }
        let status = self.status();
        self.publisher.finish(status).await;
        remove_folders(&self.context, &self.pod);
        tracing::info!(namespace = self.pod.namespace(), pod = self.pod.name(), "pod gone");
    }
}

fn remove_folders(context: &Context, pod: &Pod) {
    let folder = sandbox::pod_folder(context, pod);
    let logs = context.logs.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.metadata.uid));
    for folder in [folder, logs] {
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %folder.display(), "a pod's folder stays");
        }
    }
}

/// A container of the pod by name, of either kind.
fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a api::Container> {
    pod.spec.init_containers.iter().chain(&pod.spec.containers).find(|container| container.name == name)
}

/// Volumes follow their objects, and tokens are renewed, as long as the pod lives.
const REFRESH: std::time::Duration = std::time::Duration::from_secs(30);

async fn refresh(context: &Context, pod: &Pod, mut objects: Objects, happenings: &mpsc::Sender<Happening>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let written = match prepare::fetch(context, pod, &objects).await {
            Ok(found) => {
                let written = prepare::write_volumes(context, pod, &found);
                // A container that is restarted reads its environment from what is there then.
                if found != objects && happenings.send(Happening::Prepared(found.clone())).await.is_err() {
                    return;
                }
                objects = found;
                written
            }
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, namespace = pod.namespace(), pod = pod.name(), "volumes not refreshed; trying again");
        }
    }
}
