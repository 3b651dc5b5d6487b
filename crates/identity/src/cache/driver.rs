//! The task that asks for certificates: starts what the schedule says is due, and publishes how it ended.

use super::{CertificateState, FetchError, Shared, schedule::Attempt};
use crate::certificate::WorkloadCertificate;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use jiff::Timestamp;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Renewals are spread over this share of a certificate's life around its half, so that a fleet started at once does not
/// come back at once.
const RENEWAL_SPREAD: f64 = 0.1;

type Finished = (Attempt, Result<WorkloadCertificate, FetchError>);

pub(super) async fn run(shared: Arc<Shared>) {
    let mut running = FuturesUnordered::new();
    loop {
        let (attempts, next) = {
            let mut inner = shared.inner.lock();
            (inner.schedule.start(Instant::now()), inner.schedule.next())
        };
        running.extend(attempts.into_iter().map(|attempt| ask(&shared, attempt)));
        // A moment that never comes stands for "nothing scheduled".
        let wait = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = sleep_until(wait) => {}
            Some(finished) = running.next() => settle(&shared, finished),
        }
    }
}

async fn ask(shared: &Shared, attempt: Attempt) -> Finished {
    let answer = AssertUnwindSafe(async { shared.source.fetch(&attempt.identity).await }).catch_unwind().await;
    (attempt, answer.unwrap_or(Err(FetchError::Panicked)))
}

fn settle(shared: &Shared, (attempt, answer): Finished) {
    let (now, wall) = (Instant::now(), shared.clock.now());
    let mut inner = shared.inner.lock();
    let inner = &mut *inner;
    let outcome = inner.outcomes.get(&attempt.identity);
    let state = match answer {
        Ok(certificate) => {
            tracing::debug!(identity = %attempt.identity, serial = certificate.chain()[0].serial, "certificate received");
            let renewal = now + until_renewal(&certificate, wall, rand::random_range(-0.5..=0.5));
            inner.schedule.succeeded(&attempt, renewal).then(|| CertificateState::Available(Arc::new(certificate)))
        }
        Err(error) => {
            let held = outcome.and_then(|outcome| match &outcome.borrow().state {
                CertificateState::Available(certificate) => Some(certificate.validity().not_after),
                _ => None,
            });
            let left =
                held.and_then(|end| Duration::try_from(end.duration_since(wall)).ok()).filter(|left| !left.is_zero());
            tracing::warn!(identity = %attempt.identity, still_valid = left.is_some(), "certificate not received: {error}");
            let wanted =
                inner.schedule.failed(&attempt, now, left.map(|left| now + left), rand::random_range(-1.0..=1.0));
            (wanted && left.is_none()).then(|| CertificateState::Unavailable(Arc::new(error)))
        }
    };
    if let (Some(outcome), Some(state)) = (outcome, state) {
        if matches!(state, CertificateState::Available(_)) {
            shared.changed.send_modify(|count| *count += 1);
        }
        outcome.send_modify(|outcome| {
            outcome.attempts += 1;
            outcome.state = state;
        });
    }
}

/// How long until a certificate is renewed: around half its life; `spread` is a random number from -0.5 to 0.5.
pub(super) fn until_renewal(certificate: &WorkloadCertificate, now: Timestamp, spread: f64) -> Duration {
    let validity = certificate.validity();
    let half: f64 = validity.half_life().duration_since(now).as_secs_f64();
    let seconds = half + spread * RENEWAL_SPREAD * validity.length().as_secs_f64();
    // A certificate that is past its half when it arrives is asked for again, but not in a loop.
    Duration::from_secs_f64(seconds.max(1.0))
}
