//! Time that a test can hold in its hand.
//!
//! A [`Clock`] gives the wall clock as a [`Timestamp`]; monotonic time is tokio's, which tests pause by themselves.
//! Waiting for a moment of the wall clock ([`Clock::sleep_until`]) looks at the clock again and again, because it may be set
//! forwards or backwards while one sleeps.

use jiff::Timestamp;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time::Instant};

/// How long a sleeper trusts the system's clock before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Where the time comes from. Cheap to clone; clones of a manual clock share its hand.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<watch::Sender<Timestamp>>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that moves only when told to.
    pub fn manual(now: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(now))))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(hand) => *hand.borrow(),
        }
    }

    /// The time of day as the standard library has it.
    pub fn system_time(&self) -> SystemTime {
        self.now().into()
    }

    /// Monotonic time, for measuring.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Sets a manual clock; the machine's clock is not ours to set, so there it does nothing.
    pub fn set(&self, now: Timestamp) {
        if let Source::Manual(hand) = &self.0 {
            hand.send_replace(now);
        }
    }

    /// Moves a manual clock forwards.
    pub fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }

    /// Returns once the wall clock shows `moment` or later.
    pub async fn sleep_until(&self, moment: Timestamp) {
        match &self.0 {
            Source::System => {
                while let Some(left) = positive(Timestamp::now(), moment) {
                    tokio::time::sleep(left.min(LOOK_AGAIN)).await;
                }
            }
            Source::Manual(hand) => {
                // The sender lives in `self`, so the wait cannot fail.
                let _ = hand.subscribe().wait_for(|now| *now >= moment).await;
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// The time from `now` to `moment`, if it lies ahead.
fn positive(now: Timestamp, moment: Timestamp) -> Option<Duration> {
    Duration::try_from(moment.duration_since(now)).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_it_is_moved() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let sleeper = clock.clone();
        let mut sleep = Box::pin(sleeper.sleep_until(Timestamp::UNIX_EPOCH + Duration::from_secs(10)));
        assert!(sleep.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_secs(9));
        assert!(sleep.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH + Duration::from_secs(10));
    }

    #[tokio::test]
    async fn the_past_is_not_waited_for() {
        let clock = Clock::system();
        clock.sleep_until(clock.now() - Duration::from_secs(1)).await;
    }
}
