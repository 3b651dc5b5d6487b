//! L7 resources next to what is resolved from the mesh, in one snapshot for all proxies.

use super::{ParentStatus, Subject, follow};
use crate::settings::Mesh;
use cluster::Client;
use proto::type_url;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use xds::server::{Collection, Snapshot};

type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// Follows L7 resources and publishes each snapshot of the mesh with them, for ever; nothing before both are known.
pub async fn join(
    client: Client,
    mesh: Mesh,
    mut resolved: Snapshots,
    publish: watch::Sender<Option<Arc<Snapshot>>>,
    statuses: mpsc::UnboundedSender<(Subject, Vec<ParentStatus>)>,
) {
    let (said, mut heard) = watch::channel(None::<Collection>);
    let say = move |changes| {
        said.send_modify(|held| *held = Some(held.take().unwrap_or_default().with(changes)));
    };
    let following = follow(client, mesh, say, statuses);
    let joining = async {
        loop {
            let (whole, own) = (resolved.borrow_and_update().clone(), heard.borrow_and_update().clone());
            if let (Some(whole), Some(own)) = (whole, own) {
                let types = whole.types().map(|(name, collection)| (name, collection.clone()));
                publish.send_replace(Some(Arc::new(Snapshot::new(types.chain([(type_url::L7, own)])))));
            }
            let one_changed = tokio::select! {
                changed = resolved.changed() => changed,
                changed = heard.changed() => changed,
            };
            if one_changed.is_err() {
                return;
            }
        }
    };
    tokio::join!(following, joining);
}
