//! Whether this replica is the one that writes.

use cluster::{Client, Election, Leadership};
use tokio::sync::watch;

/// Which lease the replicas contend for.
const LEASE: &str = "istio-leader";

/// Whether this replica writes, as its parts see it. Clones share it.
#[derive(Debug, Clone)]
pub struct Leader {
    leads: watch::Receiver<bool>,
}

/// What makes this replica lead or not; the lease is given up with [`Standing::resign`].
#[derive(Debug)]
pub struct Standing(Candidacy);

#[derive(Debug)]
enum Candidacy {
    Elected(Box<Leadership>),
    Alone(watch::Sender<bool>),
}

impl Standing {
    /// Stands for election with the other replicas.
    pub fn elect(client: &Client, namespace: &str, identity: &str) -> Self {
        Self(Candidacy::Elected(Box::new(client.elect(Election::new(namespace, LEASE, identity)))))
    }

    /// The only replica.
    pub fn alone() -> Self {
        Self(Candidacy::Alone(watch::Sender::new(true)))
    }

    /// What its parts are told.
    pub fn leader(&self) -> Leader {
        Leader {
            leads: match &self.0 {
                Candidacy::Elected(leadership) => leadership.follow(),
                Candidacy::Alone(sender) => sender.subscribe(),
            },
        }
    }

    /// Lets another replica lead at once, instead of when the lease has lapsed.
    pub async fn resign(self) {
        if let Candidacy::Elected(leadership) = self.0
            && let Err(error) = leadership.resign().await
        {
            tracing::warn!("giving the lease {LEASE} up: {error}");
        }
    }
}

impl Leader {
    /// Whether this replica writes.
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Waits until this replica writes.
    pub async fn acquired(&mut self) {
        if self.leads.wait_for(|leads| *leads).await.is_err() {
            // The standing is gone, which is so only while the process ends: never again.
            std::future::pending().await
        }
    }
}
