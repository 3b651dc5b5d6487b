//! Sockets of one pod, made ahead of need by somebody with the rights: a shelf for each kind, filled again before it is empty.
//!
//! A shelf grows when somebody found it empty and shrinks while nobody comes, so a busy pod seldom waits and an idle one holds
//! a handful. What is asked for goes to a channel; who answers it is not known here.

use crate::{
    sockets::CONNECT_TIMEOUT,
    words::{Kind, MAX_BATCH},
};
use linux::Error;
use model::Str;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

/// Sockets on a shelf that is seldom used.
const SMALL: usize = 4;

/// Sockets that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// In which pod.
    pub uid: Str,
    /// Which.
    pub kind: Kind,
    /// How many.
    pub count: usize,
}

/// The sockets of one pod.
#[derive(Debug)]
pub struct Stock {
    uid: Str,
    shelves: Mutex<HashMap<Kind, Shelf>>,
    wanted: mpsc::UnboundedSender<Wanted>,
}

/// A socket, or why there is none.
type Outcome = Result<OwnedFd, String>;

/// Sockets of one kind.
#[derive(Debug)]
struct Shelf {
    sockets: VecDeque<OwnedFd>,
    /// Asked for and not here yet.
    asked: usize,
    /// How many there should be.
    depth: usize,
    /// Somebody came since it was last tidied.
    used: bool,
    waiting: VecDeque<oneshot::Sender<Outcome>>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { sockets: VecDeque::new(), asked: 0, depth: SMALL, used: true, waiting: VecDeque::new() }
    }
}

impl Shelf {
    /// How many to ask for now: once half is gone, enough for everybody who waits and a full shelf.
    fn lacking(&mut self) -> Option<usize> {
        let coming = self.sockets.len() + self.asked;
        let full = self.depth + self.waiting.len();
        let count = full.saturating_sub(coming).min(MAX_BATCH);
        (coming <= full / 2 && count > 0).then(|| {
            self.asked += count;
            count
        })
    }

    /// The socket goes to the first who still waits; otherwise it comes back.
    fn hand_over(&mut self, mut socket: OwnedFd) -> Option<OwnedFd> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(Ok(socket)) {
                Err(Ok(back)) => socket = back,
                Ok(()) | Err(Err(_)) => return None,
            }
        }
        Some(socket)
    }
}

impl Stock {
    /// An empty one for the pod `uid`, that says what it wants on `wanted`.
    pub fn new(uid: Str, wanted: mpsc::UnboundedSender<Wanted>) -> Arc<Self> {
        Arc::new(Self { uid, shelves: Mutex::default(), wanted })
    }

    /// A socket of this kind: from the shelf, or as soon as one comes.
    pub async fn take(&self, kind: Kind) -> Result<OwnedFd, Error> {
        let (taken, count) = {
            let mut shelves = self.shelves.lock();
            let shelf = shelves.entry(kind).or_default();
            shelf.used = true;
            let taken = shelf.sockets.pop_front().ok_or_else(|| {
                shelf.depth = (shelf.depth * 2).min(MAX_BATCH);
                let (give, wait) = oneshot::channel();
                shelf.waiting.push_back(give);
                wait
            });
            (taken, shelf.lacking())
        };
        self.ask(kind, count);
        let coming = match taken {
            Ok(socket) => return Ok(socket),
            Err(coming) => coming,
        };
        let failed = |why: io::Error| Error::new("get a socket in the pod from the keeper", why);
        match time::timeout(CONNECT_TIMEOUT, coming).await {
            Ok(Ok(Ok(socket))) => Ok(socket),
            Ok(Ok(Err(why))) => Err(failed(io::Error::other(why))),
            Ok(Err(_)) => Err(failed(io::Error::other("the pod is gone"))),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Has a few of these kinds ready before anybody comes.
    pub fn prepare(&self, kinds: impl IntoIterator<Item = Kind>) {
        for kind in kinds {
            let count = self.shelves.lock().entry(kind).or_default().lacking();
            self.ask(kind, count);
        }
    }

    fn ask(&self, kind: Kind, count: Option<usize>) {
        if let Some(count) = count {
            // Nobody listens when the process ends.
            let _ = self.wanted.send(Wanted { uid: self.uid.clone(), kind, count });
        }
    }

    /// Sockets that were asked for have come.
    fn put(&self, kind: Kind, sockets: Vec<OwnedFd>) {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.entry(kind).or_default();
        shelf.asked = shelf.asked.saturating_sub(sockets.len());
        for socket in sockets {
            if let Some(socket) = shelf.hand_over(socket) {
                shelf.sockets.push_back(socket);
            }
        }
    }

    /// What was asked for cannot be had.
    fn fail(&self, kind: Kind, why: &str) {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.entry(kind).or_default();
        shelf.asked = 0;
        for waiting in shelf.waiting.drain(..) {
            // Whoever waited may have given up.
            let _ = waiting.send(Err(why.to_owned()));
        }
    }

    /// Whoever was asked is gone and will not answer: everything is asked for again.
    fn ask_again(&self) {
        let lacking: Vec<_> = {
            let mut shelves = self.shelves.lock();
            let again = shelves.iter_mut().map(|(kind, shelf)| {
                shelf.asked = 0;
                shelf.waiting.retain(|waiting| !waiting.is_closed());
                (*kind, shelf.lacking())
            });
            again.collect()
        };
        lacking.into_iter().for_each(|(kind, count)| self.ask(kind, count));
    }

    /// Lets go of what nobody came for since the last time.
    fn tidy(&self) {
        for shelf in self.shelves.lock().values_mut() {
            if !std::mem::take(&mut shelf.used) {
                shelf.depth = SMALL;
                shelf.sockets.truncate(SMALL);
            }
        }
    }
}

/// Every pod's stock, for whoever brings what was asked for.
#[derive(Debug, Default)]
pub struct Stocks(Mutex<HashMap<Str, Weak<Stock>>>);

impl Stocks {
    /// Knows this one from now on, as long as it lives.
    pub fn register(&self, stock: &Arc<Stock>) {
        self.0.lock().insert(stock.uid.clone(), Arc::downgrade(stock));
    }

    /// Brings what was asked for, or why it cannot be had.
    pub fn deliver(&self, uid: &str, kind: Kind, outcome: Result<Vec<OwnedFd>, String>) {
        let Some(stock) = self.0.lock().get(uid).and_then(Weak::upgrade) else { return };
        match outcome {
            Ok(sockets) => stock.put(kind, sockets),
            Err(why) => stock.fail(kind, &why),
        }
    }

    /// Somebody else answers from now on.
    pub fn ask_again(&self) {
        self.living().iter().for_each(|stock| stock.ask_again());
    }

    /// Lets go of what is not used.
    pub fn tidy(&self) {
        self.living().iter().for_each(|stock| stock.tidy());
    }

    fn living(&self) -> Vec<Arc<Stock>> {
        let mut stocks = self.0.lock();
        stocks.retain(|_, stock| stock.strong_count() > 0);
        stocks.values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const KIND: Kind = Kind::Tcp { v6: false, any_source: false };

    fn sockets(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| File::open("/dev/null").unwrap().into()).collect()
    }

    struct Case {
        stock: Arc<Stock>,
        stocks: Stocks,
        wanted: mpsc::UnboundedReceiver<Wanted>,
    }

    impl Case {
        fn new() -> Self {
            let (sender, wanted) = mpsc::unbounded_channel();
            let stock = Stock::new("a".into(), sender);
            let stocks = Stocks::default();
            stocks.register(&stock);
            Self { stock, stocks, wanted }
        }

        fn asked(&mut self) -> usize {
            std::iter::from_fn(|| self.wanted.try_recv().ok()).map(|wanted| wanted.count).sum()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_prepared_is_taken_without_waiting_and_filled_up_at_half() {
        let mut case = Case::new();
        case.stock.prepare([KIND]);
        assert_eq!(case.asked(), SMALL);
        case.stocks.deliver("a", KIND, Ok(sockets(SMALL)));
        case.stock.take(KIND).await.unwrap();
        assert_eq!(case.asked(), 0, "three of four are left");
        case.stock.take(KIND).await.unwrap();
        assert_eq!(case.asked(), 2, "half is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_found_nothing_are_served_first_and_the_shelf_grows() {
        let mut case = Case::new();
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let stock = case.stock.clone();
                tokio::spawn(async move { stock.take(KIND).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let asked = case.asked();
        assert!(asked > 3, "{asked}");
        case.stocks.deliver("a", KIND, Ok(sockets(asked)));
        for taker in takers {
            taker.await.unwrap().unwrap();
        }
        assert_eq!(case.stock.shelves.lock()[&KIND].sockets.len(), asked - 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_reaches_who_waits_and_silence_ends() {
        let case = Case::new();
        let stock = case.stock.clone();
        let taker = tokio::spawn(async move { stock.take(KIND).await });
        tokio::task::yield_now().await;
        case.stocks.deliver("a", KIND, Err("no such namespace".to_owned()));
        let error = taker.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("no such namespace"), "{error}");
        assert_eq!(case.stock.take(KIND).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn another_keeper_is_asked_again_and_idle_shelves_shrink() {
        let mut case = Case::new();
        case.stock.prepare([KIND]);
        assert_eq!(case.asked(), SMALL);
        case.stocks.ask_again();
        assert_eq!(case.asked(), SMALL, "the first keeper never answered");
        case.stocks.deliver("a", KIND, Ok(sockets(20)));
        case.stocks.tidy();
        assert_eq!(case.stock.shelves.lock()[&KIND].sockets.len(), 20, "somebody came a moment ago");
        case.stocks.tidy();
        assert_eq!(case.stock.shelves.lock()[&KIND].sockets.len(), SMALL);
    }
}
