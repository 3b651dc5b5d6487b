//! Whether a workload takes plaintext.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::{IstioStatus, WorkloadSelector};
use crate::macros::{object, resource};
use crate::meta::ObjectMeta;

/// How a workload takes connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MutualTlsMode {
    /// As the enclosing scope says.
    #[default]
    Unset,
    /// Plaintext; in ambient the same as permissive.
    Disable,
    /// Plaintext and mutual TLS.
    Permissive,
    /// Mutual TLS alone.
    Strict,
}

object! {
    /// Whether workloads take plaintext.
    pub struct PeerAuthentication {
        metadata: ObjectMeta,
        spec: PeerAuthenticationSpec,
        status: IstioStatus,
    }

    /// Whom it covers and what it says; ports are the workload's own, under their decimal numbers.
    #[derive(JsonSchema)]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "portLevelMtls requires selector",
        "rule": "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? self.selector.matchLabels : {}).size() > 0) : true",
    }]))]
    pub struct PeerAuthenticationSpec {
        selector: Option<WorkloadSelector>,
        mtls: Option<MutualTls>,
        #[schemars(extend(
            "minProperties" = 1,
            "x-kubernetes-validations" = [{
                "message": "port must be between 1-65535", "rule": "self.all(key, 0 < int(key) && int(key) <= 65535)",
            }],
        ))]
        port_level_mtls: BTreeMap<String, MutualTls>,
    }

    /// A mode.
    #[derive(JsonSchema)]
    pub struct MutualTls {
        mode: MutualTlsMode,
    }
}

resource!(PeerAuthentication, "security.istio.io" / "v1", "peerauthentications", namespaced);
