//! One of many leads: a Lease that its holder renews, and that others take when it lapses.
//!
//! Others' clocks are not trusted: a lease has lapsed when it has not changed for its whole duration by our own clock.
//! Nor is our own attention: whoever leads knows until when, and a process that was stopped past that time leads no more
//! from its first instruction on, before it has asked anybody.

use std::time::Duration;

use api::{Lease, MicroTime, ObjectMeta, Resource};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Result;

/// Which lease, for whom, and how it is kept.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who we are; unique among the candidates.
    pub identity: String,
    /// For how long a lease holds without renewal.
    pub duration: Duration,
    /// How often it is renewed, and how often others look at it.
    pub retry: Duration,
}

impl Election {
    /// An election that is decided anew within 15 s of a leader's sudden end: 10 s, looked at every 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Until when we lead, whatever happens; none when we do not.
pub type Term = Option<Instant>;

/// Whether we lead. The lease is given up when this is dropped and [`Leadership::resign`] was called, else it lapses.
#[derive(Debug)]
pub struct Leadership {
    term: watch::Receiver<Term>,
    client: Client,
    election: Election,
    task: tokio::task::AbortHandle,
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Leadership {
    /// Whether we lead now.
    pub fn is_leader(&self) -> bool {
        holds(*self.term.borrow())
    }

    /// Follows until when we lead; each renewal moves it on.
    pub fn follow(&self) -> watch::Receiver<Term> {
        self.term.clone()
    }

    /// Waits until we lead.
    pub async fn acquired(&self) {
        // The sender lives in the task, which ends with `self`.
        let _ = self.term.clone().wait_for(|term| holds(*term)).await;
    }

    /// Gives the lease up, so that another can lead at once.
    pub async fn resign(self) -> Result<()> {
        self.task.abort();
        if !self.is_leader() {
            return Ok(());
        }
        let Some(mut lease) = self.client.find::<Lease>(&self.election.namespace, &self.election.name).await? else {
            return Ok(());
        };
        if lease.spec.holder_identity != self.election.identity {
            return Ok(());
        }
        lease.spec.holder_identity.clear();
        lease.spec.lease_duration_seconds = Some(1);
        self.client.replace(&lease).await.map(drop)
    }
}

/// Whether a term has not ended.
pub fn holds(term: Term) -> bool {
    term.is_some_and(|end| Instant::now() < end)
}

impl Client {
    /// Stands for election, and goes on doing so until the result is dropped.
    pub fn elect(&self, election: Election) -> Leadership {
        let (sender, term) = watch::channel(None);
        let work = campaign(self.clone(), election.clone(), sender);
        let task = runtime::task::spawn("election", work).abort_handle();
        Leadership { term, client: self.clone(), election, task }
    }
}

/// What was seen of a lease, and when by our own clock.
struct Seen {
    lease: Option<Lease>,
    at: Instant,
}

async fn campaign(client: Client, election: Election, term: watch::Sender<Term>) {
    let mut seen = Seen { lease: None, at: Instant::now() };
    // Others wait for the whole duration after they saw the renewal, which is after we asked for it.
    let safe = election.duration.saturating_sub(election.retry);
    let mut led = false;
    loop {
        let asked = Instant::now();
        match attempt(&client, &election, &mut seen).await {
            Ok(true) => drop(term.send_replace(Some(asked + safe))),
            Ok(false) => drop(term.send_replace(None)),
            // Without an answer the term ends when it ends.
            Err(error) => tracing::warn!(lease = election.name, %error, "cannot renew the lease, will try again"),
        }
        let leading = holds(*term.borrow());
        if leading != led {
            tracing::info!(lease = election.name, identity = election.identity, leading, "leadership changed");
        }
        led = leading;
        tokio::time::sleep(election.retry).await;
    }
}

/// Takes or renews the lease; `false` when somebody else has it.
async fn attempt(client: &Client, election: &Election, seen: &mut Seen) -> Result<bool> {
    let current: Option<Lease> = client.find(&election.namespace, &election.name).await?;
    if current != seen.lease {
        *seen = Seen { lease: current.clone(), at: Instant::now() };
    }
    let written = match current {
        None => client.create(&claim(election, None, Timestamp::now())).await,
        Some(lease) if may_take(&lease, election, seen.at.elapsed()) => {
            client.replace(&claim(election, Some(lease), Timestamp::now())).await
        }
        Some(_) => return Ok(false),
    };
    match written {
        Ok(lease) => {
            *seen = Seen { lease: Some(lease), at: Instant::now() };
            Ok(true)
        }
        Err(error) if error.is_conflict() || error.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the lease is ours, free, or has not changed for its whole duration.
fn may_take(lease: &Lease, election: &Election, unchanged_for: Duration) -> bool {
    let holder = &lease.spec.holder_identity;
    let seconds = lease.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(election.duration, Duration::from_secs);
    holder.is_empty() || *holder == election.identity || unchanged_for >= duration
}

/// The lease as we want it.
fn claim(election: &Election, current: Option<Lease>, now: Timestamp) -> Lease {
    let mut lease = current.unwrap_or_else(|| Lease {
        metadata: ObjectMeta::named(&election.namespace, &election.name),
        ..Lease::default()
    });
    let taken = lease.spec.holder_identity != election.identity;
    if taken {
        if !lease.metadata().resource_version.is_empty() {
            lease.spec.lease_transitions = Some(lease.spec.lease_transitions.unwrap_or(0) + 1);
        }
        lease.spec.acquire_time = Some(MicroTime(now));
        lease.spec.holder_identity.clone_from(&election.identity);
    }
    lease.spec.lease_duration_seconds = Some(i32::try_from(election.duration.as_secs()).unwrap_or(i32::MAX));
    lease.spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn lease(holder: &str) -> Lease {
        let mut lease = Lease { metadata: ObjectMeta::named("a", "b"), ..Lease::default() };
        lease.metadata.resource_version = "1".into();
        lease.spec.holder_identity = holder.into();
        lease.spec.lease_duration_seconds = Some(30);
        lease
    }

    #[rstest]
    #[case("me", 0, true)]
    #[case("", 0, true)]
    #[case("other", 29, false)]
    #[case("other", 30, true)]
    fn a_lease_is_taken_when_it_is_free(#[case] holder: &str, #[case] unchanged: u64, #[case] taken: bool) {
        let election = Election::new("a", "b", "me");
        assert_eq!(may_take(&lease(holder), &election, Duration::from_secs(unchanged)), taken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_without_anybody_saying_so() {
        let term = Some(Instant::now() + Duration::from_secs(8));
        assert!(holds(term) && !holds(None));
        tokio::time::advance(Duration::from_secs(8)).await;
        assert!(!holds(term));
    }

    #[test]
    fn taking_over_counts_and_renewing_does_not() {
        let election = Election::new("a", "b", "me");
        let now = Timestamp::UNIX_EPOCH;
        let taken = claim(&election, Some(lease("other")), now);
        assert_eq!((taken.spec.lease_transitions, taken.spec.acquire_time), (Some(1), Some(MicroTime(now))));
        let later = now + Duration::from_secs(5);
        let renewed = claim(&election, Some(taken), later);
        assert_eq!((renewed.spec.lease_transitions, renewed.spec.acquire_time), (Some(1), Some(MicroTime(now))));
        assert_eq!(renewed.spec.renew_time, Some(MicroTime(later)));
        assert_eq!(claim(&election, None, now).spec.lease_transitions, None);
    }
}
