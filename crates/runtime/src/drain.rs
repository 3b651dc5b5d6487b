//! Bringing a process, or a part of it, to an end without cutting what is under way.
//!
//! One [`Drain`] starts it, any number of [`Watch`]es see it. It has two phases: *draining* (accept nothing new, tell peers,
//! let what is open finish) and, after a deadline, *forced* (cut what is left). Whoever has something open holds a
//! [`Guard`]; the drain is over when the last guard is gone.

use std::time::Duration;
use tokio::{sync::watch, time};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// How long forced work may take to let go of its guards.
const FORCED_GRACE: Duration = Duration::from_secs(1);

/// How far the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not yet begun.
    Running,
    /// Nothing new; what is open may finish.
    Draining,
    /// What is open is cut.
    Forced,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything finished by itself.
    Finished,
    /// The deadline passed and the rest was cut.
    Forced,
}

/// Starts the drain. Dropping it without starting one leaves the watches running for ever.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    open: TaskTracker,
}

/// Sees the drain and holds it open.
#[derive(Debug, Clone)]
pub struct Watch {
    phase: watch::Receiver<Phase>,
    open: TaskTracker,
}

/// Keeps the drain from being over while it lives.
#[derive(Debug)]
pub struct Guard {
    _token: TaskTrackerToken,
}

impl Drain {
    /// A drain that has not begun, and the watch to clone from.
    pub fn new() -> (Self, Watch) {
        let (phase, receiver) = watch::channel(Phase::Running);
        let open = TaskTracker::new();
        open.close();
        (Self { phase, open: open.clone() }, Watch { phase: receiver, open })
    }

    /// Another watch.
    pub fn watch(&self) -> Watch {
        Watch { phase: self.phase.subscribe(), open: self.open.clone() }
    }

    /// Begins; returns at once.
    pub fn start(&self) {
        self.enter(Phase::Draining);
    }

    /// Cuts what is open; returns at once.
    pub fn force(&self) {
        self.enter(Phase::Forced);
    }

    /// Begins, waits until everything has finished or the deadline passes, then cuts the rest.
    pub async fn finish(self, deadline: Duration) -> Outcome {
        self.start();
        if time::timeout(deadline, self.open.wait()).await.is_ok() {
            return Outcome::Finished;
        }
        tracing::warn!(left = self.open.len(), "drain deadline of {deadline:?} passed, forcefully shutting down");
        self.force();
        if time::timeout(FORCED_GRACE, self.open.wait()).await.is_err() {
            tracing::warn!(left = self.open.len(), "some connections did not end when they were cut");
        }
        Outcome::Forced
    }

    /// A phase is never left backwards.
    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = next > *phase;
            if later {
                *phase = next;
            }
            later
        });
    }
}

impl Watch {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Returns once the drain has begun.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns once what is open is to be cut.
    pub async fn forced(&self) {
        self.reached(Phase::Forced).await;
    }

    /// Holds the drain open.
    pub fn guard(&self) -> Guard {
        Guard { _token: self.open.token() }
    }

    /// Runs `work` under a guard; `None` if it was cut.
    pub async fn until_forced<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let _guard = self.guard();
        tokio::select! {
            biased;
            () = self.forced() => None,
            done = work => Some(done),
        }
    }

    async fn reached(&self, wanted: Phase) {
        let gone = self.phase.clone().wait_for(|phase| *phase >= wanted).await.is_err();
        if gone {
            // The drain was dropped without being started: nobody will ever ask.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn ends_when_the_last_guard_goes() {
        let (drain, watch) = Drain::new();
        let (close, closed) = oneshot::channel::<()>();
        let guard = watch.guard();
        tokio::spawn(async move {
            watch.draining().await;
            let _ = closed.await;
            drop(guard);
        });
        let end = tokio::spawn(drain.finish(Duration::from_secs(5)));
        close.send(()).unwrap();
        assert_eq!(end.await.unwrap(), Outcome::Finished);
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_what_is_left_at_the_deadline() {
        let (drain, watch) = Drain::new();
        let worker = watch.clone();
        let cut = tokio::spawn(async move { worker.until_forced(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        let begun = time::Instant::now();
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Outcome::Forced);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert_eq!(cut.await.unwrap(), None);
        assert_eq!(watch.phase(), Phase::Forced);
    }

    #[tokio::test]
    async fn a_phase_is_never_left_backwards() {
        let (drain, watch) = Drain::new();
        assert!(!watch.is_draining());
        drain.force();
        drain.start();
        assert_eq!(watch.phase(), Phase::Forced);
        watch.draining().await;
    }
}
