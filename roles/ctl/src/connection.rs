//! The flags that say which mesh is meant.

use std::path::{Path, PathBuf};

use cluster::{Client, Source};

use crate::Error;

/// Where meshes of this host keep what concerns them while they run: `<name>/kubeconfig`.
const HOST_MESHES: &str = "/run/ambit";

/// Which cluster, and which namespaces in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Kubeconfig file; without it $KUBECONFIG, the usual file, the pod's own account, or the mesh of this host
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
            (None, None) if !is_configured() => match mesh_of_this_host(Path::new(HOST_MESHES))? {
                Some(path) => Source::Kubeconfig { path: Some(path), context: None },
                None => Source::Infer,
            },
            (None, None) => Source::Infer,
            (path, context) => Source::Kubeconfig { path: path.clone(), context: context.clone() },
        };
        Ok(Client::connect(&source).await?)
    }

    /// The namespace that was said on the command line.
    pub(crate) fn said_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub(crate) fn namespace<'a>(&'a self, client: &'a Client) -> &'a str {
        self.namespace.as_deref().unwrap_or_else(|| client.default_namespace())
    }
}

/// Whether the surroundings say which cluster is meant.
fn is_configured() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("KUBECONFIG")
        || is_set("KUBERNETES_SERVICE_HOST")
        || std::env::home_dir().is_some_and(|home| home.join(".kube/config").exists())
}

/// The kubeconfig of the one mesh that runs on this host; of several, one must be named.
fn mesh_of_this_host(folder: &Path) -> Result<Option<PathBuf>, Error> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(None);
    };
    let mut found: Vec<_> =
        entries.flatten().map(|entry| entry.path().join("kubeconfig")).filter(|path| path.exists()).collect();
    found.sort();
    if found.len() > 1 {
        let paths: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::Usage(format!(
            "several meshes run on this host; say which by --kubeconfig: {}",
            paths.join(", ")
        )));
    }
    Ok(found.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_mesh_of_a_host_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mesh_of_this_host(&folder.path().join("none")).unwrap(), None);
        assert_eq!(mesh_of_this_host(folder.path()).unwrap(), None);
        for name in ["ended", "first"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let first = folder.path().join("first/kubeconfig");
        std::fs::write(&first, "").unwrap();
        assert_eq!(mesh_of_this_host(folder.path()).unwrap(), Some(first));
        std::fs::write(folder.path().join("ended/kubeconfig"), "").unwrap();
        let error = mesh_of_this_host(folder.path()).unwrap_err().to_string();
        assert!(error.contains("ended/kubeconfig") && error.contains("first/kubeconfig"), "{error}");
    }
}
