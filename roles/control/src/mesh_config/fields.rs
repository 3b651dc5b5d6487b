//! Every field of `MeshConfig`: its shape, its default, and what it does here.

use serde_json::Value;

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// Its default as JSON; empty if it has none.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What it does here.
    pub effect: Effect,
}

/// What a field's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text, or one of some words.
    Text,
    /// True or false.
    Flag,
    /// A number.
    Number,
    /// A duration such as `10s`.
    Duration,
    /// A list.
    List,
    /// A mapping.
    Mapping,
}

/// What a field does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The control plane acts on it at once.
    Live,
    /// The control plane acts on it from its next start.
    AtStart,
    /// It concerns waypoints and gateways.
    Gateways,
    /// Nothing, and why.
    None(&'static str),
}

impl Shape {
    /// Whether a value has the shape.
    pub fn fits(self, value: &Value) -> bool {
        match self {
            // Words without quotes may read as something else: `NONE`, `ON`.
            Self::Text => value.is_string() || value.is_boolean(),
            Self::Flag => value.is_boolean(),
            Self::Number => value.is_number(),
            Self::Duration => value.as_str().is_some_and(|text| runtime::settings::parse_duration(text).is_some()),
            Self::List => value.is_array(),
            Self::Mapping => value.is_object(),
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::Duration => "a duration such as 10s",
            Self::List => "a list",
            Self::Mapping => "a mapping",
        }
    }
}

impl Field {
    /// Its default, if it has one.
    pub fn default(&self) -> Option<Value> {
        // The texts below are JSON: a test reads them all.
        serde_json::from_str(self.default).ok()
    }
}

const fn field(
    name: &'static str,
    shape: Shape,
    default: &'static str,
    effect: Effect,
    meaning: &'static str,
) -> Field {
    Field { name, shape, default, meaning, effect }
}

const ENVOY: Effect = Effect::None("it configures Envoy, and no proxy here is one");
const SIDECARS: Effect = Effect::None("it configures sidecars, which there are none of");
const ONE_CLUSTER: Effect = Effect::None("one cluster is served");

use Effect::{AtStart, Gateways, Live};
use Shape::{Duration, Flag, List, Mapping, Number, Text};

/// Every field, in the order of the alphabet.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("accessLogEncoding", Text, "\"TEXT\"", Gateways, "TEXT or JSON lines of access"),
    field("accessLogFile", Text, "\"\"", Gateways, "where lines of access are written when no Telemetry says otherwise; empty: nowhere"),
    field("accessLogFormat", Text, "\"\"", Gateways, "format of those lines; empty: the usual one"),
    field("ca", Mapping, "", Effect::None("certificates are signed here, or by a plugged-in intermediate"), "another certificate authority"),
    field("caCertificates", List, "", Effect::None("roots come from the authority"), "further roots"),
    field("certificates", List, "", Effect::None("DNS certificates are not issued"), "DNS certificates to issue"),
    field("configSources", List, "", Effect::None("use --configDir"), "where resources come from instead of the cluster"),
    field("connectTimeout", Duration, "\"10s\"", Gateways, "time for a connection to a destination"),
    field("defaultConfig", Mapping, r#"{"discoveryAddress": "istiod.istio-system.svc:15012", "drainDuration": "45s", "terminationDrainDuration": "5s", "proxyAdminPort": 15000, "statusPort": 15020}"#, Gateways, "ProxyConfig for proxies that have no other"),
    field("defaultDestinationRuleExportTo", List, r#"["*"]"#, Gateways, "who sees a DestinationRule that does not say"),
    field("defaultHttpRetryPolicy", Mapping, "", Gateways, "retries of requests when no route says otherwise"),
    field("defaultProviders", Mapping, "{}", Gateways, "providers of metrics, traces and lines of access when no Telemetry names one"),
    field("defaultServiceExportTo", List, r#"["*"]"#, Gateways, "who sees a service that does not say"),
    field("defaultVirtualServiceExportTo", List, r#"["*"]"#, Gateways, "who sees a VirtualService that does not say"),
    field("disableEnvoyListenerLog", Flag, "false", ENVOY, "no lines of access from listeners"),
    field("discoverySelectors", List, "[]", Live, "only namespaces with labels that one of these selects are seen, and the root namespace; without any, all"),
    field("dnsRefreshRate", Duration, "\"60s\"", ENVOY, "how often names are resolved anew"),
    field("enableAutoMtls", Flag, "true", Effect::None("mutual TLS is always used where the peer can"), "mutual TLS without being asked for"),
    field("enableEnvoyAccessLogService", Flag, "false", ENVOY, "lines of access over gRPC"),
    field("enablePrometheusMerge", Flag, "true", SIDECARS, "metrics of the application are merged with the proxy's"),
    field("enableTracing", Flag, "true", Gateways, "traces when neither Telemetry nor a default provider says so"),
    field("extensionProviders", List, r#"[{"name": "prometheus", "prometheus": {}}, {"name": "stackdriver", "stackdriver": {}}, {"name": "envoy", "envoyFileAccessLog": {"path": "/dev/stdout"}}]"#, Gateways, "where traces, lines of access and authorization questions go, by name"),
    field("h2UpgradePolicy", Text, "\"DO_NOT_UPGRADE\"", SIDECARS, "HTTP/1 is carried as HTTP/2 between proxies"),
    field("hboneIdleTimeout", Duration, "", Gateways, "how long a tunnel without streams is kept"),
    field("inboundClusterStatName", Text, "", ENVOY, "names in statistics"),
    field("inboundTrafficPolicy", Mapping, r#"{"mode": "PASSTHROUGH"}"#, SIDECARS, "traffic to ports that no service has"),
    field("ingressClass", Text, "\"istio\"", Gateways, "class of Ingresses that are served"),
    field("ingressControllerMode", Text, "\"STRICT\"", Gateways, "which Ingresses are served: OFF, DEFAULT or STRICT"),
    field("ingressSelector", Text, "\"\"", Gateways, "pods that serve Ingresses"),
    field("ingressService", Text, "\"istio-ingressgateway\"", Gateways, "service whose addresses Ingresses are told"),
    field("localityLbSetting", Mapping, r#"{"enabled": true}"#, Gateways, "preference for near endpoints"),
    field("meshMTLS", Mapping, "", Effect::None("TLS 1.3 is spoken, and nothing older"), "lowest version of TLS"),
    field("outboundClusterStatName", Text, "", ENVOY, "names in statistics"),
    field("outboundTrafficPolicy", Mapping, r#"{"mode": "ALLOW_ANY"}"#, SIDECARS, "traffic to what the mesh does not know"),
    field("pathNormalization", Mapping, "", Gateways, "how paths are normalised before policies see them"),
    field("protocolDetectionTimeout", Duration, "\"0s\"", ENVOY, "time to guess a protocol"),
    field("proxyHttpPort", Number, "", ENVOY, "port of an HTTP proxy"),
    field("proxyInboundListenPort", Number, "15006", SIDECARS, "port of inbound capture"),
    field("proxyListenPort", Number, "15001", SIDECARS, "port of outbound capture"),
    field("rootNamespace", Text, "\"istio-system\"", AtStart, "namespace whose policies without a selector concern the whole mesh"),
    field("serviceScopeConfigs", List, "", ONE_CLUSTER, "which services other clusters see"),
    field("serviceSettings", List, "", ONE_CLUSTER, "which services stay in their cluster"),
    field("tcpKeepalive", Mapping, "", Gateways, "probes of silent connections"),
    field("tlsDefaults", Mapping, "", Gateways, "TLS towards and from outside of the mesh"),
    field("trustDomain", Text, "\"cluster.local\"", AtStart, "trust domain of every identity"),
    field("trustDomainAliases", List, "[]", Effect::None("policies name the trust domain that they mean"), "former names of the trust domain"),
    field("verifyCertificateAtClient", Flag, "true", ENVOY, "certificates of outside servers are checked"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ascend_and_defaults_have_their_shape() {
        assert!(FIELDS.is_sorted_by(|a, b| a.name < b.name));
        for field in FIELDS {
            assert!(
                field.default.is_empty() || field.default().is_some_and(|value| field.shape.fits(&value)),
                "{}",
                field.name
            );
        }
    }
}
