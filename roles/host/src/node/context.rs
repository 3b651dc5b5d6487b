//! What every part of a node shares: who it is, where its files are, how it reaches the API, and which pods run.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use api::Resource;
use cluster::{Client, EventKind, Recorder};
use parking_lot::Mutex;

use super::container::Plan;
use super::resolve::Resolver;

/// One node.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) name: String,
    pub(super) address: IpAddr,
    /// The binary that pauses, and that images stand for.
    pub(super) ambit: PathBuf,
    pub(super) state: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) cni_config: PathBuf,
    pub(super) cni_binaries: PathBuf,
    pub(super) cluster_dns: Vec<IpAddr>,
    pub(super) domain: String,
    pub(super) resolver: Resolver,
    /// Address and port of the `kubernetes` service.
    pub(super) api: (String, u16),
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) running: Registry,
}

impl Context {
    /// Records an event without waiting for it.
    pub(super) fn event<T: Resource>(&self, object: &T, kind: EventKind, reason: &'static str, message: String) {
        let (recorder, object) = (self.recorder.clone(), object.clone());
        runtime::task::spawn("event", async move {
            if let Err(error) = recorder.record(&object, kind, reason, &message, jiff::Timestamp::now()).await {
                tracing::debug!(%error, reason, "event not recorded");
            }
        });
    }
}

/// A container that runs now, as the kubelet's endpoint needs it.
#[derive(Debug, Clone)]
pub(super) struct RunningContainer {
    pub(super) pid: u32,
    pub(super) plan: Arc<Plan>,
}

/// A pod of this node, as the kubelet's endpoint needs it.
#[derive(Debug, Clone, Default)]
pub(super) struct RunningPod {
    pub(super) uid: String,
    pub(super) network: Option<linux::netns::NetNs>,
    pub(super) containers: HashMap<String, RunningContainer>,
    /// Restarts of each container, which name its log files.
    pub(super) restarts: HashMap<String, i32>,
}

/// The pods of this node by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<(String, String), RunningPod>>);

impl Registry {
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<RunningPod> {
        self.0.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Changes what is known of a pod; a pod of another uid under the same name is forgotten first.
    pub(super) fn update(&self, pod: &api::Pod, change: impl FnOnce(&mut RunningPod)) {
        let mut pods = self.0.lock();
        let entry = pods.entry((pod.namespace().to_owned(), pod.name().to_owned())).or_default();
        if entry.uid != pod.metadata.uid {
            *entry = RunningPod { uid: pod.metadata.uid.clone(), ..RunningPod::default() };
        }
        change(entry);
    }

    pub(super) fn remove(&self, pod: &api::Pod) {
        let key = (pod.namespace().to_owned(), pod.name().to_owned());
        let mut pods = self.0.lock();
        if pods.get(&key).is_some_and(|known| known.uid == pod.metadata.uid) {
            pods.remove(&key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
