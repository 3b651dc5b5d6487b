//! Whether this replica is the one that writes.

use cluster::{Client, Election, Leadership};
use std::sync::Arc;
use tokio::sync::watch;

/// Which lease the replicas contend for.
const LEASE: &str = "istio-leader";

/// This replica's standing. Clones share it.
#[derive(Debug, Clone)]
pub struct Leader {
    leads: watch::Receiver<bool>,
    /// Keeps the candidacy (or the constant) alive.
    _standing: Arc<Standing>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "held for what dropping them does")]
enum Standing {
    Elected(Leadership),
    Alone(watch::Sender<bool>),
}

impl Leader {
    /// Stands for election with the other replicas.
    pub fn elect(client: &Client, namespace: &str, identity: &str) -> Self {
        let leadership = client.elect(Election::new(namespace, LEASE, identity));
        Self { leads: leadership.follow(), _standing: Arc::new(Standing::Elected(leadership)) }
    }

    /// The only replica.
    pub fn alone() -> Self {
        let (sender, leads) = watch::channel(true);
        Self { leads, _standing: Arc::new(Standing::Alone(sender)) }
    }

    /// Whether this replica writes.
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Waits until this replica writes.
    pub async fn acquired(&mut self) {
        // The sender lives as long as `self`.
        let _ = self.leads.wait_for(|leads| *leads).await;
    }
}
