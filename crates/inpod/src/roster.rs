//! Which pods are served: decides from the agent's requests alone, over any number of conversations (ztunnel.md §5.3).
//!
//! Proxies live longer than conversations: when the agent goes, they stay; the next conversation names every pod anew,
//! and whatever it does not name is drained at its snapshot's end. Starting and stopping is done by [`Proxies`].

use crate::WorkloadInfo;
use crate::message::{MessageError, Request};
use model::Str;
use std::collections::{BTreeMap, BTreeSet};

/// Starts and stops the proxy of a pod.
pub trait Proxies {
    /// A pod's network namespace; equal ones are the same.
    type Namespace: PartialEq;
    /// A running proxy.
    type Proxy;

    /// Opens the listeners; an error tells the agent what to do about it.
    fn start(&mut self, uid: &Str, info: &WorkloadInfo, namespace: &Self::Namespace) -> Result<Self::Proxy, String>;

    /// Closes the listeners.
    fn stop(&mut self, proxy: Self::Proxy, how: Stop);

    /// Every pod there is has been named and tried.
    fn complete(&mut self) {}
}

/// What happens to open connections when a proxy stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// They may end by themselves, within the time that a drain may take.
    Drain,
    /// They may take as long as the process lives: somebody else serves the pod now.
    Retire,
    /// They are cut.
    Cut,
}

/// A pod that is served.
struct Served<P: Proxies> {
    info: WorkloadInfo,
    namespace: P::Namespace,
    proxy: P::Proxy,
}

/// A pod whose proxy could not be started and is tried again.
struct Pending<P: Proxies> {
    info: WorkloadInfo,
    namespace: P::Namespace,
}

/// Everything about pods; connections to the agent come and go.
pub struct Roster<P: Proxies> {
    proxies: P,
    served: BTreeMap<Str, Served<P>>,
    pending: BTreeMap<Str, Pending<P>>,
    /// Pods named in this conversation's snapshot; `None` after its end.
    named: Option<BTreeSet<Str>>,
    started: u64,
    stopped: u64,
}

impl<P: Proxies> std::fmt::Debug for Roster<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster")
            .field("served", &self.served.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

/// How many pods are in which state, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Served.
    pub active: usize,
    /// To be tried again.
    pub pending: usize,
    /// Proxies ever started.
    pub started: u64,
    /// Proxies ever stopped.
    pub stopped: u64,
}

impl<P: Proxies> Roster<P> {
    /// Nothing served yet.
    pub fn new(proxies: P) -> Self {
        Self {
            proxies,
            served: BTreeMap::new(),
            pending: BTreeMap::new(),
            named: Some(BTreeSet::new()),
            started: 0,
            stopped: 0,
        }
    }

    /// A new conversation begins: its snapshot has named nothing yet.
    pub fn connected(&mut self) {
        self.named = Some(BTreeSet::new());
        self.pending.clear();
    }

    /// The snapshot has come and everything in it is served.
    pub fn is_ready(&self) -> bool {
        self.named.is_none() && self.pending.is_empty()
    }

    /// What starts and stops proxies.
    pub fn proxies(&mut self) -> &mut P {
        &mut self.proxies
    }

    /// Counts for metrics.
    pub fn census(&self) -> Census {
        let (active, pending) = (self.served.len(), self.pending.len());
        Census { active, pending, started: self.started, stopped: self.stopped }
    }

    /// Uids of pods that are still to be started, with who they are, for the dump.
    pub fn pending(&self) -> impl Iterator<Item = (&Str, &WorkloadInfo)> {
        self.pending.iter().map(|(uid, pending)| (uid, &pending.info))
    }

    /// Does what one request asks for. The error is what the agent is told.
    pub fn handle(&mut self, request: Request<P::Namespace>) -> Result<(), MessageError> {
        match request {
            Request::Add { uid, info, namespace } => {
                self.name(&uid);
                self.add(uid, info, namespace).map_err(MessageError::Unreadable)
            }
            Request::Keep { uid } => match &mut self.named {
                Some(named) => {
                    named.insert(uid);
                    Ok(())
                }
                None => Err(MessageError::Protocol("a workload was kept after the snapshot")),
            },
            Request::Delete { uid } => {
                self.delete(&uid);
                Ok(())
            }
            Request::SnapshotSent => self.end_snapshot(),
        }
    }

    /// Tries pods again that could not be served.
    pub fn retry(&mut self) {
        for (uid, Pending { info, namespace }) in std::mem::take(&mut self.pending) {
            if let Err(error) = self.add(uid.clone(), info, namespace) {
                tracing::warn!(%uid, "the pod still cannot be served: {error}");
            }
        }
    }

    /// Every pod that is served: its uid, who it is, where.
    pub fn served(&self) -> impl Iterator<Item = (&Str, &WorkloadInfo, &P::Namespace)> {
        self.served.iter().map(|(uid, served)| (uid, &served.info, &served.namespace))
    }

    /// Serves a pod that is known from elsewhere; the next snapshot decides whether it stays.
    pub fn restore(&mut self, uid: Str, info: WorkloadInfo, namespace: P::Namespace) -> Result<(), String> {
        if self.served.contains_key(&uid) { Ok(()) } else { self.add(uid, info, namespace) }
    }

    /// Stops one pod's proxy, whether or not there was a snapshot.
    pub fn remove(&mut self, uid: &Str, how: Stop) {
        self.pending.remove(uid);
        if let Some(served) = self.served.remove(uid) {
            self.stop(served.proxy, how);
        }
    }

    /// Stops everything.
    pub fn stop_all(&mut self, how: Stop) {
        self.pending.clear();
        for served in std::mem::take(&mut self.served).into_values() {
            self.stop(served.proxy, how);
        }
    }

    fn name(&mut self, uid: &Str) {
        if let Some(named) = &mut self.named {
            named.insert(uid.clone());
        }
    }

    fn add(&mut self, uid: Str, info: WorkloadInfo, namespace: P::Namespace) -> Result<(), String> {
        if let Some(served) = self.served.get(&uid) {
            if served.namespace == namespace && served.info == info {
                return Ok(());
            }
            tracing::info!(%uid, "the pod has another namespace now; its old proxy is drained");
            if let Some(old) = self.served.remove(&uid) {
                self.stop(old.proxy, Stop::Drain);
            }
        }
        self.pending.remove(&uid);
        match self.proxies.start(&uid, &info, &namespace) {
            Ok(proxy) => {
                self.started += 1;
                self.served.insert(uid, Served { info, namespace, proxy });
                Ok(())
            }
            Err(error) => {
                self.pending.insert(uid, Pending { info, namespace });
                Err(error)
            }
        }
    }

    /// After the snapshot the pod is gone for good: what it still has open is cut. Before, the agent only says that the
    /// snapshot does not contain it.
    fn delete(&mut self, uid: &Str) {
        self.pending.remove(uid);
        match &mut self.named {
            Some(named) => {
                named.remove(uid);
            }
            None => {
                if let Some(served) = self.served.remove(uid) {
                    self.stop(served.proxy, Stop::Cut);
                }
            }
        }
    }

    fn end_snapshot(&mut self) -> Result<(), MessageError> {
        let Some(named) = self.named.take() else {
            return Err(MessageError::Protocol("the snapshot ended twice"));
        };
        let unnamed: Vec<Str> = self.served.keys().filter(|uid| !named.contains(*uid)).cloned().collect();
        for uid in unnamed {
            tracing::info!(%uid, "the agent no longer names the pod; its proxy is drained");
            if let Some(served) = self.served.remove(&uid) {
                self.stop(served.proxy, Stop::Drain);
            }
        }
        self.proxies.complete();
        Ok(())
    }

    fn stop(&mut self, proxy: P::Proxy, how: Stop) {
        self.stopped += 1;
        self.proxies.stop(proxy, how);
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
