//! The core group: pods and what they are made of, services, nodes, namespaces, configuration, events.

mod config;
mod container;
mod event;
mod node;
mod pod;
mod probe;
mod service;
mod volume;

pub use config::{ConfigMap, LocalObjectReference, ObjectReference, Secret, ServiceAccount};
pub use container::{
    Capabilities, ConfigMapEnvSource, Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, KeySelector,
    ObjectFieldSelector, ResourceFieldSelector, ResourceRequirements, SecurityContext, VolumeMount,
};
pub use event::{Event, EventSeries, EventSource};
pub use node::{
    Namespace, NamespaceSpec, NamespaceStatus, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo, Taint,
};
pub use pod::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostAlias,
    HostIp, Pod, PodDnsConfig, PodDnsConfigOption, PodIp, PodReadinessGate, PodSecurityContext, PodSpec, PodStatus,
    PodTemplateSpec, Sysctl, Toleration,
};
pub use probe::{
    ExecAction, GrpcAction, HttpGetAction, HttpHeader, Lifecycle, LifecycleHandler, Probe, SleepAction, TcpSocketAction,
};
pub use service::{
    ClientIpConfig, Endpoints, LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec,
    ServiceStatus, SessionAffinityConfig,
};
pub use volume::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardApiProjection, DownwardApiVolumeFile, DownwardApiVolumeSource,
    EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource, SecretProjection, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
