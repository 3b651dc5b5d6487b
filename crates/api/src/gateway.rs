//! Gateway API: classes, gateways, routes and the grants between namespaces.
//!
//! The rules of a route are kept as they were written; who acts on them reads them as [`HttpRule`] or [`GrpcRule`].

mod class;
mod listener;
mod route;
mod rule;

pub use class::{GatewayClass, GatewayClassSpec, GatewayClassStatus, ParametersReference, SupportedFeature};
pub use listener::{
    AllowedRoutes, Gateway, GatewayAddress, GatewayInfrastructure, GatewaySpec, GatewayStatus, GatewayStatusAddress,
    GatewayTlsConfig, Listener, ListenerStatus, RouteGroupKind, RouteNamespaces, SecretReference,
};
pub use route::{
    BackendTLSPolicy, GRPCRoute, HTTPRoute, ListenerSet, ParentReference, ReferenceGrant, ReferenceGrantFrom,
    ReferenceGrantSpec, ReferenceGrantTo, RouteParentStatus, RouteSpec, RouteStatus, TCPRoute, TLSRoute, UDPRoute,
};

pub use rule::{
    CorsFilter, Fraction, GrpcMatch, GrpcMethod, GrpcRule, HeaderModifier, HttpMatch, HttpRule, NamedValue,
    PathModifier, RequestMirror, RequestRedirect, RouteBackend, RouteFilter, RouteRetry, RouteTimeouts, TypedValue,
    UrlRewrite,
};

/// API group of every kind here.
pub const GROUP: &str = "gateway.networking.k8s.io";
