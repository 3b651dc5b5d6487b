//! What can go wrong between a command and its answer.

use std::path::PathBuf;

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server did not help.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Flags do not fit together.
    #[error("{0}")]
    Usage(String),
    /// There is no such pod.
    #[error("no {wanted} is running in namespace {namespace}; check the name, and `kubectl get pods -n {namespace}`")]
    NoPod {
        /// What was looked for.
        wanted: String,
        /// Where.
        namespace: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A pod's HTTP server did not answer as expected.
    #[error("cannot ask {pod} for {path}: {message}")]
    Http {
        /// The pod, as `name.namespace`.
        pod: String,
        /// The path.
        path: String,
        /// What happened.
        message: String,
    },
    /// An answer cannot be understood.
    #[error("cannot read {what}: {message}")]
    Answer {
        /// What was read.
        what: String,
        /// What is wrong.
        message: String,
    },
    /// The control plane's gRPC server did not answer as expected.
    #[error("cannot ask {pod} which proxies are connected: {message}")]
    Syncz {
        /// The pod, as `name.namespace`.
        pod: String,
        /// What happened.
        message: String,
    },
    /// Something was found that is bad enough to fail.
    #[error("{text}Analyzers found issues when analyzing {place}")]
    Findings {
        /// What was found.
        text: String,
        /// Where.
        place: String,
    },
    /// A waypoint did not get ready in time.
    #[error("not every waypoint is programmed after {} s; see the status and logs of its pods\n{told}", waited.as_secs())]
    NotProgrammed {
        /// How long it was waited for.
        waited: std::time::Duration,
        /// What is known of each.
        told: String,
    },
    /// A result cannot be printed.
    #[error("cannot print the result: {0}")]
    Render(#[source] serde_json::Error),
    /// A result cannot be printed.
    #[error("cannot print the result: {0}")]
    Yaml(#[source] api::yaml::Problem),
}
