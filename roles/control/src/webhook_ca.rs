//! Tells the API server by which roots to believe our webhook, in a configuration that an operator chose to install.
//!
//! Nothing is installed by default: the API server itself refuses what cannot be. Only `caBundle` is written, and only
//! where it says something else, so that whoever manages the configuration sees no other drift.

use crate::{authority::Authority, leader::Leader};
use api::{Resource, ValidatingWebhookConfiguration};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cluster::{Client, Patch, Scope, Store};
use serde_json::{Value, json};
use std::time::Duration;

const MANAGER: &str = "istiod-webhook-ca";
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the roots of a configuration right for as long as it is polled.
pub(crate) async fn keep(client: Client, name: String, authority: Authority, mut leader: Leader) {
    let held: Store<ValidatingWebhookConfiguration> =
        client.watch(Scope::all().fields(format!("metadata.name={name}")));
    held.synced().await;
    let (mut changes, mut authority_changes) = (held.version(), authority.changes());
    loop {
        leader.acquired().await;
        changes.borrow_and_update();
        authority_changes.borrow_and_update();
        let mut failed = false;
        let roots = STANDARD.encode(authority.issuer().roots_pem());
        if let Some(configuration) = held.get("", &name)
            && let Some(fields) = bundles(&configuration, &roots)
            && leader.leads()
        {
            let patch = Patch::Apply { fields, manager: MANAGER.to_owned(), force: true };
            if let Err(error) = client.patch::<ValidatingWebhookConfiguration>("", configuration.name(), patch).await {
                failed = true;
                tracing::warn!(webhook = name, "writing the roots of a webhook: {error}; trying again");
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = authority_changes.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// The roots of every webhook that is served by a service; none when all say so already.
fn bundles(configuration: &ValidatingWebhookConfiguration, roots: &str) -> Option<Value> {
    let ours: Vec<_> =
        configuration.webhooks.iter().filter(|webhook| webhook["clientConfig"]["service"].is_object()).collect();
    if ours.iter().all(|webhook| webhook["clientConfig"]["caBundle"] == roots) {
        return None;
    }
    let bundle = |webhook: &&Value| json!({"name": webhook["name"], "clientConfig": {"caBundle": roots}});
    Some(json!({"webhooks": ours.iter().map(bundle).collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bundles_that_differ_are_written() {
        let configuration = |bundle: Value| {
            ValidatingWebhookConfiguration::from_value(json!({"metadata": {"name": "w"}, "webhooks": [
                {"name": "a", "failurePolicy": "Fail", "clientConfig": {"service": {"name": "istiod"}, "caBundle": bundle}},
                {"name": "b", "clientConfig": {"url": "https://elsewhere"}},
            ]}))
            .unwrap()
        };
        let fields = bundles(&configuration(json!(null)), "roots").unwrap();
        assert_eq!(fields, json!({"webhooks": [{"name": "a", "clientConfig": {"caBundle": "roots"}}]}));
        assert_eq!(bundles(&configuration(json!("roots")), "roots"), None);
    }
}
