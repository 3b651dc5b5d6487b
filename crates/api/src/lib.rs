//! The resources that people and programs write: the part of Kubernetes that the mesh uses, istio.io and Gateway API.
//!
//! Plain serde types with Kubernetes' field names: [`Resource`] says what a type is called on the wire,
//! [`selector`] and [`quantity`] read its small languages, [`yaml`] its manifests, [`crd`] describes our own kinds to an
//! API server, [`validate`] tells a writer what is wrong and
//! [`salvage`] keeps what is left of a broken policy. No clock, no socket and no async:
//! talking to an API server is `cluster`'s work, being one is `apiserver`'s, and the meaning of a policy is `control`'s.
//!
//! Reading is tolerant (unknown fields are ignored, a `null` is an absent field), writing leaves out what is empty.
//! So nobody writes back a whole object that was read: writers use patches and server-side apply.

mod macros;

mod admission;
pub mod apps;
pub mod authentication;
pub mod coordination;
pub mod core;
pub mod crd;
pub mod discovery;
pub mod gateway;
mod int_or_string;
pub mod istio;
mod json;
mod kubeconfig;
mod meta;
mod networking;
pub mod quantity;
pub mod rbac;
mod resource;
pub mod salvage;
pub mod selector;
mod shaped;
mod time;
pub mod validate;
pub mod yaml;

pub use admission::ValidatingWebhookConfiguration;
pub use apps::{
    ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus, Deployment, DeploymentSpec, DeploymentStatus,
    HorizontalPodAutoscaler, PodDisruptionBudget, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, RollingUpdate,
    UpdateStrategy,
};
pub use authentication::{
    BoundObjectReference, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
    TokenRequest, TokenRequestSpec, TokenRequestStatus, TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
pub use coordination::{Lease, LeaseSpec};
pub use core::*;
pub use crd::crds;
pub use discovery::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
pub use gateway::{
    BackendTLSPolicy, GRPCRoute, Gateway, GatewayAddress, GatewayClass, GatewaySpec, GatewayStatus,
    GatewayStatusAddress, HTTPRoute, Listener, ListenerStatus, ReferenceGrant, TCPRoute, TLSRoute,
};
pub use int_or_string::IntOrString;
pub use istio::{
    AuthorizationPolicy, DestinationRule, EnvoyFilter, IstioGateway, PeerAuthentication, ProxyConfig,
    RequestAuthentication, ServiceEntry, Sidecar, Telemetry, TrafficExtension, VirtualService, WasmPlugin,
    WorkloadEntry, WorkloadGroup,
};
pub use json::prune_nulls;
pub use kubeconfig::kubeconfig;
pub use meta::{Condition, ListMeta, ObjectMeta, OwnerReference};
pub use networking::NetworkPolicy;
pub use rbac::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
pub use resource::{ParseError, Resource, TypeMeta, object_name, type_meta};
pub use selector::{LabelSelector, LabelSelectorRequirement, Selector};
pub use shaped::read as read_part;
pub use time::{MicroTime, Time};
