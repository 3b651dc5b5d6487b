//! Open connections of one pod on one thread: shown in the dump, judged again when policy changes, cut on demand.
//!
//! A connection is entered before it is judged for the first time, so that no change of policy falls in between. The lock is
//! only ever contended by the dump, by a scrape and by a change of policy.

use model::{Identity, Reason, Str};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use telemetry::access::Direction;
use tokio::{sync::Notify, time::Instant};

/// How long a half-closed connection may be silent: no socket waits longer than 5 minutes to be closed.
const HALF_CLOSED: Duration = Duration::from_secs(270);
/// How often that is looked at.
const SWEEP: Duration = Duration::from_secs(15);

/// What the dump shows of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Which way.
    pub direction: Direction,
    /// Client.
    pub source: SocketAddr,
    /// What the client asked for: the service's host inbound, the original destination outbound.
    pub original: Option<Str>,
    /// Where it really goes.
    pub actual: String,
    /// `TCP`, `HBONE` or `DOUBLEHBONE`.
    pub protocol: &'static str,
}

/// What policies judge: only connections to the pod have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Proven by certificate.
    pub peer: Option<Identity>,
    /// Client's address.
    pub source: SocketAddr,
    /// The application's address.
    pub destination: SocketAddr,
}

impl Judged {
    /// The connection as policies see it.
    pub(crate) fn as_connection(&self) -> authz::Connection<'_> {
        authz::Connection { peer: self.peer.as_ref(), source: self.source, destination: self.destination }
    }
}

/// The connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    shown: Shown,
    judged: Option<Judged>,
    flow: Arc<crate::flow::Flow>,
    cut: Arc<Cut>,
    /// Half closed: its bytes when they last changed, and when that was.
    silent: Option<(u64, Instant)>,
}

/// The wish to end a connection, with its reason.
#[derive(Debug, Default)]
struct Cut {
    reason: OnceLock<Reason>,
    wish: Notify,
}

/// One connection's place among the others; dropping it takes the connection out.
#[derive(Debug)]
pub(crate) struct Tracked {
    connections: Arc<Connections>,
    id: u64,
    cut: Arc<Cut>,
}

impl Connections {
    /// Enters a connection.
    pub(crate) fn enter(
        self: &Arc<Self>,
        shown: Shown,
        judged: Option<Judged>,
        flow: Arc<crate::flow::Flow>,
    ) -> Tracked {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let cut = Arc::new(Cut::default());
        self.open.lock().insert(id, Entry { shown, judged, flow, cut: cut.clone(), silent: None });
        Tracked { connections: self.clone(), id, cut }
    }

    /// Judges every inbound connection: those for which `verdict` gives a reason are cut.
    pub(crate) fn judge(&self, mut verdict: impl FnMut(&Judged) -> Option<Reason>) {
        for entry in self.open.lock().values() {
            if let Some(reason) = entry.judged.as_ref().and_then(&mut verdict) {
                entry.cut.wish(reason);
            }
        }
    }

    /// Cuts what is half closed and has been silent for too long.
    fn sweep(&self, now: Instant) {
        for entry in self.open.lock().values_mut() {
            let Some(moved) = entry.flow.half_closed() else { continue };
            match entry.silent {
                Some((before, since)) if before == moved => {
                    if now.duration_since(since) >= HALF_CLOSED {
                        entry.cut.wish(Reason::HalfClosed);
                    }
                }
                _ => entry.silent = Some((moved, now)),
            }
        }
    }

    /// What the dump shows, in the order of opening.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let open = self.open.lock();
        let mut list: Vec<_> = open.iter().map(|(id, entry)| (*id, entry.shown.clone())).collect();
        list.sort_by_key(|(id, _)| *id);
        list.into_iter().map(|(_, shown)| shown).collect()
    }

    /// Counts the bytes that have passed so far.
    pub(crate) fn count_bytes(&self) {
        for entry in self.open.lock().values() {
            entry.flow.count_bytes();
        }
    }
}

impl Cut {
    /// A connection that is being cut already keeps its first reason.
    fn wish(&self, reason: Reason) {
        let _ = self.reason.set(reason);
        self.wish.notify_one();
    }
}

/// Cuts what is half closed and silent, until the connections are nobody's any more.
pub(crate) async fn sweep(connections: Weak<Connections>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        let Some(connections) = connections.upgrade() else { return };
        connections.sweep(Instant::now());
    }
}

impl Tracked {
    /// Resolves when somebody wants the connection to end.
    pub(crate) async fn cut(&self) -> Reason {
        loop {
            if let Some(reason) = self.cut.reason.get() {
                return reason.clone();
            }
            self.cut.wish.notified().await;
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(connections: &Arc<Connections>, port: u16, judged: bool) -> Tracked {
        let source = SocketAddr::from(([10, 0, 0, 1], port));
        let shown =
            Shown { direction: Direction::Inbound, source, original: None, actual: String::new(), protocol: "TCP" };
        let judged = judged.then(|| Judged { peer: None, source, destination: SocketAddr::from(([10, 0, 0, 2], 80)) });
        connections.enter(shown, judged, Arc::new(crate::flow::Flow::untold()))
    }

    #[tokio::test]
    async fn only_what_is_judged_wrong_is_cut_and_what_ended_is_gone() {
        let connections = Arc::new(Connections::default());
        let (wrong, right, outbound) =
            (enter(&connections, 1, true), enter(&connections, 2, true), enter(&connections, 3, false));
        connections.judge(|judged| (judged.source.port() != 2).then(|| Reason::PolicyChanged("why".to_owned())));
        assert_eq!(wrong.cut().await, Reason::PolicyChanged("why".to_owned()));
        for other in [&right, &outbound] {
            assert!(futures_util::FutureExt::now_or_never(other.cut()).is_none());
        }
        assert_eq!(connections.shown().len(), 3);
        drop((wrong, right, outbound));
        assert!(connections.shown().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_half_closed_and_silent_ends_within_five_minutes() {
        let connections = Arc::new(Connections::default());
        let half = Arc::new(crate::flow::Flow::half_closed_for_test());
        let tracked = |flow: Arc<crate::flow::Flow>| {
            let source = SocketAddr::from(([10, 0, 0, 1], 1));
            let shown = Shown {
                direction: Direction::Outbound,
                source,
                original: None,
                actual: String::new(),
                protocol: "TCP",
            };
            connections.enter(shown, None, flow)
        };
        let (forgotten, whole) = (tracked(half), tracked(Arc::new(crate::flow::Flow::untold())));
        tokio::spawn(sweep(Arc::downgrade(&connections)));
        let begun = Instant::now();
        assert_eq!(forgotten.cut().await, Reason::HalfClosed);
        assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
        assert!(futures_util::FutureExt::now_or_never(whole.cut()).is_none(), "an open connection may be silent");
    }
}
