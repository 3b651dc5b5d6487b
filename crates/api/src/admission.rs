//! The admissionregistration.k8s.io group: who is asked before an object is stored.

use serde_json::Value;

use crate::macros::{object, resource};
use crate::meta::ObjectMeta;

object! {
    /// Webhooks that may refuse objects; each is kept as it was written.
    pub struct ValidatingWebhookConfiguration {
        metadata: ObjectMeta,
        webhooks: Vec<Value>,
    }
}

resource!(
    ValidatingWebhookConfiguration,
    "admissionregistration.k8s.io" / "v1",
    "validatingwebhookconfigurations",
    cluster
);
