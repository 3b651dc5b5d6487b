//! What is known of one endpoint: requests under way, failures in a row, and whether it is left alone for a while.

use crate::destination::Outliers;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::time::Instant;

/// How one attempt ended, as far as the endpoint is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response below 500.
    Good,
    /// A response of 500 or more that the application made.
    ServerError,
    /// 502, 503, 504, or no connection, or no response.
    GatewayError,
}

impl Outcome {
    /// What a status says.
    pub fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayError,
            500.. => Self::ServerError,
            _ => Self::Good,
        }
    }
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub struct Health {
    active: AtomicU32,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    errors: u32,
    gateway_errors: u32,
    ejections: u32,
    until: Option<Instant>,
}

/// A request under way.
#[derive(Debug)]
pub struct Busy(std::sync::Arc<Health>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl Health {
    /// Counts a request for as long as the result lives.
    pub fn begin(self: &std::sync::Arc<Self>) -> Busy {
        self.active.fetch_add(1, Relaxed);
        Busy(self.clone())
    }

    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Whether it is left alone now.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.record.lock().until.is_some_and(|until| now < until)
    }

    /// Takes note of an attempt; whether the endpoint is left alone from now on. `room` says whether one more may be.
    pub fn note(&self, outcome: Outcome, outliers: &Outliers, now: Instant, room: impl FnOnce() -> bool) -> bool {
        let mut record = self.record.lock();
        match outcome {
            Outcome::Good => {
                (record.errors, record.gateway_errors) = (0, 0);
                return false;
            }
            Outcome::ServerError => {
                record.errors += 1;
                record.gateway_errors = 0;
            }
            Outcome::GatewayError => {
                record.errors += 1;
                record.gateway_errors += 1;
            }
        }
        let reached = |limit: Option<u32>, count: u32| limit.is_some_and(|limit| count >= limit);
        let too_many =
            reached(outliers.errors, record.errors) || reached(outliers.gateway_errors, record.gateway_errors);
        if !too_many || record.until.is_some_and(|until| now < until) || !room() {
            return false;
        }
        record.ejections += 1;
        record.until = Some(now + outliers.base * record.ejections);
        (record.errors, record.gateway_errors) = (0, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn outliers() -> Outliers {
        Outliers {
            errors: Some(3),
            gateway_errors: None,
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            max_percent: 100,
            min_health_percent: 0,
        }
    }

    #[test]
    fn failures_in_a_row_take_an_endpoint_out_for_longer_each_time() {
        let (health, now) = (Health::default(), Instant::now());
        let fail = |now| health.note(Outcome::ServerError, &outliers(), now, || true);
        assert!(!fail(now) && !fail(now));
        health.note(Outcome::Good, &outliers(), now, || true);
        assert!(!fail(now) && !fail(now) && fail(now));
        assert!(health.is_ejected(now + Duration::from_secs(29)));
        let later = now + Duration::from_secs(30);
        assert!(!health.is_ejected(later));
        assert!(!fail(later) && !fail(later) && fail(later));
        assert!(health.is_ejected(later + Duration::from_secs(59)));
    }

    #[test]
    fn nobody_is_taken_out_beyond_the_share() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..9 {
            assert!(!health.note(Outcome::GatewayError, &outliers(), now, || false));
        }
        assert!(!health.is_ejected(now));
    }
}
