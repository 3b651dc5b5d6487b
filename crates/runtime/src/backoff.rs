//! Waiting longer after each failure, and not all at once.
//!
//! A value, not a timer: [`Backoff::next_delay`] says how long to wait, the caller waits.

use rand::RngExt;
use std::time::Duration;

/// Delays that double from a first step up to a cap.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    jitter: f64,
    step: Duration,
}

impl Backoff {
    /// Doubles from `first` up to `cap`, without jitter.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, jitter: 0.0, step: first }
    }

    /// Spreads each delay by up to this share in both directions, so that a fleet does not come back in one wave.
    #[must_use]
    pub fn with_jitter(mut self, share: f64) -> Self {
        self.jitter = share.clamp(0.0, 1.0);
        self
    }

    /// The next delay; the one after it is twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.step;
        self.step = self.step.saturating_mul(2).min(self.cap);
        if self.jitter == 0.0 {
            return delay;
        }
        delay.mul_f64(1.0 + self.jitter * rand::rng().random_range(-1.0..=1.0))
    }

    /// Begins again at the first step: the thing worked.
    pub fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_and_begins_again() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        let delays: Vec<_> = (0..4).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [10, 20, 35, 35]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_millis(10));
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).with_jitter(0.2);
        for _ in 0..100 {
            let delay = backoff.next_delay();
            assert!((0.8..=1.2).contains(&delay.as_secs_f64()), "{delay:?}");
        }
    }
}
