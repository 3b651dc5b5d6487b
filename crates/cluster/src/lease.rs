//! One of many leads: a Lease that its holder renews, and that others take when it lapses.
//!
//! Others' clocks are not trusted: a lease has lapsed when it has not changed for its whole duration by our own clock.

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
    /// An election with upstream's timing: 30 s, looked at every 7.5 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(30),
            retry: Duration::from_millis(7500),
        }
    }
}

/// Whether we lead. The lease is given up when this is dropped and [`Leadership::resign`] was called, else it lapses.
#[derive(Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
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
        *self.leads.borrow()
    }

    /// Follows whether we lead.
    pub fn follow(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Waits until we lead.
    pub async fn acquired(&self) {
        // The sender lives in the task, which ends with `self`.
        let _ = self.leads.clone().wait_for(|leads| *leads).await;
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

impl Client {
    /// Stands for election, and goes on doing so until the result is dropped.
    pub fn elect(&self, election: Election) -> Leadership {
        let (sender, leads) = watch::channel(false);
        let work = campaign(self.clone(), election.clone(), sender);
        let task = runtime::task::spawn("election", work).abort_handle();
        Leadership { leads, client: self.clone(), election, task }
    }
}

/// What was seen of a lease, and when by our own clock.
struct Seen {
    lease: Option<Lease>,
    at: Instant,
}

async fn campaign(client: Client, election: Election, leads: watch::Sender<bool>) {
    let mut seen = Seen { lease: None, at: Instant::now() };
    let mut renewed: Option<Instant> = None;
    loop {
        match attempt(&client, &election, &mut seen).await {
            Ok(true) => renewed = Some(Instant::now()),
            Ok(false) => renewed = None,
            Err(error) => tracing::warn!(lease = election.name, %error, "cannot renew the lease, will try again"),
        }
        // Without an answer we lead on only as long as nobody else may have begun to.
        let safe = election.duration.saturating_sub(election.retry);
        let leading = renewed.is_some_and(|renewed| renewed.elapsed() < safe);
        if leads.send_replace(leading) != leading {
            tracing::info!(lease = election.name, identity = election.identity, leading, "leadership changed");
        }
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
