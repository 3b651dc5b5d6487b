//! istio.io's resources: typed where ambient reads them, kept as written where only an L7 proxy would.

mod authorization_policy;
mod entry;
mod peer_authentication;
mod reference;
pub mod text;

pub use authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, ExtensionProvider, Operation, Rule, RuleCondition, RuleFrom,
    RuleTo, Source,
};
pub use entry::{
    EntryPort, EntrySelector, Location, Resolution, ServiceEntry, ServiceEntryAddress, ServiceEntrySpec,
    ServiceEntryStatus, WorkloadEntry, WorkloadEntrySpec, WorkloadGroup, WorkloadGroupSpec, WorkloadMetadata,
};
pub use peer_authentication::{MutualTls, MutualTlsMode, PeerAuthentication, PeerAuthenticationSpec};
pub use reference::{IstioStatus, PolicyTargetReference, WorkloadSelector};

use crate::macros::{object, opaque, resource};

opaque! {
    /// Checks of JSON web tokens, for L7 proxies.
    RequestAuthentication as "RequestAuthentication", "security.istio.io" / "v1", "requestauthentications", namespaced;
    /// Logs, metrics and traces that proxies report.
    Telemetry as "Telemetry", "telemetry.istio.io" / "v1", "telemetries", namespaced;
    /// Routes in Istio's own form.
    VirtualService as "VirtualService", "networking.istio.io" / "v1", "virtualservices", namespaced;
    /// What happens to traffic once its destination is known.
    DestinationRule as "DestinationRule", "networking.istio.io" / "v1", "destinationrules", namespaced;
    /// Settings of an Envoy proxy.
    ProxyConfig as "ProxyConfig", "networking.istio.io" / "v1beta1", "proxyconfigs", namespaced;
    /// What a sidecar sees.
    Sidecar as "Sidecar", "networking.istio.io" / "v1", "sidecars", namespaced;
    /// Patches to an Envoy configuration.
    EnvoyFilter as "EnvoyFilter", "networking.istio.io" / "v1alpha3", "envoyfilters", namespaced;
    /// A WebAssembly filter.
    WasmPlugin as "WasmPlugin", "extensions.istio.io" / "v1alpha1", "wasmplugins", namespaced;
    /// A filter of an L7 proxy.
    TrafficExtension as "TrafficExtension", "extensions.istio.io" / "v1alpha1", "trafficextensions", namespaced;
    /// Istio's own edge listeners; not Gateway API's kind of the same name.
    IstioGateway as "Gateway", "networking.istio.io" / "v1", "gateways", namespaced;
}
