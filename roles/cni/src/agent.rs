//! The agent: watches the node's pods and all namespaces, and keeps each pod as it should be.
//!
//! Each pod has a task of its own ([`pod::PodTask`]) that is told to look again whenever something that matters may
//! have changed; so a pod that cannot be enrolled keeps nobody waiting. [`Shared`] is what all of them use.

mod pod;
mod status;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{DaemonSet, Namespace, Pod, Resource};
use cluster::{Change, Client, Scope, Source, Store};
use linux::seqpacket::Listener;
use parking_lot::Mutex;
use runtime::ready::{Block, Ready};
use runtime::{Shutdown, Threads, task};
use telemetry::metrics::Registry;
use telemetry::metrics::agent::Agent as Metrics;
use tokio::sync::{mpsc, oneshot};

use crate::args::AgentArgs;
use crate::enrolment::{self, Decision, Rules};
use crate::error::Error;
use crate::events::{self, Added, EVENTS_SOCKET, LOG_SOCKET, MESHED_NAMESPACES};
use crate::install::{Installer, Outcome};
use crate::netns::Finder;
use crate::proxy::Proxies;
use crate::rules::HostRules;
use pod::{PodTask, Trigger};

/// The annotation that says what the agent did about a pod.
const REDIRECTION: &str = "ambient.istio.io/redirection";

/// How often the installation is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// How long pods that were enrolled before may take at start before the rest goes on without them.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// A pod that the plugin tells about may not have reached us from the API yet.
const LOOKUPS: usize = 10;
const BETWEEN_LOOKUPS: Duration = Duration::from_millis(10);

/// What every part of the agent uses.
pub(crate) struct Shared {
    args: AgentArgs,
    rules: Rules,
    client: Client,
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    finder: Finder,
    host: HostRules,
    proxies: Proxies,
    metrics: Metrics,
    /// The tasks of pods, by uid.
    tasks: Mutex<HashMap<String, mpsc::UnboundedSender<Trigger>>>,
}

pub(crate) fn main(args: Box<AgentArgs>) -> Result<(), crate::BoxError> {
    let _log = telemetry::log::init_from_env()?;
    runtime::run("cni-agent", Threads::Many(2), |shutdown| run(*args, shutdown))
}

async fn run(args: AgentArgs, shutdown: Shutdown) -> Result<(), crate::BoxError> {
    let mut registry = Registry::new("cni", env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::register(&mut registry);
    let ready = Ready::new();
    let starting = ready.block("the node's pods");
    let (drain, watch) = runtime::drain::Drain::new();
    status::serve(&args, ready.clone(), registry, &watch).await?;
    let installer = Installer::new(&args, &enrolment::selectors(&args.enablement_selector).map_err(Error::Selector)?);
    let installed = ready.block("the CNI configuration");
    let shared = Arc::new(connect(args, metrics).await?);
    let work = async {
        shared.start().await?;
        shared.listen()?;
        drop(starting);
        task::spawn("installer", keep_installed(shared.clone(), installer.clone(), installed));
        shared.clone().follow().await;
        Ok::<_, crate::BoxError>(())
    };
    tokio::select! {
        done = work => done?,
        () = shutdown.triggered() => {}
    }
    drain.start();
    shared.leave(&installer).await;
    Ok(())
}

async fn connect(args: AgentArgs, metrics: Metrics) -> Result<Shared, Error> {
    let rules = Rules {
        selectors: enrolment::selectors(&args.enablement_selector).map_err(Error::Selector)?,
        excluded_namespaces: args.exclude_namespaces.clone(),
        dns_capture: args.dns_capture,
    };
    let client = Client::connect(&Source::Infer).await?;
    let finder = Finder::new()?;
    let host = HostRules { ns: finder.host().clone(), probe_v4: args.probe_v4, probe_v6: args.probe_v6 };
    Ok(Shared {
        pods: client.watch(Scope::all().fields(format!("spec.nodeName={}", args.node_name))),
        namespaces: client.watch(Scope::all()),
        rules,
        client,
        finder,
        host,
        proxies: Proxies::new(),
        metrics,
        tasks: Mutex::default(),
        args,
    })
}

impl Shared {
    /// Takes over what a predecessor left: nothing that works is touched, nothing that is missing stays so.
    async fn start(self: &Arc<Self>) -> Result<(), crate::BoxError> {
        tokio::join!(self.pods.synced(), self.namespaces.synced());
        self.list_namespaces();
        let pods = self.pods.list();
        let enrolled: Vec<_> = pods.iter().filter(|pod| self.belongs(pod)).collect();
        for pod in enrolled.iter().filter(|pod| redirection(pod) == Some("enabled")) {
            self.proxies.keep(pod::workload(pod));
        }
        let members: Vec<_> = enrolled
            .iter()
            .flat_map(|pod| pod::addresses(pod).into_iter().map(|ip| (ip, pod.metadata.uid.clone())))
            .collect();
        self.reset_host(members).await?;
        let looks: Vec<_> = pods.iter().map(|pod| self.look_and_tell(pod)).collect();
        let all = futures_util::future::join_all(looks);
        if tokio::time::timeout(FIRST_LOOK, all).await.is_err() {
            tracing::warn!("some pods are not as they should be yet; going on while they are worked on");
        }
        Ok(())
    }

    async fn reset_host(&self, members: Vec<(IpAddr, String)>) -> Result<(), crate::BoxError> {
        let host = self.host.clone();
        tokio::task::spawn_blocking(move || host.reset(&members)).await??;
        Ok(())
    }

    /// Whether a pod should be in the mesh.
    fn belongs(&self, pod: &Pod) -> bool {
        matches!(self.decide(pod), Decision::Enrol(_))
    }

    fn decide(&self, pod: &Pod) -> Decision {
        let namespace = self.namespaces.get("", pod.namespace());
        enrolment::decide(pod, namespace.as_deref(), &self.rules)
    }

    /// Opens the doors for plugins and proxies.
    fn listen(self: &Arc<Self>) -> Result<(), Error> {
        let dir = &self.args.run_dir;
        let failed = |path: &std::path::Path| {
            let path = path.to_owned();
            move |source| Error::File { doing: "making", path, source }
        };
        std::fs::create_dir_all(dir).map_err(failed(dir))?;
        if let Some(parent) = self.args.proxy_socket.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let listener = Listener::bind(&self.args.proxy_socket)?;
        task::spawn("node proxies", self.proxies.clone().serve(listener));
        let (counter, shared) = (self.metrics.plugin_requests.clone(), self.clone());
        let counted = move |status: u16| counter.add(&[&status.to_string()]);
        let events = events::bind(&dir.join(EVENTS_SOCKET))?;
        task::spawn(
            "plugin events",
            events::serve(events, counted, move |added| {
                let shared = shared.clone();
                async move { shared.plugin_added(added).await }
            }),
        );
        task::spawn("plugin log", events::serve_log(events::bind(&dir.join(LOG_SOCKET))?));
        Ok(())
    }

    /// Acts on whatever changes, for ever.
    async fn follow(self: Arc<Self>) {
        let (mut pods, mut namespaces) = (self.pods.changes(), self.namespaces.changes());
        let mut connected = self.proxies.connected();
        loop {
            tokio::select! {
                change = pods.next() => match change {
                    Change::Applied(pod) | Change::Deleted(pod) => self.look(&pod),
                    Change::Rejected(rejected) => tracing::warn!("pod {} cannot be read: {}", rejected.key, rejected.error),
                    Change::Withdrawn(_) | Change::Synced => {}
                },
                change = namespaces.next() => {
                    if let Change::Applied(namespace) | Change::Deleted(namespace) = change {
                        self.list_namespaces();
                        let inside = self.pods.list();
                        inside.iter().filter(|pod| pod.namespace() == namespace.name()).for_each(|pod| self.look(pod));
                    }
                }
                Ok(()) = connected.changed() => {
                    let count = connected.borrow_and_update().count;
                    self.metrics.proxy_connected.set(&[], i64::from(count > 0));
                    self.pods.list().iter().for_each(|pod| self.look(pod));
                }
            }
        }
    }

    /// Has a pod's task look at it again.
    fn look(self: &Arc<Self>, pod: &Arc<Pod>) {
        self.trigger(pod, Trigger::Look { done: None });
    }

    /// Has a pod's task look at it, and waits until it has.
    async fn look_and_tell(self: &Arc<Self>, pod: &Arc<Pod>) {
        let (done, finished) = oneshot::channel();
        self.trigger(pod, Trigger::Look { done: Some(done) });
        // The task may be gone with its pod: done as well.
        let _ = finished.await;
    }

    fn trigger(self: &Arc<Self>, pod: &Arc<Pod>, trigger: Trigger) {
        let uid = &pod.metadata.uid;
        let mut tasks = self.tasks.lock();
        let trigger = match tasks.get(uid) {
            Some(task) => match task.send(trigger) {
                Ok(()) => return,
                Err(refused) => refused.0,
            },
            None => trigger,
        };
        let (triggers, queue) = mpsc::unbounded_channel();
        // The receiver is in hand, so this cannot fail.
        let _ = triggers.send(trigger);
        tasks.insert(uid.clone(), triggers);
        task::spawn("pod", PodTask::new(self.clone(), pod.clone()).run(queue));
    }

    /// A plugin tells about a pod that is being started, and waits.
    async fn plugin_added(self: &Arc<Self>, added: Added) -> Result<(), String> {
        let pod = self.find(&added).await.map_err(|error| error.to_string())?;
        if !self.belongs(&pod) {
            return Ok(());
        }
        let (done, finished) = oneshot::channel();
        self.trigger(&pod, Trigger::Started { added, done });
        match finished.await {
            Ok(result) => result,
            Err(_) => Err("the pod is gone".to_owned()),
        }
    }

    async fn find(&self, added: &Added) -> Result<Arc<Pod>, Error> {
        let known = || {
            let pod = self.pods.get(&added.pod_namespace, &added.pod_name)?;
            (added.pod_uid.is_empty() || added.pod_uid == pod.metadata.uid).then_some(pod)
        };
        for _ in 0..LOOKUPS {
            match known() {
                Some(pod) => return Ok(pod),
                None => tokio::time::sleep(BETWEEN_LOOKUPS).await,
            }
        }
        Ok(Arc::new(self.client.get::<Pod>(&added.pod_namespace, &added.pod_name).await?))
    }

    /// Leaves a list of the namespaces in the mesh, for plugins that find no agent.
    fn list_namespaces(&self) {
        let probe = |namespace: &Namespace| {
            let mut pod = Pod::default();
            pod.metadata.namespace = namespace.name().to_owned();
            matches!(enrolment::decide(&pod, Some(namespace), &self.rules), Decision::Enrol(_))
        };
        let namespaces = self.namespaces.list();
        let meshed: BTreeSet<_> = namespaces.iter().filter(|it| probe(it)).map(|it| it.name()).collect();
        let text: String = meshed.into_iter().flat_map(|name| [name, "\n"]).collect();
        let path = self.args.run_dir.join(MESHED_NAMESPACES);
        let new = path.with_extension("new");
        let written = std::fs::create_dir_all(&self.args.run_dir)
            .and_then(|()| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, &path));
        if let Err(error) = written {
            tracing::warn!("writing {}: {error}", path.display());
        }
    }

    /// At the end: everything stays, unless the agent itself has been taken off the cluster.
    async fn leave(&self, installer: &Installer) {
        let found = self.client.find::<DaemonSet>(&self.args.pod_namespace, "istio-cni-node");
        let gone = match tokio::time::timeout(Duration::from_secs(3), found).await {
            Ok(Ok(Some(set))) => set.metadata.deletion_timestamp.is_some(),
            Ok(Ok(None)) => true,
            // Nothing is known: better to leave a plugin behind than pods unprotected.
            Ok(Err(_)) | Err(_) => false,
        };
        if !gone {
            return;
        }
        tracing::info!("the DaemonSet istio-cni-node is gone; taking the plugin off this node");
        if let Err(error) = installer.uninstall() {
            tracing::warn!("{error}");
        }
        if let Err(error) = self.host.uninstall() {
            tracing::warn!("{error}");
        }
    }
}

/// What the agent last said about a pod.
fn redirection(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.get(REDIRECTION).map(String::as_str)
}

/// Looks after the installation for ever; `first` goes when it is in place for the first time.
async fn keep_installed(shared: Arc<Shared>, installer: Installer, first: Block) {
    let mut first = Some(first);
    let mut last_error = String::new();
    loop {
        let one = installer.clone();
        let outcome = tokio::task::spawn_blocking(move || one.ensure()).await;
        match outcome {
            Ok(Ok(Outcome::NoConfiguration)) => shared.metrics.install_ready.set(&[], 0),
            Ok(Ok(outcome)) => {
                if outcome == Outcome::Changed {
                    shared.metrics.installs.add(&["SUCCESS"]);
                }
                shared.metrics.install_ready.set(&[], 1);
                first.take();
            }
            Ok(Err(error)) => {
                shared.metrics.installs.add(&["FAILURE"]);
                shared.metrics.install_ready.set(&[], 0);
                let text = error.to_string();
                if text != last_error {
                    tracing::error!("installing the plugin: {text}");
                }
                last_error = text;
            }
            // The task panicked, which is logged, or the runtime is ending.
            Err(_) => {}
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
