//! Who may be served over xDS, and what is counted of it.

use super::caller::{Authenticator, Caller};
use proto::core::Node;
use std::sync::Arc;
use telemetry::metrics::control::Serving;
use tonic::{Extensions, Status, metadata::MetadataMap};
use xds::server::{Event, Gate, metadata_text};

/// The gate of the control plane.
#[derive(Debug, Clone)]
pub struct XdsGate {
    /// Who calls.
    pub authenticator: Arc<Authenticator>,
    /// The node's metadata must agree with the credential.
    pub check_identity: bool,
    /// Namespace whose accounts may see who is connected.
    pub system_namespace: String,
    /// Counters.
    pub metrics: Serving,
}

impl Gate for XdsGate {
    type Caller = Caller;

    async fn authenticate(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Caller, Status> {
        self.authenticator.authenticate(metadata, extensions).await
    }

    fn admit(&self, caller: &Caller, node: &Node) -> Result<(), Status> {
        if node.id.split('~').count() != 4 {
            return Err(Status::invalid_argument("node.id is not <type>~<ip>~<pod>.<namespace>~<domain>"));
        }
        let Some((namespace, service_account)) = caller.account().filter(|_| self.check_identity) else {
            return Ok(());
        };
        let differs =
            |key, expected: &str| metadata_text(node, key).is_some_and(|said| !said.is_empty() && said != expected);
        if differs("NAMESPACE", namespace) || differs("SERVICE_ACCOUNT", service_account) {
            tracing::warn!(node = node.id, "refused: the node's metadata is not that of {caller}");
            return Err(super::caller::refused());
        }
        Ok(())
    }

    fn may_debug(&self, caller: &Caller) -> Result<(), Status> {
        match caller.account() {
            Some((namespace, _)) if namespace != self.system_namespace => Err(Status::permission_denied(format!(
                "only accounts of namespace {} may ask this",
                self.system_namespace
            ))),
            _ => Ok(()),
        }
    }

    fn observe(&self, event: Event<'_>) {
        match event {
            Event::Pushed { type_url, took } => {
                self.metrics.pushes.add(&[short(type_url)]);
                self.metrics.pushed(short(type_url), took);
            }
            Event::Refused { type_url } => self.metrics.rejects.add(&[short(type_url)]),
            Event::Stale { type_url } => self.metrics.expired_nonces.add(&[short(type_url)]),
        }
    }
}

/// The `type` label, as upstream abbreviates.
fn short(type_url: &str) -> &str {
    match type_url {
        proto::type_url::ADDRESS => "wds",
        proto::type_url::AUTHORIZATION => "wads",
        other => other,
    }
}
