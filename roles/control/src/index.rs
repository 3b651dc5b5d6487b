//! The one task that owns the resolver: gathers changes for a moment, resolves them together, publishes a snapshot.
//!
//! A lone change waits 10 ms and is out; a storm of them is gathered for at most 100 ms, so that a changed policy acts
//! within a tenth of a second however busy the cluster is.

use crate::{
    resolve::{Changes, Resolver, Statement},
    source::Edit,
};
use proto::type_url;
use std::{sync::Arc, time::Duration};
use telemetry::metrics::control::Serving;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use xds::server::{Collection, Snapshot};

const QUIET: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(100);

/// Where results go.
#[derive(Debug)]
pub struct Outputs {
    /// What proxies are served.
    pub snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// What is to be said in statuses.
    pub statements: mpsc::UnboundedSender<Vec<Statement>>,
    /// Metrics.
    pub metrics: Serving,
}

/// Gathers, resolves and publishes until the watches are gone. Nothing is published before `synced` is done.
pub async fn run(
    mut resolver: Resolver,
    mut edits: mpsc::Receiver<Edit>,
    synced: impl Future<Output = ()>,
    outputs: Outputs,
) {
    let mut state = State::default();
    tokio::pin!(synced);
    // Until everything was seen, a lack of something does not mean that it does not exist. What was seen is in the
    // queue before `synced` is done, so the queue goes first.
    loop {
        tokio::select! {
            biased;
            edit = edits.recv() => match edit {
                Some(edit) => edit(&mut resolver),
                None => return,
            },
            () = &mut synced => break,
        }
    }
    state.publish(&mut resolver, &outputs);
    while let Some(edit) = edits.recv().await {
        let since = Instant::now();
        edit(&mut resolver);
        gather(&mut resolver, &mut edits).await;
        if resolver.is_dirty() {
            state.publish(&mut resolver, &outputs);
            outputs.metrics.converged(since.elapsed());
        }
    }
}

/// Takes changes for as long as they keep coming, within bounds.
async fn gather(resolver: &mut Resolver, edits: &mut mpsc::Receiver<Edit>) {
    let deadline = Instant::now() + LONGEST;
    loop {
        let quiet = (Instant::now() + QUIET).min(deadline);
        match tokio::time::timeout_at(quiet, edits.recv()).await {
            Ok(Some(edit)) => edit(resolver),
            Ok(None) | Err(_) => return,
        }
    }
}

#[derive(Default)]
struct State {
    addresses: Collection,
    authorizations: Collection,
}

impl State {
    fn publish(&mut self, resolver: &mut Resolver, outputs: &Outputs) {
        let Changes { addresses, authorizations, statements, resolved } = resolver.resolve();
        let before = self.addresses.revision() + self.authorizations.revision();
        self.addresses = self.addresses.with(addresses);
        self.authorizations = self.authorizations.with(authorizations);
        let revision = self.addresses.revision() + self.authorizations.revision();
        let first = outputs.snapshots.borrow().is_none();
        if first || revision != before {
            let types =
                [(type_url::ADDRESS, self.addresses.clone()), (type_url::AUTHORIZATION, self.authorizations.clone())];
            tracing::debug!(revision, resolved, addresses = self.addresses.len(), "publishing");
            outputs.snapshots.send_replace(Some(Arc::new(Snapshot::new(types))));
            let services = resolver.view().objects.services.len();
            outputs.metrics.services.set(&[], i64::try_from(services).unwrap_or(i64::MAX));
        }
        // The receiver is gone only while the process ends.
        let _ = outputs.statements.send(statements);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Mesh;
    use api::{AuthorizationPolicy, Pod};
    use serde_json::json;
    use telemetry::metrics::{Registry, control::Control};
    use tokio::sync::oneshot;

    fn edit<T: crate::resolve::Kind>(value: serde_json::Value) -> Edit {
        let object = Arc::new(T::from_value(value).unwrap());
        Box::new(move |resolver| resolver.set(object))
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_published_before_everything_was_seen() {
        let (edits, queue) = mpsc::channel(16);
        let (snapshots, mut published) = watch::channel(None);
        let (statements, _kept) = mpsc::unbounded_channel();
        let (seen, synced) = oneshot::channel::<()>();
        let metrics = Control::register(&mut Registry::new("pilot", "test"), "test").xds;
        let outputs = Outputs { snapshots, statements, metrics };
        let synced = async move { synced.await.unwrap_or(()) };
        tokio::spawn(run(Resolver::new(Mesh::default()), queue, synced, outputs));

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
        assert!(sent.elapsed() <= LONGEST);
        let second = published.borrow_and_update().clone().unwrap();
        assert_eq!(second.get(type_url::AUTHORIZATION).unwrap().len(), 1);
        assert_eq!(second.get(type_url::ADDRESS).unwrap().revision(), 1);
    }
}
