//! Watches of everything that the mesh is made of, as one stream of changes.
//!
//! Kinds that an installation brings itself may be missing from a cluster; one that is missing is not waited for, and
//! followed from the moment it appears. One that exists is waited for, policies above all: to serve without them would
//! be to let everybody in.

use crate::{discovery::Discovery, resolve::Kind};
use cluster::{Change, Client, ObjectKey, Rejected, Scope};
use std::{future::Future, pin::Pin, time::Duration};
use telemetry::metrics::control::Watching;
use tokio::sync::{mpsc, oneshot};

/// One change, ready to be made.
pub type Edit = Box<dyn FnOnce(&mut Discovery) + Send>;

/// How long to wait before asking again whether a kind exists.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The watches, and whether each has seen everything there is.
#[allow(missing_debug_implementations, reason = "a list of futures")]
pub struct Sources {
    client: Client,
    edits: mpsc::Sender<Edit>,
    metrics: Watching,
    synced: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Sources {
    /// No watch yet; changes go to `edits`.
    pub fn new(client: Client, edits: mpsc::Sender<Edit>, metrics: Watching) -> Self {
        Self { client, edits, metrics, synced: Vec::new() }
    }

    /// Follows a kind that every cluster has.
    #[must_use]
    pub fn follow<T: Kind>(mut self) -> Self {
        let synced = self.forward::<T>();
        self.synced.push(Box::pin(async move { synced.await.unwrap_or(()) }));
        self
    }

    /// Follows a kind that a cluster may lack.
    #[must_use]
    pub fn follow_if_known<T: Kind>(mut self) -> Self {
        let synced = self.forward::<T>();
        let client = self.client.clone();
        self.synced.push(Box::pin(async move {
            tokio::select! {
                _ = synced => {}
                () = missing::<T>(&client) => tracing::info!(kind = T::KIND, "the cluster does not have this kind"),
            }
        }));
        self
    }

    /// The result is told once everything there is has been handed to `edits`.
    fn forward<T: Kind>(&self) -> oneshot::Receiver<()> {
        let mut changes = self.client.watch::<T>(Scope::all()).changes();
        let (edits, metrics) = (self.edits.clone(), self.metrics.clone());
        let (done, synced) = oneshot::channel();
        let mut done = Some(done);
        runtime::task::spawn("source", async move {
            loop {
                let edit: Edit = match changes.next().await {
                    Change::Applied(object) => {
                        count::<T>(&metrics, "update");
                        metrics.unreadable.forget(&[T::KIND, object.namespace(), object.name()]);
                        Box::new(move |discovery| discovery.set(object))
                    }
                    Change::Deleted(object) => {
                        count::<T>(&metrics, "delete");
                        metrics.unreadable.forget(&[T::KIND, object.namespace(), object.name()]);
                        Box::new(move |discovery| discovery.remove::<T>(object.namespace(), object.name()))
                    }
                    Change::Rejected(rejected) => {
                        metrics.rejected.add(&[T::KIND]);
                        metrics.unreadable.set(&named::<T>(&rejected.key), 1);
                        Box::new(move |discovery| reject::<T>(discovery, &rejected))
                    }
                    Change::Withdrawn(key) => {
                        count::<T>(&metrics, "delete");
                        metrics.unreadable.forget(&named::<T>(&key));
                        Box::new(move |discovery| discovery.remove::<T>(&key.namespace, &key.name))
                    }
                    Change::Synced => {
                        let _ = done.take().map(|done| done.send(()));
                        continue;
                    }
                };
                if edits.send(edit).await.is_err() {
                    return;
                }
            }
        });
        synced
    }

    /// Waits until every watch has seen everything there is.
    pub async fn synced(self) {
        for synced in self.synced {
            synced.await;
        }
    }
}

fn named<T: Kind>(key: &ObjectKey) -> [&str; 3] {
    [T::KIND, &key.namespace, &key.name]
}

fn reject<T: Kind>(discovery: &mut Discovery, rejected: &Rejected) {
    discovery.reject::<T>(&rejected.key.namespace, &rejected.key.name, rejected.error.clone(), &rejected.value);
}

fn count<T: Kind>(metrics: &Watching, event: &str) {
    let events = if T::GROUP.ends_with("istio.io") { &metrics.config_events } else { &metrics.registry_events };
    events.add(&[T::KIND, event]);
}

/// Returns if the cluster says that it does not have a kind.
async fn missing<T: Kind>(client: &Client) {
    loop {
        match client.list::<T>(&Scope::all()).await {
            Err(error) if error.is_not_found() => return,
            // It has it: the watch will tell.
            Ok(_) => std::future::pending().await,
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}
