//! The one task that owns the resolver: gathers changes for a moment, resolves them together, publishes a snapshot.
//!
//! Unless it is told otherwise, a lone change waits 10 ms and is out; a storm of them is gathered for at most 100 ms, so that a
//! changed policy acts within a tenth of a second however busy the cluster is.

use crate::{
    discovery::Discovery,
    resolve::{Changes, Statement},
    source::Edit,
};
use proto::type_url;
use std::time::Duration;
use telemetry::metrics::control::Serving;
use tokio::{sync::mpsc, time::Instant};
use xds::server::Catalog;

/// How long changes are gathered.
#[derive(Debug, Clone, Copy)]
pub struct Debounce {
    /// How long it must be quiet.
    pub after: Duration,
    /// How long at most.
    pub max: Duration,
}

impl Default for Debounce {
    fn default() -> Self {
        Self { after: Duration::from_millis(10), max: Duration::from_millis(100) }
    }
}

/// Where results go.
#[derive(Debug)]
pub struct Outputs {
    /// What proxies are served.
    pub catalog: Catalog,
    /// What is to be said in statuses.
    pub statements: mpsc::UnboundedSender<Vec<Statement>>,
    /// Metrics.
    pub metrics: Serving,
    /// How long changes are gathered.
    pub debounce: Debounce,
}

/// Gathers, resolves and publishes until the watches are gone. Nothing is published before `synced` is done.
pub async fn run(
    mut discovery: Discovery,
    mut edits: mpsc::Receiver<Edit>,
    synced: impl Future<Output = ()>,
    outputs: Outputs,
) {
    tokio::pin!(synced);
    // Until everything was seen, a lack of something does not mean that it does not exist. What was seen is in the
    // queue before `synced` is done, so the queue goes first.
    loop {
        tokio::select! {
            biased;
            edit = edits.recv() => match edit {
                Some(edit) => edit(&mut discovery),
                None => return,
            },
            () = &mut synced => break,
        }
    }
    outputs.publish(&mut discovery, Instant::now());
    while let Some(edit) = edits.recv().await {
        let since = Instant::now();
        edit(&mut discovery);
        gather(&mut discovery, &mut edits, outputs.debounce).await;
        outputs.metrics.debounced(since.elapsed());
        if discovery.resolver().is_dirty() {
            outputs.publish(&mut discovery, since);
        }
    }
}

/// Takes changes for as long as they keep coming, within bounds.
async fn gather(discovery: &mut Discovery, edits: &mut mpsc::Receiver<Edit>, debounce: Debounce) {
    let deadline = Instant::now() + debounce.max;
    loop {
        let quiet = (Instant::now() + debounce.after).min(deadline);
        match tokio::time::timeout_at(quiet, edits.recv()).await {
            Ok(Some(edit)) => edit(discovery),
            Ok(None) | Err(_) => return,
        }
    }
}

impl Outputs {
    fn publish(&self, discovery: &mut Discovery, since: Instant) {
        let started = Instant::now();
        let resolver = discovery.resolver_mut();
        let Changes { addresses, authorizations, statements, resolved } = resolver.resolve();
        self.metrics.resolved(started.elapsed());
        tracing::debug!(resolved, took = ?started.elapsed(), "resolved");
        let changes = [
            (type_url::ADDRESS, addresses.into_iter().collect()),
            (type_url::AUTHORIZATION, authorizations.into_iter().collect()),
        ];
        self.catalog.publish_together(changes, since);
        self.metrics.triggers.add(&["config"]);
        let services = resolver.view().objects.services.len();
        self.metrics.services.set(&[], i64::try_from(services).unwrap_or(i64::MAX));
        // The receiver is gone only while the process ends.
        let _ = self.statements.send(statements);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{resolve::Resolver, settings::Mesh};
    use api::{AuthorizationPolicy, Pod};
    use serde_json::json;
    use std::sync::Arc;
    use telemetry::metrics::{Registry, control::Control};
    use tokio::sync::oneshot;

    fn edit<T: crate::resolve::Kind>(value: serde_json::Value) -> Edit {
        let object = Arc::new(T::from_value(value).unwrap());
        Box::new(move |resolver| resolver.set(object))
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_published_before_everything_was_seen() {
        let (edits, queue) = mpsc::channel(16);
        let catalog = Catalog::new(&[type_url::ADDRESS, type_url::AUTHORIZATION]);
        let mut published = catalog.snapshots();
        let (statements, _kept) = mpsc::unbounded_channel();
        let (seen, synced) = oneshot::channel::<()>();
        let metrics = Control::register(&mut Registry::new("pilot", "test"), "test").xds;
        let outputs = Outputs { catalog, statements, metrics, debounce: Debounce::default() };
        let synced = async move { synced.await.unwrap_or(()) };
        let discovery = Discovery::new(Resolver::new(Mesh::default()), "default");
        tokio::spawn(run(discovery, queue, synced, outputs));

        let pod = json!({"metadata": {"namespace": "a", "name": "p"}, "status": {"podIP": "10.0.0.1"}});
        edits.send(edit::<Pod>(pod)).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(5), published.changed()).await.is_err());
        seen.send(()).unwrap();
        published.changed().await.unwrap();
        let first = published.borrow_and_update().clone().unwrap();
        assert_eq!(first.get(type_url::ADDRESS).unwrap().len(), 1);

        let policy = json!({"metadata": {"namespace": "a", "name": "deny"}, "spec": {"action": "DENY", "rules": [{}]}});
        edits.send(edit::<AuthorizationPolicy>(policy)).await.unwrap();
        let sent = Instant::now();
        published.changed().await.unwrap();
        assert!(sent.elapsed() <= Debounce::default().max);
        let second = published.borrow_and_update().clone().unwrap();
        assert_eq!(second.get(type_url::AUTHORIZATION).unwrap().len(), 1);
        assert_eq!(second.get(type_url::ADDRESS).unwrap().revision(), 1);
    }
}
