//! EndpointSlices: the addresses behind a service.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::ObjectReference;
use crate::macros::{object, resource};
use crate::meta::ObjectMeta;

object! {
    /// Addresses behind a service, of one family.
    pub struct EndpointSlice {
        metadata: ObjectMeta,
        address_type: String,
        endpoints: Vec<Endpoint>,
        ports: Vec<EndpointPort>,
    }

    /// One backend.
    pub struct Endpoint {
        addresses: Vec<String>,
        conditions: EndpointConditions,
        hostname: String,
        target_ref: Option<ObjectReference>,
        deprecated_topology: BTreeMap<String, String>,
        node_name: String,
        zone: String,
        hints: Option<Value>,
    }

    /// Whether a backend may be used; an absent `ready` or `serving` counts as true, an absent `terminating` as false.
    pub struct EndpointConditions {
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }

    /// A port of every backend in the slice; an absent number means any port.
    pub struct EndpointPort {
        name: String,
        protocol: String,
        port: Option<i32>,
        app_protocol: String,
    }
}

resource!(EndpointSlice, "discovery.k8s.io" / "v1", "endpointslices", namespaced);

/// Label of a slice that names its service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label of a slice that names the controller that writes it.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
