//! Who is in charge of a gateway.

use schemars::JsonSchema;

use crate::macros::{object, resource};
use crate::meta::{Condition, ObjectMeta};

object! {
    /// A kind of gateway, and the controller in charge of it.
    pub struct GatewayClass {
        metadata: ObjectMeta,
        spec: GatewayClassSpec,
        status: GatewayClassStatus,
    }

    /// The controller, and its settings for this class.
    #[derive(JsonSchema)]
    pub struct GatewayClassSpec {
        #[schemars(
            extend("x-required" = true),
            length(min = 1, max = 253),
            extend("x-kubernetes-validations" = [{"message": "field is immutable", "rule": "self == oldSelf"}])
        )]
        controller_name: String,
        parameters_ref: Option<ParametersReference>,
        #[schemars(length(max = 64))]
        description: String,
    }

    /// An object with settings.
    #[derive(JsonSchema)]
    pub struct ParametersReference {
        #[schemars(extend("x-required" = true), length(max = 253))]
        group: String,
        #[schemars(extend("x-required" = true), length(min = 1, max = 63))]
        kind: String,
        #[schemars(extend("x-required" = true), length(min = 1, max = 253))]
        name: String,
        #[schemars(length(min = 1, max = 63))]
        namespace: String,
    }

    /// Whether the controller took the class, and what it can do.
    #[derive(JsonSchema)]
    pub struct GatewayClassStatus {
        #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
        conditions: Vec<Condition>,
        #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
        supported_features: Vec<SupportedFeature>,
    }

    /// Something that an implementation can do.
    #[derive(JsonSchema)]
    pub struct SupportedFeature {
        #[schemars(extend("x-required" = true))]
        name: String,
    }
}

resource!(GatewayClass, "gateway.networking.k8s.io" / "v1", "gatewayclasses", cluster);
