//! Tells the API a pod's status, in order, newest first, until it is heard.

use std::sync::Arc;
use std::time::Duration;

use api::{Pod, PodStatus, Resource};
use cluster::{DeleteOptions, Patch};
use serde_json::json;
use tokio::sync::watch;

use crate::node::context::Context;

const RETRY: Duration = Duration::from_millis(500);

/// One pod's line to the API.
pub(super) struct Publisher {
    context: Arc<Context>,
    pod: Pod,
    newest: watch::Sender<Option<PodStatus>>,
    task: tokio::task::JoinHandle<()>,
}

impl Publisher {
    pub(super) fn start(context: Arc<Context>, pod: &Pod) -> Self {
        let (newest, mut wanted) = watch::channel(None::<PodStatus>);
        let (line, target) = (context.clone(), pod.clone());
        let task = runtime::task::spawn("pod status", async move {
            while wanted.changed().await.is_ok() {
                loop {
                    let status = wanted.borrow_and_update().clone();
                    let Some(status) = status else { break };
                    if patch(&line, &target, &status).await {
                        break;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
        Self { context, pod: pod.clone(), newest, task }
    }

    /// Wants this status published; one that says the same as the last is not sent again.
    pub(super) fn publish(&self, status: PodStatus) {
        self.newest.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&status);
            *known = Some(status);
            changed
        });
    }

    /// Publishes the last status and deletes the object for good, however long the API needs to hear it.
    pub(super) async fn finish(self, status: PodStatus) {
        self.task.abort();
        let (namespace, name) = (self.pod.namespace(), self.pod.name());
        while !patch(&self.context, &self.pod, &status).await {
            tokio::time::sleep(RETRY).await;
        }
        let options = DeleteOptions::immediately().of(&self.pod);
        loop {
            match self.context.client.delete::<Pod>(namespace, name, &options).await {
                Ok(_) => return,
                // Another pod has the name already.
                Err(error) if error.is_conflict() => return,
                Err(error) => tracing::warn!(%error, "a stopped pod's object stays; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Whether the API has heard it, or the pod is none of its business any more.
async fn patch(context: &Context, pod: &Pod, status: &PodStatus) -> bool {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    // Merging keeps what is not mentioned, so what is empty now must be said to be gone.
    for key in ["reason", "message", "podIP", "podIPs"] {
        if value.get(key).is_none() {
            value[key] = serde_json::Value::Null;
        }
    }
    // The uid keeps a status from reaching another pod of the same name.
    let patch = Patch::Merge(json!({ "metadata": { "uid": pod.metadata.uid }, "status": value }));
    match context.client.patch_status::<Pod>(pod.namespace(), pod.name(), patch).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => {
            tracing::debug!(%error, "status not published");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "status not published; trying again");
            false
        }
    }
}
