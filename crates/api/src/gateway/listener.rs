//! A gateway and its listeners: waypoints, ingress, network gateways.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::class::ParametersReference;
use crate::json::is_default;
use crate::macros::{object, resource, whole_object};
use crate::meta::{Condition, ObjectMeta};
use crate::selector::LabelSelector;

object! {
    /// A proxy with listeners.
    pub struct Gateway {
        metadata: ObjectMeta,
        spec: GatewaySpec,
        status: GatewayStatus,
    }

    /// Its class, its listeners and its addresses.
    #[derive(JsonSchema)]
    pub struct GatewaySpec {
        #[schemars(extend("x-required" = true), length(min = 1, max = 253))]
        gateway_class_name: String,
        #[schemars(
            extend("x-required" = true),
            length(min = 1, max = 64),
            extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
        )]
        listeners: Vec<Listener>,
        #[schemars(length(max = 16))]
        addresses: Vec<GatewayAddress>,
        infrastructure: Option<GatewayInfrastructure>,
        allowed_listeners: Option<serde_json::Value>,
        tls: Option<serde_json::Value>,
    }

    /// What a gateway accepts connections for.
    #[derive(JsonSchema)]
    pub struct Listener {
        #[schemars(extend("x-required" = true, "pattern" = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"), length(min = 1, max = 253))]
        name: String,
        #[schemars(extend("pattern" = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"), length(min = 1, max = 253))]
        hostname: String,
        #[schemars(extend("x-required" = true), range(min = 1, max = 65535))]
        port: i32,
        #[schemars(extend("x-required" = true), length(min = 1, max = 255))]
        protocol: String,
        tls: Option<GatewayTlsConfig>,
        #[schemars(extend("default" = {"namespaces": {"from": "Same"}}))]
        allowed_routes: Option<AllowedRoutes>,
    }

    /// How TLS is handled.
    #[derive(JsonSchema)]
    pub struct GatewayTlsConfig {
        #[schemars(extend("enum" = ["Terminate", "Passthrough"], "default" = "Terminate"))]
        mode: String,
        #[schemars(length(max = 64))]
        certificate_refs: Vec<SecretReference>,
        #[schemars(extend("maxProperties" = 16))]
        options: BTreeMap<String, String>,
    }

    /// A secret, possibly in another namespace.
    #[derive(JsonSchema)]
    pub struct SecretReference {
        #[schemars(extend("default" = ""))]
        group: String,
        #[schemars(extend("default" = "Secret"))]
        kind: String,
        #[schemars(extend("x-required" = true), length(min = 1, max = 253))]
        name: String,
        #[schemars(length(min = 1, max = 63))]
        namespace: String,
    }

    /// The routes that may attach.
    #[derive(JsonSchema)]
    pub struct AllowedRoutes {
        #[schemars(extend("default" = {"from": "Same"}))]
        namespaces: Option<RouteNamespaces>,
        #[schemars(length(max = 8))]
        kinds: Vec<RouteGroupKind>,
    }

    /// The namespaces that routes may come from.
    #[derive(JsonSchema)]
    pub struct RouteNamespaces {
        #[schemars(extend("enum" = ["All", "Selector", "Same"], "default" = "Same"))]
        from: String,
        selector: Option<LabelSelector>,
    }

    /// A kind of route.
    #[derive(JsonSchema)]
    pub struct RouteGroupKind {
        #[schemars(extend("default" = "gateway.networking.k8s.io"))]
        group: String,
        #[schemars(extend("x-required" = true), length(min = 1, max = 63))]
        kind: String,
    }

    /// An address that is asked for.
    #[derive(JsonSchema)]
    pub struct GatewayAddress {
        #[serde(rename = "type")]
        #[schemars(extend("default" = "IPAddress"))]
        type_: String,
        #[schemars(length(max = 253))]
        value: String,
    }

    /// What is rendered for the gateway gets these labels and annotations.
    #[derive(JsonSchema)]
    pub struct GatewayInfrastructure {
        #[schemars(extend("maxProperties" = 8))]
        labels: BTreeMap<String, String>,
        #[schemars(extend("maxProperties" = 16))]
        annotations: BTreeMap<String, String>,
        parameters_ref: Option<ParametersReference>,
    }

    /// Whether the gateway works, and where.
    #[derive(JsonSchema)]
    pub struct GatewayStatus {
        #[schemars(length(max = 16))]
        addresses: Vec<GatewayStatusAddress>,
        #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
        conditions: Vec<Condition>,
        #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
        listeners: Vec<ListenerStatus>,
        attached_listener_sets: Option<i32>,
    }

    /// An address that was assigned.
    #[derive(JsonSchema)]
    pub struct GatewayStatusAddress {
        #[serde(rename = "type")]
        #[schemars(extend("default" = "IPAddress"))]
        type_: String,
        #[schemars(extend("x-required" = true), length(min = 1, max = 253))]
        value: String,
    }
}

whole_object! {
    /// Whether a listener works.
    #[derive(JsonSchema)]
    pub struct ListenerStatus {
        #[serde(skip_serializing_if = "is_default")]
        #[schemars(extend("x-required" = true), length(min = 1, max = 253))]
        name: String,
        #[serde(skip_serializing_if = "is_default")]
        supported_kinds: Vec<RouteGroupKind>,
        #[schemars(extend("x-required" = true))]
        attached_routes: i32,
        #[serde(skip_serializing_if = "is_default")]
        #[schemars(extend("x-required" = true), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
        conditions: Vec<Condition>,
    }
}

resource!(Gateway, "gateway.networking.k8s.io" / "v1", "gateways", namespaced);
