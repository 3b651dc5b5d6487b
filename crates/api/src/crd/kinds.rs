//! The table of our kinds: names, versions, columns.

use serde_json::Value;

use super::schema::structural;
use crate::gateway::{GatewayClassSpec, GatewayClassStatus, GatewaySpec, GatewayStatus};
use crate::istio::{
    AuthorizationPolicySpec, IstioStatus, PeerAuthenticationSpec, ServiceEntrySpec, WorkloadEntrySpec,
    WorkloadGroupSpec,
};

const SECURITY: &str = "security.istio.io";
const NETWORKING: &str = "networking.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";
const AGE: Column = Column::new("Age", "date", ".metadata.creationTimestamp");

/// A kind and what an API server must know of it.
#[derive(Debug)]
pub struct Kind {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Short name for people; may be empty.
    pub short_name: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether there is a status subresource.
    pub has_status: bool,
    /// Versions; one is stored.
    pub versions: &'static [Version],
    /// Columns of a table.
    pub columns: &'static [Column],
    /// What objects look like.
    pub schema: Schema,
}

/// A version of a kind. All versions of a kind have the same schema.
#[derive(Debug)]
pub struct Version {
    /// Name.
    pub name: &'static str,
    /// Whether it can be read and written.
    pub served: bool,
    /// Whether objects are kept in it.
    pub storage: bool,
    /// Whether it is there only for objects that were kept in it long ago.
    pub deprecated: bool,
}

impl Version {
    const fn new(name: &'static str) -> Self {
        Self { name, served: true, storage: false, deprecated: false }
    }

    const fn stored(self) -> Self {
        Self { storage: true, ..self }
    }

    const fn retired(self) -> Self {
        Self { served: false, deprecated: true, ..self }
    }
}

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `date`.
    pub type_: &'static str,
    /// Where the value is.
    pub path: &'static str,
    /// Above 0 only in wide tables.
    pub priority: u8,
}

impl Column {
    const fn new(name: &'static str, type_: &'static str, path: &'static str) -> Self {
        Self { name, type_, path, priority: 0 }
    }

    const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// What objects of a kind look like.
#[derive(Debug)]
pub enum Schema {
    /// As our types say.
    Typed {
        /// Schema of `spec`.
        spec: fn() -> Value,
        /// Schema of `status`.
        status: fn() -> Value,
    },
    /// An object with a spec and a status that are kept as written.
    AsWritten,
}

impl Kind {
    /// The groups of kinds that `kubectl get` knows by one name.
    pub(super) fn categories(&self) -> Vec<String> {
        if self.group == crate::gateway::GROUP {
            return vec!["gateway-api".to_owned()];
        }
        vec!["istio-io".to_owned(), self.group.replace('.', "-")]
    }

    /// What a server or a tool wants to see on the definition.
    pub(super) fn annotations(&self) -> &'static [(&'static str, &'static str)] {
        if self.group != crate::gateway::GROUP {
            return &[];
        }
        &[
            // A server refuses kinds in a k8s.io group that do not name their approval.
            ("api-approved.kubernetes.io", "https://github.com/kubernetes-sigs/gateway-api/pull/2997"),
            ("gateway.networking.k8s.io/bundle-version", "v1.6.0"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ]
    }
}

/// Every kind, by group and name.
pub static KINDS: &[Kind] = &[
    Kind {
        group: EXTENSIONS,
        kind: "TrafficExtension",
        plural: "trafficextensions",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1alpha1").stored()],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: EXTENSIONS,
        kind: "WasmPlugin",
        plural: "wasmplugins",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1alpha1").stored()],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "BackendTLSPolicy",
        plural: "backendtlspolicies",
        short_name: "btlspolicy",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3").retired()],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "GRPCRoute",
        plural: "grpcroutes",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored()],
        columns: &[Column::new("Hostnames", "string", ".spec.hostnames"), AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "Gateway",
        plural: "gateways",
        short_name: "gtw",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1beta1")],
        columns: &[
            Column::new("Class", "string", ".spec.gatewayClassName"),
            Column::new("Address", "string", ".status.addresses[*].value"),
            Column::new("Programmed", "string", r#".status.conditions[?(@.type=="Programmed")].status"#),
            AGE,
        ],
        schema: Schema::Typed { spec: structural::<GatewaySpec>, status: structural::<GatewayStatus> },
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "GatewayClass",
        plural: "gatewayclasses",
        short_name: "gc",
        namespaced: false,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1beta1")],
        columns: &[
            Column::new("Controller", "string", ".spec.controllerName"),
            Column::new("Accepted", "string", r#".status.conditions[?(@.type=="Accepted")].status"#),
            AGE,
            Column::new("Description", "string", ".spec.description").wide(),
        ],
        schema: Schema::Typed { spec: structural::<GatewayClassSpec>, status: structural::<GatewayClassStatus> },
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "HTTPRoute",
        plural: "httproutes",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1beta1")],
        columns: &[Column::new("Hostnames", "string", ".spec.hostnames"), AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "ListenerSet",
        plural: "listenersets",
        short_name: "lset",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored()],
        columns: &[
            Column::new("Accepted", "string", r#".status.conditions[?(@.type=="Accepted")].status"#),
            Column::new("Programmed", "string", r#".status.conditions[?(@.type=="Programmed")].status"#),
            AGE,
        ],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "ReferenceGrant",
        plural: "referencegrants",
        short_name: "refgrant",
        namespaced: true,
        has_status: false,
        versions: &[Version::new("v1"), Version::new("v1beta1").stored()],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "TCPRoute",
        plural: "tcproutes",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha2").retired()],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "TLSRoute",
        plural: "tlsroutes",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[
            Version::new("v1").stored(),
            Version::new("v1alpha2").retired(),
            Version::new("v1alpha3").retired(),
        ],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: crate::gateway::GROUP,
        kind: "UDPRoute",
        plural: "udproutes",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha2").retired()],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: NETWORKING,
        kind: "DestinationRule",
        plural: "destinationrules",
        short_name: "dr",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3"), Version::new("v1beta1")],
        columns: &[Column::new("Host", "string", ".spec.host"), AGE],
        schema: Schema::AsWritten,
    },
    Kind {
        group: NETWORKING,
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1alpha3").stored()],
        columns: &[],
        schema: Schema::AsWritten,
    },
    Kind {
        group: NETWORKING,
        kind: "Gateway",
        plural: "gateways",
        short_name: "gw",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3"), Version::new("v1beta1")],
        columns: &[],
        schema: Schema::AsWritten,
    },
    Kind {
        group: NETWORKING,
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1beta1").stored()],
        columns: &[],
        schema: Schema::AsWritten,
    },
    Kind {
        group: NETWORKING,
        kind: "ServiceEntry",
        plural: "serviceentries",
        short_name: "se",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3"), Version::new("v1beta1")],
        columns: &[
            Column::new("Hosts", "string", ".spec.hosts"),
            Column::new("Location", "string", ".spec.location"),
            Column::new("Resolution", "string", ".spec.resolution"),
            AGE,
        ],
        schema: Schema::Typed { spec: structural::<ServiceEntrySpec>, status: structural::<IstioStatus> },
    },
    Kind {
        group: NETWORKING,
        kind: "Sidecar",
        plural: "sidecars",
        short_name: "",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3"), Version::new("v1beta1")],
        columns: &[],
        schema: Schema::AsWritten,
    },
    Kind {
        group: NETWORKING,
        kind: "VirtualService",
        plural: "virtualservices",
        short_name: "vs",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3"), Version::new("v1beta1")],
        columns: &[
            Column::new("Gateways", "string", ".spec.gateways"),
            Column::new("Hosts", "string", ".spec.hosts"),
            AGE,
        ],
        schema: Schema::AsWritten,
    },
    Kind {
        group: NETWORKING,
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short_name: "we",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3"), Version::new("v1beta1")],
        columns: &[AGE, Column::new("Address", "string", ".spec.address")],
        schema: Schema::Typed { spec: structural::<WorkloadEntrySpec>, status: structural::<IstioStatus> },
    },
    Kind {
        group: NETWORKING,
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short_name: "wg",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1alpha3"), Version::new("v1beta1")],
        columns: &[AGE],
        schema: Schema::Typed { spec: structural::<WorkloadGroupSpec>, status: structural::<IstioStatus> },
    },
    Kind {
        group: SECURITY,
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short_name: "ap",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1beta1")],
        columns: &[Column::new("Action", "string", ".spec.action"), AGE],
        schema: Schema::Typed { spec: structural::<AuthorizationPolicySpec>, status: structural::<IstioStatus> },
    },
    Kind {
        group: SECURITY,
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short_name: "pa",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1beta1")],
        columns: &[Column::new("Mode", "string", ".spec.mtls.mode"), AGE],
        schema: Schema::Typed { spec: structural::<PeerAuthenticationSpec>, status: structural::<IstioStatus> },
    },
    Kind {
        group: SECURITY,
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short_name: "ra",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1").stored(), Version::new("v1beta1")],
        columns: &[],
        schema: Schema::AsWritten,
    },
    Kind {
        group: TELEMETRY,
        kind: "Telemetry",
        plural: "telemetries",
        short_name: "telemetry",
        namespaced: true,
        has_status: true,
        versions: &[Version::new("v1"), Version::new("v1alpha1").stored()],
        columns: &[AGE],
        schema: Schema::AsWritten,
    },
];
