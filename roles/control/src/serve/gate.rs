//! Who may be served over xDS, and what is counted of it.

use super::{
    caller::{Authenticator, Caller, Peer},
    debug::Debug,
};
use model::Str;
use proto::core::Node;
use std::sync::Arc;
use telemetry::metrics::control::{Pushed, Serving};
use tonic::{Extensions, Status, metadata::MetadataMap};
use xds::server::{Event, Gate, Hangup, metadata_text};

/// The gate of the control plane.
#[derive(Debug, Clone)]
pub struct XdsGate {
    /// Who calls.
    pub authenticator: Arc<Authenticator>,
    /// The node's metadata must agree with the credential.
    pub check_identity: bool,
    /// Debug pages, and who may read them.
    pub debug: Debug,
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
        // A node's own workloads are sent to its proxy unasked: who is bound to another node is not that proxy.
        let other_node = caller.node().is_some_and(|bound| differs("NODE_NAME", bound));
        if differs("NAMESPACE", namespace) || differs("SERVICE_ACCOUNT", service_account) || other_node {
            tracing::warn!(node = node.id, "refused: the node's metadata is not that of {caller}");
            return Err(super::caller::refused());
        }
        Ok(())
    }

    fn gateway(&self, caller: &Caller, node: &Node) -> Option<Str> {
        // Said as `<namespace>~<name>`, or as a name in the proxy's own namespace.
        let role = metadata_text(node, "role").and_then(|role| role.split_once('~'));
        let (namespace, service_account) = caller.account()?;
        let (said, name) = match role {
            Some(role) => role,
            None => (namespace, metadata_text(node, "GATEWAY_NAME").filter(|name| !name.is_empty())?),
        };
        let is_own = said == namespace && speaks_for(service_account, name);
        if !is_own {
            tracing::warn!(node = node.id, "{caller} is not gateway {said}/{name}, it is sent nothing of its own");
        }
        is_own.then(|| format!("{namespace}/{name}").into())
    }

    fn may_debug(&self, caller: &Caller) -> Result<(), Status> {
        match caller.account() {
            Some((namespace, _)) if namespace != self.debug.system_namespace => Err(Status::permission_denied(
                format!("only accounts of namespace {} may ask this", self.debug.system_namespace),
            )),
            _ => Ok(()),
        }
    }

    async fn page(&self, caller: &Caller, page: &str) -> Result<Vec<u8>, Status> {
        let (path, query) = page.split_once('?').unwrap_or((page, ""));
        self.debug.allow(caller, path).map_err(Status::permission_denied)?;
        match self.debug.page(path, query).await {
            Some(page) => Ok(format!("{page:#}\n").into_bytes()),
            None => Err(Status::not_found(format!("there is no debug page {path:?}; see list"))),
        }
    }

    fn hangup(&self, extensions: &Extensions) -> Option<Hangup> {
        extensions.get::<Peer>().map(|peer| peer.hangup.clone())
    }

    fn observe(&self, event: Event<'_>) {
        match event {
            Event::Pushed { type_url, bytes, queued, took } => {
                self.metrics.pushed(Pushed { kind: short(type_url), bytes, queued, took });
            }
            Event::Converged { after } => self.metrics.converged(after),
            Event::Refused { type_url } => self.metrics.rejects.add(&[short(type_url)]),
            Event::Stale { type_url } => self.metrics.expired_nonces.add(&[short(type_url)]),
            Event::TimedOut => self.metrics.write_timeouts.add(&[]),
        }
    }
}

/// Whether an account is that of a gateway's pods: it is named after the gateway, or after the gateway and its class.
fn speaks_for(service_account: &str, gateway: &str) -> bool {
    service_account
        .strip_prefix(gateway)
        .is_some_and(|rest| matches!(rest, "" | "-istio" | "-istio-waypoint" | "-istio-east-west"))
}

/// The `type` label, as upstream abbreviates.
pub(super) fn short(type_url: &str) -> &str {
    match type_url {
        proto::type_url::ADDRESS => "wds",
        proto::type_url::AUTHORIZATION => "wads",
        other => other.rsplit('/').next().unwrap_or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::the_waypoint("waypoint", "waypoint", true)]
    #[case::of_class_istio("front-istio", "front", true)]
    #[case::another("front", "waypoint", false)]
    #[case::a_longer_name("waypoint-2", "waypoint", false)]
    #[case::a_workload("default", "front", false)]
    fn accounts_that_speak_for_a_gateway(#[case] account: &str, #[case] gateway: &str, #[case] expected: bool) {
        assert_eq!(speaks_for(account, gateway), expected);
    }

    #[rstest]
    #[case(proto::type_url::ADDRESS, "wds")]
    #[case("type.googleapis.com/istio.workload.Workload", "istio.workload.Workload")]
    #[case("unheard.of", "unheard.of")]
    fn types_are_abbreviated(#[case] type_url: &str, #[case] expected: &str) {
        assert_eq!(short(type_url), expected);
    }
}
