//! Why a pod could not be enrolled.

use std::path::PathBuf;

use crate::proxy::ProxyError;
use crate::rules::PodRulesError;

/// A pod could not be made part of the mesh, or a part of the agent could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No process of the pod is to be found.
    #[error("no network namespace of pod {pod} found on this node; it is not running yet, or its sandbox is gone")]
    NoNamespace { pod: String },
    /// The namespace is not the pod's.
    #[error("the network namespace {path} is not that of pod {pod}: {why}")]
    WrongNamespace { pod: String, path: String, why: &'static str },
    /// The rules could not be put in place.
    #[error("redirecting traffic of pod {pod}: {source}")]
    Rules { pod: String, source: PodRulesError },
    /// The node proxy does not know the pod.
    #[error("telling the node proxy about pod {pod}: {source}")]
    Proxy { pod: String, source: ProxyError },
    /// The pod is in the mesh, but does not say so.
    #[error("pod {pod} is in the mesh, but the annotation that says so could not be written")]
    Unsaid { pod: String },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    /// The API refused.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A file could not be used.
    #[error("{doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// A setting cannot be understood.
    #[error("AMBIENT_ENABLEMENT_SELECTOR: {0}; write a YAML list of podSelector and namespaceSelector")]
    Selector(String),
}
