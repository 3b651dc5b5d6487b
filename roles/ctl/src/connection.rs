//! The flags that say which mesh is meant.

use std::path::PathBuf;

use cluster::{Client, Source};

use crate::Error;

/// Which cluster, and which namespaces in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Kubeconfig file; without it $KUBECONFIG, the usual file, or the pod's own account
    #[arg(short = 'c', long, global = true)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace of pods that are named without one
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Namespace of the control plane
    #[arg(short, long = "istioNamespace", value_name = "NAMESPACE", default_value = "istio-system", global = true)]
    pub(crate) istio_namespace: String,
}

impl Flags {
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        let source = match (&self.kubeconfig, &self.context) {
            (None, None) => Source::Infer,
            (path, context) => Source::Kubeconfig { path: path.clone(), context: context.clone() },
        };
        Ok(Client::connect(&source).await?)
    }

    pub(crate) fn namespace<'a>(&'a self, client: &'a Client) -> &'a str {
        self.namespace.as_deref().unwrap_or_else(|| client.default_namespace())
    }
}
