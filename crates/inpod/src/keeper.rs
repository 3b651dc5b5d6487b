//! The worker's end of the conversation with its keeper: what it left for us, the pods to serve, sockets as they are wanted.
//!
//! A lost keeper stops nothing: pods stay served, and the next keeper is given back what is held here. Which pods are served
//! is the [`Roster`](crate::Roster)'s business, as with the node agent.

use crate::{
    Opened, Place, Proxies, Stop,
    agent::{READINESS, SharedRoster},
    listeners::Listener,
    message::Request,
    stock::{Stock, Stocks, Wanted},
    words::{self, Part, PodWords, Received, Settings, ToKeeper, ToWorker},
};
use linux::{netns::NetNs, sealed::Sealed, seqpacket::Stream};
use model::Str;
use runtime::{
    Shutdown,
    backoff::Backoff,
    ready::{Block, Ready},
};
use std::{io, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time};

/// How often what is not used is let go of, and what could not be served is tried again.
const TIDY: Duration = Duration::from_secs(5);

/// What an earlier worker left.
pub type Legacy = Vec<(Part, Arc<Sealed>)>;

/// The conversation, over any number of keepers.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    settings: Settings,
    stocks: Arc<Stocks>,
    wanted: mpsc::UnboundedReceiver<Wanted>,
    keep: mpsc::UnboundedReceiver<(Part, Arc<Sealed>)>,
    /// What shall outlive us, for the next keeper.
    kept: Vec<(Part, Arc<Sealed>)>,
    greeted: Option<Stream>,
}

/// What the rest of the worker holds of it.
#[derive(Debug, Clone)]
pub struct Handle {
    stocks: Arc<Stocks>,
    wanted: mpsc::UnboundedSender<Wanted>,
    keep: mpsc::UnboundedSender<(Part, Arc<Sealed>)>,
}

impl Handle {
    /// The sockets of the pod `uid`.
    pub fn stock(&self, uid: &Str) -> Arc<Stock> {
        let stock = Stock::new(uid.clone(), self.wanted.clone());
        self.stocks.register(&stock);
        stock
    }

    /// Lets something outlive this process.
    pub fn keep(&self, part: Part, sealed: Sealed) {
        // Nobody listens when the process ends.
        let _ = self.keep.send((part, Arc::new(sealed)));
    }
}

impl Client {
    /// The keeper at `path` will be talked to.
    pub fn new(path: PathBuf, settings: Settings) -> (Self, Handle) {
        let (want, wanted) = mpsc::unbounded_channel();
        let (keep, kept) = mpsc::unbounded_channel();
        let stocks = Arc::new(Stocks::default());
        let handle = Handle { stocks: stocks.clone(), wanted: want, keep };
        (Self { path, settings, stocks, wanted, keep: kept, kept: Vec::new(), greeted: None }, handle)
    }

    /// Meets the keeper, however long it takes to come, and learns what an earlier worker left.
    pub async fn meet(&mut self) -> Legacy {
        let (stream, legacy) = self.connect().await;
        self.greeted = Some(stream);
        // Until there is something newer, it is what the next keeper and the next worker need.
        self.kept = legacy.clone();
        legacy
    }

    /// Serves what keepers hand over; `not_ready` holds until everything is served. Returns only with the process.
    pub async fn run<P>(mut self, roster: SharedRoster<P>, ready: &Ready, not_ready: Block, shutdown: Shutdown)
    where
        P: Proxies<Namespace = Place>,
    {
        let mut not_ready = Some(not_ready);
        loop {
            let stream = match self.greeted.take() {
                Some(stream) => stream,
                None => self.connect().await.0,
            };
            let readiness = |is_ready| {
                not_ready = if is_ready { None } else { not_ready.take().or_else(|| Some(ready.block(READINESS))) };
            };
            let broken = self.converse(&stream, &roster, readiness, &shutdown).await;
            not_ready = not_ready.take().or_else(|| Some(ready.block(READINESS)));
            match broken {
                Ok(()) => tracing::warn!("the keeper has gone; pods already served stay served"),
                Err(error) => tracing::warn!("talking to the keeper: {error}; pods already served stay served"),
            }
        }
    }

    async fn connect(&self) -> (Stream, Legacy) {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(320));
        loop {
            match self.greet().await {
                Ok(greeted) => {
                    tracing::info!(path = %self.path.display(), "connected to the keeper");
                    return greeted;
                }
                Err(error) => tracing::debug!("{error}; trying again"),
            }
            time::sleep(backoff.next_delay()).await;
        }
    }

    async fn greet(&self) -> io::Result<(Stream, Legacy)> {
        let stream = Stream::connect(&self.path)?;
        let peer = stream.peer_uid()?;
        if peer != 0 {
            return Err(io::Error::other(format!("the socket is held by user {peer}, a keeper would be root")));
        }
        words::send(&stream, &ToKeeper::Hello(self.settings.clone()), &[]).await?;
        let mut legacy = Vec::new();
        loop {
            let Some(Received { message, mut descriptors }) = words::receive(&stream).await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            match (message, descriptors.pop()) {
                (ToWorker::Kept(part), Some(descriptor)) => legacy.push((part, Arc::new(Sealed::from_fd(descriptor)?))),
                (ToWorker::Welcome, _) => return Ok((stream, legacy)),
                (other, _) => return Err(io::Error::other(format!("{other:?} came before the welcome"))),
            }
        }
    }

    /// One conversation, until it breaks off.
    async fn converse<P>(
        &mut self,
        stream: &Stream,
        roster: &SharedRoster<P>,
        mut readiness: impl FnMut(bool),
        shutdown: &Shutdown,
    ) -> io::Result<()>
    where
        P: Proxies<Namespace = Place>,
    {
        self.give_back(stream, roster).await?;
        let mut leaving = false;
        let mut tidy = time::interval(TIDY);
        tidy.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                received = words::receive(stream) => {
                    let Some(received) = received? else { return Ok(()) };
                    let answer = self.handle(received, roster, leaving)?;
                    readiness(roster.lock().is_ready());
                    if let Some(answer) = answer {
                        words::send(stream, &answer, &[]).await?;
                    }
                }
                Some(Wanted { uid, kind, count }) = self.wanted.recv() => {
                    words::send(stream, &ToKeeper::Want { uid, kind, count }, &[]).await?;
                }
                Some((part, sealed)) = self.keep.recv() => {
                    words::send(stream, &ToKeeper::Keep(part), &words::borrowed([&*sealed])).await?;
                    self.kept.retain(|(kept, _)| *kept != part);
                    self.kept.push((part, sealed));
                }
                () = shutdown.triggered(), if !leaving => {
                    leaving = true;
                    words::send(stream, &ToKeeper::Leaving, &[]).await?;
                }
                _ = tidy.tick() => {
                    self.stocks.tidy();
                    roster.lock().retry();
                }
            }
        }
    }

    /// What is held here, in case the keeper is younger than we are; then that we could serve.
    async fn give_back<P>(&self, stream: &Stream, roster: &SharedRoster<P>) -> io::Result<()>
    where
        P: Proxies<Namespace = Place>,
    {
        let holding: Vec<_> = {
            let mut roster = roster.lock();
            roster.connected();
            let pods = roster.served().map(|(uid, info, place)| (uid.clone(), info.clone(), place.clone()));
            pods.collect()
        };
        for (uid, info, Place { namespace, opened }) in holding {
            let Some(opened) = opened else { continue };
            let words = PodWords::new(uid, info, &opened);
            let namespace = namespace.try_clone_fd()?;
            let descriptors =
                std::iter::once(&namespace).chain(opened.listeners.iter().map(|listener| &listener.socket));
            words::send(stream, &ToKeeper::Holding(words), &words::borrowed(descriptors)).await?;
        }
        for (part, sealed) in &self.kept {
            words::send(stream, &ToKeeper::Keep(*part), &words::borrowed([&**sealed])).await?;
        }
        words::send(stream, &ToKeeper::Ready, &[]).await?;
        self.stocks.ask_again();
        Ok(())
    }

    /// Does what the keeper says; what is returned is the answer.
    fn handle<P>(
        &self,
        Received { message, descriptors }: Received<ToWorker>,
        roster: &SharedRoster<P>,
        leaving: bool,
    ) -> io::Result<Option<ToKeeper>>
    where
        P: Proxies<Namespace = Place>,
    {
        let mut roster = roster.lock();
        match message {
            ToWorker::Add(_) if leaving => {}
            ToWorker::Add(words) => {
                let (uid, info) = (words.uid.clone(), words.info.clone());
                let place = place(words, descriptors)?;
                if let Err(error) = roster.handle(Request::Add { uid, info, namespace: place }) {
                    tracing::warn!("a pod cannot be served yet and will be tried again: {error}");
                }
            }
            ToWorker::Delete { uid, cut } => roster.remove(&uid, if cut { Stop::Cut } else { Stop::Drain }),
            ToWorker::SnapshotSent => {
                roster.handle(Request::SnapshotSent).map_err(io::Error::other)?;
                return Ok(Some(ToKeeper::Serving));
            }
            ToWorker::Retire => {
                tracing::info!("another worker serves the pods now; what is open here may end");
                roster.stop_all(Stop::Retire);
                roster.connected();
            }
            ToWorker::Sockets { uid, kind, error } => {
                let outcome = error.map_or(Ok(descriptors), Err);
                self.stocks.deliver(&uid, kind, outcome);
            }
            ToWorker::Kept(_) | ToWorker::Welcome => {}
        }
        Ok(None)
    }
}

impl PodWords {
    /// What is said of a pod.
    pub fn new(uid: Str, info: crate::WorkloadInfo, opened: &Opened) -> Self {
        let ports = opened.listeners.iter().map(|listener| listener.port).collect();
        Self { uid, info, ports, original_source: opened.original_source }
    }
}

/// A pod as it came: its namespace, then its listeners.
pub fn place(words: PodWords, descriptors: Vec<OwnedFd>) -> io::Result<Place> {
    let mut descriptors = descriptors.into_iter();
    let namespace = descriptors.next().ok_or_else(|| io::Error::other("a pod came without its network namespace"))?;
    if descriptors.len() != words.ports.len() {
        let count = descriptors.len();
        return Err(io::Error::other(format!("{count} listeners came for {} ports", words.ports.len())));
    }
    let listeners = words.ports.into_iter().zip(descriptors).map(|(port, socket)| Listener { port, socket }).collect();
    let opened = Opened { listeners, original_source: words.original_source };
    Ok(Place { namespace: NetNs::from_fd(namespace)?, opened: Some(Arc::new(opened)) })
}
