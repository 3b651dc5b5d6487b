//! Whether this replica is the one that does a piece of work that only one may do (control-plane A18).
//!
//! Each controller has a lease of its own, named as upstream's, so that replicas share the work and a stuck controller
//! of one replica is no other controller's concern.

use cluster::{Client, Election, Leadership, Term, holds};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// What only one replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Root certificates in every namespace.
    Roots,
    /// Status of policies and services.
    Status,
    /// Gateways, what is deployed for them, and their status.
    Gateways,
    /// Addresses of service entries.
    Addresses,
    /// Taints of nodes whose agent is ready.
    Untaint,
    /// Roots in the configuration of our webhook.
    Webhook,
}

impl Work {
    /// The lease that is contended for. Revisions deploy their own gateways.
    fn lease(self, revision: &str) -> String {
        let name = match self {
            Self::Roots => "istio-namespace-controller-election",
            Self::Status => "istio-status-leader",
            Self::Gateways => "istio-gateway-deployment",
            Self::Addresses => "istio-ip-autoallocate",
            Self::Untaint => "istio-node-untaint",
            Self::Webhook => "istio-webhook-ca",
        };
        match revision {
            "" | "default" => name.to_owned(),
            revision if self == Self::Gateways => format!("{name}-{revision}"),
            _ => name.to_owned(),
        }
    }
}

/// Whether this replica does a piece of work, as its parts see it. Clones share it.
#[derive(Debug, Clone)]
pub struct Leader {
    term: Option<watch::Receiver<Term>>,
}

/// What makes this replica lead or not; leases are given up with [`Standing::resign`].
#[derive(Debug)]
pub struct Standing(Option<Candidate>);

#[derive(Debug)]
struct Candidate {
    client: Client,
    namespace: String,
    revision: String,
    identity: String,
    held: Arc<Mutex<Vec<Leadership>>>,
}

impl Standing {
    /// Stands for election with the other replicas.
    pub fn elect(client: &Client, namespace: &str, revision: &str, identity: &str) -> Self {
        let [namespace, revision, identity] = [namespace, revision, identity].map(str::to_owned);
        Self(Some(Candidate { client: client.clone(), namespace, revision, identity, held: Arc::default() }))
    }

    /// The only replica.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Stands for a piece of work.
    pub fn leader(&self, work: Work) -> Leader {
        let Some(candidate) = &self.0 else { return Leader { term: None } };
        let lease = work.lease(&candidate.revision);
        let leadership = candidate.client.elect(Election::new(&candidate.namespace, lease, &candidate.identity));
        let term = leadership.follow();
        candidate.held.lock().push(leadership);
        Leader { term: Some(term) }
    }

    /// Lets other replicas lead at once, instead of when the leases have lapsed.
    pub async fn resign(self) {
        let Some(candidate) = self.0 else { return };
        let held = std::mem::take(&mut *candidate.held.lock());
        for resigned in futures_util::future::join_all(held.into_iter().map(Leadership::resign)).await {
            if let Err(error) = resigned {
                tracing::warn!("giving a lease up: {error}");
            }
        }
    }
}

impl Leader {
    /// Leads whatever others do.
    pub fn always() -> Self {
        Self { term: None }
    }

    /// Whether this replica writes. Asked right before each write: it is no longer so the moment the term ends, even if
    /// this process was stopped meanwhile.
    pub fn leads(&self) -> bool {
        self.term.as_ref().is_none_or(|term| holds(*term.borrow()))
    }

    /// Waits until this replica writes.
    pub async fn acquired(&mut self) {
        let Some(term) = &mut self.term else { return };
        if term.wait_for(|term| holds(*term)).await.is_err() {
            // The standing is gone, which is so only while the process ends: never again.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gateways_are_a_revisions_own() {
        assert_eq!(Work::Gateways.lease("default"), "istio-gateway-deployment");
        assert_eq!(Work::Gateways.lease("canary"), "istio-gateway-deployment-canary");
        assert_eq!(Work::Status.lease("canary"), "istio-status-leader");
    }
}
