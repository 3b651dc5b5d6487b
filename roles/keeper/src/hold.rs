//! What is held, and for whom: pods with their listeners, what workers left, and which worker serves.
//!
//! The pods go to every worker that said it is ready; once the newest of them serves, the others are told to retire. When no
//! serving worker is left, the newest retired one gets the pods back. Everything here is decided without waiting: messages
//! go to each worker's queue.

use inpod::{
    Opened, Place, Proxies, Stop, WorkloadInfo, listeners, sockets,
    words::{Kind, MAX_BATCH, Part, PodWords, Settings, ToWorker},
};
use linux::{netns::NetNs, sealed::Sealed};
use model::Str;
use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

/// Messages that may wait for one worker; one that reads nothing is given up.
const QUEUE: usize = 8 * 1024;
/// How long pods are still taken on after the last worker went.
const ABSENCE: Duration = Duration::from_secs(5);

/// A message for a worker.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub message: ToWorker,
    pub beside: Beside,
}

/// Descriptors that go with a message.
#[derive(Debug)]
pub(crate) enum Beside {
    Nothing,
    Pod(Arc<Held>),
    Kept(Arc<Sealed>),
    Made(Vec<OwnedFd>),
}

impl Beside {
    /// In the order in which they are sent.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Pod(held) => {
                let listeners = held.opened.listeners.iter().map(|listener| listener.socket.as_fd());
                std::iter::once(held.namespace.as_fd()).chain(listeners).collect()
            }
            Self::Kept(sealed) => vec![sealed.as_fd()],
            Self::Made(sockets) => sockets.iter().map(AsFd::as_fd).collect(),
        }
    }
}

/// A pod.
#[derive(Debug)]
pub(crate) struct Held {
    pub uid: Str,
    pub info: WorkloadInfo,
    pub namespace: NetNs,
    pub opened: Arc<Opened>,
}

impl Held {
    fn add(self: &Arc<Self>) -> Outgoing {
        let words = PodWords::new(self.uid.clone(), self.info.clone(), &self.opened);
        Outgoing { message: ToWorker::Add(words), beside: Beside::Pod(self.clone()) }
    }
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is not ready yet.
    Greeted,
    /// It has the pods; `told` that those are all.
    Serving { told: bool },
    /// Another one has them.
    Retired,
    /// It wants no more.
    Leaving,
}

#[derive(Debug)]
struct Worker {
    number: u64,
    stage: Stage,
    queue: mpsc::Sender<Outgoing>,
}

/// Everything that is held.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// How the newest worker wants pods to be opened.
    settings: Option<Settings>,
    pods: BTreeMap<Str, Arc<Held>>,
    kept: BTreeMap<Part, Arc<Sealed>>,
    /// In the order in which they came.
    workers: Vec<Worker>,
    numbers: u64,
    /// The pods are all there are, as far as anybody said.
    complete: bool,
    /// Since when nobody serves.
    alone: Option<Instant>,
    ready: Arc<Notify>,
}

impl Hold {
    /// Signalled when a worker is ready, for the first time and later.
    pub(crate) fn first_ready(&self) -> Arc<Notify> {
        self.ready.clone()
    }

    /// A worker has come: its number, and where messages for it appear. What earlier ones left is the first of them.
    pub(crate) fn greet(&mut self, settings: Settings) -> (u64, mpsc::Receiver<Outgoing>) {
        self.settings = Some(settings);
        self.numbers += 1;
        let (queue, messages) = mpsc::channel(QUEUE);
        self.workers.push(Worker { number: self.numbers, stage: Stage::Greeted, queue });
        for (part, sealed) in self.kept.clone() {
            self.send(self.numbers, Outgoing { message: ToWorker::Kept(part), beside: Beside::Kept(sealed) });
        }
        self.say(self.numbers, ToWorker::Welcome);
        (self.numbers, messages)
    }

    /// A worker can serve: it gets the pods, beside whoever has them.
    pub(crate) fn ready(&mut self, number: u64) {
        self.hand_over(number);
        self.ready.notify_one();
    }

    /// A worker serves everything that it was handed: nobody who came before it is needed any more.
    pub(crate) fn serving(&mut self, number: u64) {
        let is_serving = |worker: &Worker| matches!(worker.stage, Stage::Serving { .. });
        if !self.workers.iter().any(|worker| worker.number == number && is_serving(worker)) {
            return;
        }
        let mut earlier = Vec::new();
        for worker in &mut self.workers {
            if worker.number < number && is_serving(worker) {
                worker.stage = Stage::Retired;
                earlier.push(worker.number);
            }
        }
        tracing::info!(worker = number, retired = earlier.len(), pods = self.pods.len(), "worker serves");
        earlier.into_iter().for_each(|number| self.say(number, ToWorker::Retire));
    }

    /// A worker wants no more pods.
    pub(crate) fn leaving(&mut self, number: u64) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == number) {
            worker.stage = Stage::Leaving;
        }
        self.find_successor();
    }

    /// A worker has gone.
    pub(crate) fn gone(&mut self, number: u64) {
        self.workers.retain(|worker| worker.number != number);
        self.find_successor();
    }

    /// Something shall outlive its worker.
    pub(crate) fn keep(&mut self, part: Part, sealed: Sealed) {
        self.kept.insert(part, Arc::new(sealed));
    }

    /// An earlier keeper's pods have been given back: nobody else knows more.
    pub(crate) fn given_back(&mut self) {
        self.complete |= !self.pods.is_empty();
    }

    /// Makes sockets for a worker.
    pub(crate) fn make(&mut self, number: u64, uid: Str, kind: Kind, count: usize) {
        let made = match (&self.settings, self.pods.get(&uid)) {
            (Some(settings), Some(held)) => {
                sockets::open(&held.namespace, &settings.sockets, kind, count.min(MAX_BATCH))
                    .map_err(|error| error.to_string())
            }
            _ => Err(format!("no pod {uid} is known")),
        };
        let (error, beside) = match made {
            Ok(sockets) => (None, Beside::Made(sockets)),
            Err(error) => (Some(error), Beside::Nothing),
        };
        self.send(number, Outgoing { message: ToWorker::Sockets { uid, kind, error }, beside });
    }

    /// Everything that another program of this process goes on with.
    pub(crate) fn parts(&self) -> (Option<&Settings>, Vec<Arc<Held>>, Vec<(Part, Arc<Sealed>)>) {
        let kept = self.kept.iter().map(|(part, sealed)| (*part, sealed.clone())).collect();
        (self.settings.as_ref(), self.pods.values().cloned().collect(), kept)
    }

    /// How pods are opened until a worker says otherwise.
    pub(crate) fn set_settings(&mut self, settings: Option<Settings>) {
        self.settings = settings;
    }

    fn hand_over(&mut self, number: u64) {
        let complete = self.complete;
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == number) else { return };
        worker.stage = Stage::Serving { told: complete };
        self.alone = None;
        for held in self.pods.values().cloned().collect::<Vec<_>>() {
            self.send(number, held.add());
        }
        if complete {
            self.say(number, ToWorker::SnapshotSent);
        }
    }

    /// When nobody serves, whoever was retired last does it again.
    fn find_successor(&mut self) {
        if self.workers.iter().any(|worker| matches!(worker.stage, Stage::Serving { .. })) {
            return;
        }
        match self.workers.iter().rev().find(|worker| worker.stage == Stage::Retired).map(|worker| worker.number) {
            Some(number) => {
                tracing::warn!(worker = number, "the worker that served is gone; a retired one serves again");
                self.hand_over(number);
            }
            None => {
                tracing::warn!(pods = self.pods.len(), "no worker serves; connections wait for the next one");
                self.alone.get_or_insert_with(Instant::now);
            }
        }
    }

    fn say(&mut self, number: u64, message: ToWorker) {
        self.send(number, Outgoing { message, beside: Beside::Nothing });
    }

    fn send(&mut self, number: u64, outgoing: Outgoing) {
        let worker = self.workers.iter().find(|worker| worker.number == number);
        if worker.is_some_and(|worker| worker.queue.try_send(outgoing).is_err()) {
            tracing::warn!(worker = number, "the worker reads nothing; giving it up");
            // Its conversation ends when the queue is gone.
            self.workers.retain(|worker| worker.number != number);
        }
    }

    fn serving_workers(&self) -> Vec<u64> {
        let serving = self.workers.iter().filter(|worker| matches!(worker.stage, Stage::Serving { .. }));
        serving.map(|worker| worker.number).collect()
    }
}

impl Proxies for Hold {
    type Namespace = Place;
    type Proxy = Str;

    fn start(&mut self, uid: &Str, info: &WorkloadInfo, place: &Place) -> Result<Str, String> {
        let settings = self.settings.as_ref().ok_or("no worker of the node proxy has come yet")?;
        let opened = match &place.opened {
            Some(opened) => opened.clone(),
            None if self.alone.is_some_and(|since| since.elapsed() > ABSENCE) => {
                return Err("no worker of the node proxy serves; look at its log".to_owned());
            }
            None => {
                let opened = listeners::open(&place.namespace, &settings.sockets, &settings.capture);
                Arc::new(opened.map_err(|error| error.to_string())?)
            }
        };
        let held = Held { uid: uid.clone(), info: info.clone(), namespace: place.namespace.clone(), opened };
        let held = Arc::new(held);
        self.pods.insert(uid.clone(), held.clone());
        tracing::info!(%uid, name = %info.name, namespace = %info.namespace, "pod is held");
        self.serving_workers().into_iter().for_each(|number| self.send(number, held.add()));
        Ok(uid.clone())
    }

    fn stop(&mut self, uid: Str, how: Stop) {
        self.pods.remove(&uid);
        tracing::info!(%uid, ?how, "pod is no longer held");
        let cut = how == Stop::Cut;
        self.serving_workers()
            .into_iter()
            .for_each(|number| self.say(number, ToWorker::Delete { uid: uid.clone(), cut }));
    }

    fn complete(&mut self) {
        self.complete = true;
        let mut untold = Vec::new();
        for worker in &mut self.workers {
            if worker.stage == (Stage::Serving { told: false }) {
                worker.stage = Stage::Serving { told: true };
                untold.push(worker.number);
            }
        }
        untold.into_iter().for_each(|number| self.say(number, ToWorker::SnapshotSent));
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
