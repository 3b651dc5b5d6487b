//! One pod's task: compares what the pod should be with what was done about it, and does the rest, again and again
//! until it holds. The order of steps is the contract: rules before the proxy learns of the pod, the proxy before probes
//! are let through, all of it before the annotation says so; and backwards when the pod leaves.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Pod, Resource};
use cluster::Patch;
use linux::netns::NetNs;
use runtime::backoff::Backoff;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{REDIRECTION, Shared, redirection};
use crate::enrolment::{Decision, Enrolment};
use crate::error::Error;
use crate::events::Added;
use crate::proxy::{ProxyError, Workload};
use crate::rules::{PodRules, PodRulesError};

/// Why a pod's task should look.
pub(crate) enum Trigger {
    /// Something changed.
    Look {
        /// Told when it has looked.
        done: Option<oneshot::Sender<()>>,
    },
    /// The kubelet is starting the pod and waits.
    Started {
        /// What it said.
        added: Added,
        /// Told how it went.
        done: oneshot::Sender<Result<(), String>>,
    },
}

/// What was done about a pod.
struct Captured {
    ns: NetNs,
    enrolment: Enrolment,
    addresses: Vec<IpAddr>,
    /// Whether a proxy took it, and how many snapshots there had been by then.
    told: bool,
}

/// The task of one pod.
pub(crate) struct PodTask {
    shared: Arc<Shared>,
    /// As last seen.
    pod: Arc<Pod>,
    /// For log lines: `namespace/name`.
    name: String,
    captured: Option<Captured>,
    /// Whether to look into the namespace even if nothing has changed.
    verify: bool,
    backoff: Backoff,
}

/// How often a pod's rules are compared with what they should be.
const BETWEEN_VERIFICATIONS: Duration = Duration::from_secs(60);

/// Whether the task has anything left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Not until something changes.
    Rest,
    /// Try again by itself.
    Retry,
    /// The pod is gone.
    End,
}

impl PodTask {
    pub(super) fn new(shared: Arc<Shared>, pod: Arc<Pod>) -> Self {
        let name = format!("{}/{}", pod.namespace(), pod.name());
        let backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(5));
        Self { shared, pod, name, captured: None, verify: false, backoff }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Trigger>) {
        let mut next = Next::Rest;
        while next != Next::End {
            let patience = if next == Next::Retry { self.backoff.next_delay() } else { BETWEEN_VERIFICATIONS };
            let trigger = match tokio::time::timeout(patience, queue.recv()).await {
                Ok(trigger) => trigger,
                Err(_) => {
                    self.verify |= next == Next::Rest;
                    Some(Trigger::Look { done: None })
                }
            };
            next = match trigger {
                Some(Trigger::Look { done }) => {
                    let next = self.look().await;
                    // Whoever asked may have stopped waiting.
                    let _ = done.map(|done| done.send(()));
                    next
                }
                Some(Trigger::Started { added, done }) => self.started(&added, done).await,
                None => Next::End,
            };
            if next == Next::Rest {
                self.backoff.reset();
            }
        }
        self.shared.tasks.lock().remove(&self.pod.metadata.uid);
    }

    /// The pod as the API has it now, if it is still this one.
    fn refresh(&mut self) -> bool {
        let uid = &self.pod.metadata.uid;
        match self.shared.pods.get(self.pod.namespace(), self.pod.name()) {
            Some(pod) if pod.metadata.uid == *uid => {
                self.pod = pod;
                true
            }
            _ => false,
        }
    }

    async fn look(&mut self) -> Next {
        if !self.refresh() {
            self.release(false).await;
            return Next::End;
        }
        match self.shared.decide(&self.pod) {
            Decision::Leave(_) if self.captured.is_some() || redirection(&self.pod).is_some() => {
                self.release(true).await;
                Next::Rest
            }
            Decision::Leave(_) => Next::Rest,
            // Not started: the plugin will tell.
            Decision::Enrol(_) if self.captured.is_none() && addresses(&self.pod).is_empty() => Next::Rest,
            Decision::Enrol(enrolment) => {
                let ns = self.captured.as_ref().map(|captured| captured.ns.clone());
                let result = self.enrol(enrolment, ns, addresses(&self.pod)).await;
                self.conclude(result)
            }
        }
    }

    async fn started(&mut self, added: &Added, done: oneshot::Sender<Result<(), String>>) -> Next {
        self.refresh();
        let Decision::Enrol(enrolment) = self.shared.decide(&self.pod) else {
            let _ = done.send(Ok(()));
            return Next::Rest;
        };
        let addresses = added.addresses();
        let found = self.shared.finder.at(&added.netns, &self.name, &addresses);
        let result = match found {
            Ok(ns) => self.enrol(enrolment, Some(ns), addresses).await,
            Err(error) => Err(error),
        };
        let answer = result.as_ref().map(drop).map_err(ToString::to_string);
        let next = self.conclude(result);
        let _ = done.send(answer);
        next
    }

    fn conclude(&self, result: Result<(), Error>) -> Next {
        match result {
            Ok(()) => Next::Rest,
            Err(error @ (Error::Proxy { source: ProxyError::NotConnected, .. } | Error::Unsaid { .. })) => {
                tracing::debug!("{error}");
                Next::Retry
            }
            Err(error) => {
                tracing::warn!("{error}");
                Next::Retry
            }
        }
    }

    /// Makes the pod part of the mesh, whatever is missing of it.
    async fn enrol(&mut self, enrolment: Enrolment, ns: Option<NetNs>, addresses: Vec<IpAddr>) -> Result<(), Error> {
        let ns = match ns {
            Some(ns) => ns,
            None => self.find(addresses.clone()).await?,
        };
        self.capture(enrolment, ns, addresses).await?;
        let Some(captured) = &self.captured else { return Ok(()) };
        let (ns, addresses, told) = (captured.ns.clone(), captured.addresses.clone(), captured.told);
        if !told {
            if let Err(source) = self.shared.proxies.add(workload(&self.pod), ns).await {
                // A pod that was enrolled before stays so: its proxy is away, not its rules.
                if redirection(&self.pod) != Some("enabled") {
                    self.annotate(Some("pending")).await;
                }
                return Err(Error::Proxy { pod: self.name.clone(), source });
            }
            self.captured.iter_mut().for_each(|captured| captured.told = true);
            self.let_probes_through(addresses).await?;
            self.shared.metrics.reconcile_events.add(&["add"]);
            tracing::info!("pod {} is in the mesh", self.name);
        }
        if self.annotate(Some("enabled")).await { Ok(()) } else { Err(Error::Unsaid { pod: self.name.clone() }) }
    }

    async fn find(&self, addresses: Vec<IpAddr>) -> Result<NetNs, Error> {
        let (finder, uid, name) = (self.shared.finder.clone(), self.pod.metadata.uid.clone(), self.name.clone());
        blocking(&self.name, move || finder.of_uid(&uid, &name, &addresses)).await
    }

    /// Puts the rules into the pod's namespace, unless that was done for this namespace in this way a moment ago.
    async fn capture(&mut self, enrolment: Enrolment, ns: NetNs, addresses: Vec<IpAddr>) -> Result<(), Error> {
        let as_before = |captured: &Captured| captured.ns == ns && captured.enrolment == enrolment;
        let held = self.captured.as_ref().is_some_and(as_before);
        if held && !std::mem::take(&mut self.verify) {
            return Ok(());
        }
        let args = &self.shared.args;
        let rules = PodRules {
            enrolment: enrolment.clone(),
            probe_v4: args.probe_v4,
            probe_v6: args.probe_v6,
            ipv6: args.ipv6,
        };
        let (inside, name) = (ns.clone(), self.name.clone());
        let apply = move || rules.apply(&inside).map_err(|source| Error::Rules { pod: name, source });
        let changed = blocking(&self.name, apply).await?;
        let said_so = self.captured.is_none() && redirection(&self.pod) == Some("enabled");
        if changed && (held || said_so) {
            tracing::warn!("the rules of pod {} were not in place any more; they are again", self.name);
        }
        let told = self.captured.as_ref().is_some_and(|captured| captured.ns == ns && captured.told);
        self.captured = Some(Captured { ns, enrolment, addresses, told });
        Ok(())
    }

    async fn let_probes_through(&self, addresses: Vec<IpAddr>) -> Result<(), Error> {
        let (host, uid, name) = (self.shared.host.clone(), self.pod.metadata.uid.clone(), self.name.clone());
        let add = move || addresses.into_iter().try_for_each(|ip| host.add(ip, &uid));
        blocking(&self.name, move || add().map_err(|source| Error::Rules { pod: name, source })).await
    }

    /// Takes the pod out of the mesh. What cannot be undone is logged: a pod that leaves keeps nobody.
    async fn release(&mut self, still_there: bool) {
        let captured = self.captured.take();
        let addresses = captured.as_ref().map_or_else(|| addresses(&self.pod), |captured| captured.addresses.clone());
        let (host, uid) = (self.shared.host.clone(), self.pod.metadata.uid.clone());
        let forget = move || addresses.into_iter().try_for_each(|ip| host.remove(ip, &uid));
        self.note(tokio::task::spawn_blocking(forget).await);
        if still_there {
            let ns = match captured {
                Some(captured) => Ok(captured.ns),
                // An earlier agent enrolled it.
                None => self.find(super::pod::addresses(&self.pod)).await,
            };
            if let Ok(ns) = ns {
                self.note(tokio::task::spawn_blocking(move || PodRules::remove(&ns)).await);
            }
        }
        self.shared.proxies.delete(&self.pod.metadata.uid).await;
        self.shared.metrics.reconcile_events.add(&["remove"]);
        if still_there {
            self.annotate(None).await;
            tracing::info!("pod {} has left the mesh", self.name);
        }
    }

    fn note(&self, outcome: Result<Result<(), PodRulesError>, tokio::task::JoinError>) {
        // A panic is logged where it happens.
        if let Ok(Err(error)) = outcome {
            tracing::warn!("taking pod {} out of the mesh: {error}", self.name);
        }
    }

    /// Says on the pod what was done. Returns whether it says so now, or nobody is left to say it of.
    async fn annotate(&mut self, value: Option<&str>) -> bool {
        if redirection(&self.pod) == value {
            return true;
        }
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REDIRECTION: value}}}));
        let (namespace, name) = (self.pod.namespace(), self.pod.name());
        match self.shared.client.patch_status::<Pod>(namespace, name, patch).await {
            Ok(pod) if pod.metadata.uid == self.pod.metadata.uid => self.pod = Arc::new(pod),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::warn!("noting on pod {} that it is {value:?}: {error}", self.name);
                return false;
            }
        }
        true
    }
}

/// Runs kernel work where waiting is allowed.
async fn blocking<T: Send + 'static>(
    pod: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The panic is logged where it happens.
        Err(_) => Err(Error::NoNamespace { pod: pod.to_owned() }),
    }
}

/// The pod as proxies know it.
pub(super) fn workload(pod: &Pod) -> Workload {
    let account = if pod.spec.service_account_name.is_empty() { "default" } else { &pod.spec.service_account_name };
    Workload {
        uid: pod.metadata.uid.clone(),
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        service_account: account.to_owned(),
    }
}

/// The addresses that the pod's status tells.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let all = pod.status.pod_ips.iter().map(|ip| ip.ip.as_str()).chain([pod.status.pod_ip.as_str()]);
    let mut addresses: Vec<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
