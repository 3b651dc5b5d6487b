//! Every certificate that a process speaks with: asked for once per identity, renewed at half life, kept through failures.
//!
//! [`Certificates`] is shared by all threads; a hit is a look-up and a reference count. One driver task asks the
//! [`CertificateSource`], several identities at a time, in the order of [`schedule`]. A renewal that fails costs nothing while
//! the old certificate holds; a connection that waits after a failure causes the next attempt early, but not more often than
//! once a second.

mod driver;
mod legacy;
mod schedule;

pub use legacy::LegacyError;
pub use schedule::Priority;

use crate::{
    certificate::{WorkloadCertificate, WorkloadCertificateError},
    csr::SigningRequestError,
    issuer::IssuerError,
};
use futures_util::future::BoxFuture;
use model::Identity;
use parking_lot::Mutex;
use runtime::clock::Clock;
use schedule::Schedule;
use std::{collections::HashMap, fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Attempts at a time.
pub const CONCURRENCY: usize = 8;

/// Where certificates come from.
pub trait CertificateSource: Send + Sync {
    /// A new certificate of `identity`.
    fn fetch<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<WorkloadCertificate, FetchError>>;
}

/// Why an attempt to get a certificate failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request could not be made.
    #[error(transparent)]
    Request(#[from] SigningRequestError),
    /// The authority refused, or was not reached.
    #[error("the certificate authority refused: {code:?}: {message}")]
    Refused {
        /// gRPC's code.
        code: tonic::Code,
        /// Its text.
        message: String,
    },
    /// The authority did not answer.
    #[error("the certificate authority did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The answer is not a certificate of ours.
    #[error(transparent)]
    Answer(#[from] WorkloadCertificateError),
    /// Our own authority did not sign.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The source failed in a way it should not.
    #[error("asking for a certificate ended in a panic, which is a defect")]
    Panicked,
}

/// Why there is no certificate to speak with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CertificateError {
    /// The last attempt failed.
    #[error("no certificate for {identity}: {reason}")]
    Unavailable {
        /// Whose.
        identity: Identity,
        /// Why.
        reason: Arc<FetchError>,
    },
    /// The identity left the node while one waited.
    #[error("no certificate for {0}: no workload of this identity is left here")]
    Forgotten(Identity),
}

/// How an identity's certificate stands.
#[derive(Debug, Clone)]
pub enum CertificateState {
    /// The first attempt is not finished.
    Initializing(Priority),
    /// There is one. It may have ended, if renewals fail and nobody asked.
    Available(Arc<WorkloadCertificate>),
    /// There is none; the last attempt failed.
    Unavailable(Arc<FetchError>),
}

impl fmt::Display for CertificateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initializing(_) => f.write_str("Initializing"),
            Self::Available(_) => f.write_str("Available"),
            Self::Unavailable(reason) => write!(f, "Unavailable: {reason}"),
        }
    }
}

/// A state, and after how many attempts it came to be.
#[derive(Debug)]
struct Outcome {
    attempts: u64,
    state: CertificateState,
}

struct Inner {
    schedule: Schedule,
    outcomes: HashMap<Identity, watch::Sender<Outcome>>,
}

struct Shared {
    inner: Mutex<Inner>,
    wake: Notify,
    /// Counts certificates that came or went.
    changed: watch::Sender<u64>,
    source: Arc<dyn CertificateSource>,
    clock: Clock,
}

/// The certificates of a process. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Certificates(Arc<Shared>);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({} identities)", self.0.inner.lock().outcomes.len())
    }
}

/// What a look-up found.
enum Found {
    Hit(Arc<WorkloadCertificate>),
    Failed(Arc<FetchError>),
    Wait(watch::Receiver<Outcome>, u64),
}

impl Certificates {
    /// The cache and its driver, which must be polled (spawned) for anything to be asked for.
    pub fn new(source: Arc<dyn CertificateSource>, clock: Clock) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let inner = Inner { schedule: Schedule::new(CONCURRENCY), outcomes: HashMap::new() };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            wake: Notify::new(),
            changed: watch::Sender::new(0),
            source,
            clock,
        });
        (Self(shared.clone()), driver::run(shared))
    }

    /// The certificate of an identity: the present one, or the outcome of the attempt that this call causes or joins.
    /// Callers bound the wait.
    pub async fn get(&self, identity: &Identity) -> Result<Arc<WorkloadCertificate>, CertificateError> {
        let unavailable = |reason| CertificateError::Unavailable { identity: identity.clone(), reason };
        let (mut outcomes, seen) = match self.find(identity) {
            Found::Hit(certificate) => return Ok(certificate),
            Found::Failed(reason) => return Err(unavailable(reason)),
            Found::Wait(outcomes, seen) => (outcomes, seen),
        };
        let outcome = outcomes.wait_for(|outcome| outcome.attempts > seen).await;
        match outcome.map(|outcome| outcome.state.clone()) {
            Ok(CertificateState::Available(certificate)) => Ok(certificate),
            Ok(CertificateState::Unavailable(reason)) => Err(unavailable(reason)),
            // The sender goes when the identity is forgotten.
            Ok(CertificateState::Initializing(_)) | Err(_) => Err(CertificateError::Forgotten(identity.clone())),
        }
    }

    /// The present certificate, if there is one that holds; asks for nothing.
    pub fn present(&self, identity: &Identity) -> Option<Arc<WorkloadCertificate>> {
        let inner = self.0.inner.lock();
        match &inner.outcomes.get(identity)?.borrow().state {
            CertificateState::Available(certificate) => self.0.holding(certificate),
            _ => None,
        }
    }

    /// Asks for a certificate ahead of need; returns at once.
    pub fn prefetch(&self, identity: &Identity) {
        let mut inner = self.0.inner.lock();
        if !inner.outcomes.contains_key(identity) {
            inner.want(identity, Priority::Warmup);
            self.0.wake.notify_one();
        }
    }

    /// Forgets an identity; an answer under way is discarded and those who wait are told.
    pub fn forget(&self, identity: &Identity) {
        let mut inner = self.0.inner.lock();
        inner.schedule.forget(identity);
        if inner.outcomes.remove(identity).is_some() {
            self.0.changed.send_modify(|count| *count += 1);
        }
    }

    /// Every identity and how it stands, in order.
    pub fn dump(&self) -> Vec<(Identity, CertificateState)> {
        let inner = self.0.inner.lock();
        let mut states: Vec<_> = inner
            .outcomes
            .iter()
            .map(|(identity, outcome)| (identity.clone(), outcome.borrow().state.clone()))
            .collect();
        states.sort_by(|(one, _), (other, _)| one.cmp(other));
        states
    }

    fn find(&self, identity: &Identity) -> Found {
        let mut inner = self.0.inner.lock();
        let mut failed = None;
        if let Some(outcome) = inner.outcomes.get(identity) {
            match &outcome.borrow().state {
                CertificateState::Available(certificate) => {
                    if let Some(certificate) = self.0.holding(certificate) {
                        return Found::Hit(certificate);
                    }
                }
                CertificateState::Unavailable(reason) => failed = Some(reason.clone()),
                CertificateState::Initializing(_) => {}
            }
        }
        let (outcomes, due) = inner.want(identity, Priority::RealTime);
        self.0.wake.notify_one();
        match failed {
            // Failed a moment ago: the answer would be the same, and the next attempt is on its way.
            Some(reason) if due.is_some_and(|due| due > Instant::now()) => Found::Failed(reason),
            _ => {
                let seen = outcomes.borrow().attempts;
                Found::Wait(outcomes, seen)
            }
        }
    }
}

impl Inner {
    /// Schedules an identity, and gives where its outcome will show and when its attempt begins unless it runs.
    fn want(&mut self, identity: &Identity, priority: Priority) -> (watch::Receiver<Outcome>, Option<Instant>) {
        self.schedule.want(identity, priority, Instant::now());
        let sender = self.outcomes.entry(identity.clone()).or_insert_with(|| {
            watch::Sender::new(Outcome { attempts: 0, state: CertificateState::Initializing(priority) })
        });
        sender.send_if_modified(|outcome| {
            if let CertificateState::Initializing(present) = &mut outcome.state {
                *present = priority.max(*present);
            }
            false
        });
        (sender.subscribe(), self.schedule.due(identity))
    }
}

impl Shared {
    fn holding(&self, certificate: &Arc<WorkloadCertificate>) -> Option<Arc<WorkloadCertificate>> {
        (certificate.validity().not_after >= self.clock.now()).then(|| certificate.clone())
    }
}

#[cfg(test)]
mod tests;
