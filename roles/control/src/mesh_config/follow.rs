//! Where settings come from, and how a change of them arrives.

use super::MeshConfig;
use api::ConfigMap;
use cluster::{Client, Scope, Store};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a start waits for the ConfigMap: an account that may not read it starts with defaults.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where settings are in a ConfigMap.
const KEY: &str = "mesh";

/// Where settings come from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// A file that goes before the ConfigMap while it exists.
    pub file: PathBuf,
    /// The cluster with the ConfigMap.
    pub client: Option<Client>,
    /// Its namespace.
    pub namespace: String,
    /// The revision, which is part of its name.
    pub revision: String,
    /// A further ConfigMap, under the first.
    pub shared: Option<String>,
}

/// The ConfigMaps, where there is a cluster.
struct Maps {
    own: Store<ConfigMap>,
    shared: Option<Store<ConfigMap>>,
    namespace: String,
    name: String,
    shared_name: String,
}

/// The name of a revision's ConfigMap.
fn map_name(revision: &str) -> String {
    if revision.is_empty() || revision == "default" { "istio".to_owned() } else { format!("istio-{revision}") }
}

/// Reads the settings, and follows them for as long as somebody looks.
pub async fn follow(origin: Origin) -> watch::Receiver<Arc<MeshConfig>> {
    let maps = origin.client.as_ref().map(|client| {
        let (name, shared_name) = (map_name(&origin.revision), origin.shared.clone().unwrap_or_default());
        let watch = |name: &str| client.watch::<ConfigMap>(Scope::object(&origin.namespace, name));
        let shared = (!shared_name.is_empty()).then(|| watch(&shared_name));
        Maps { own: watch(&name), shared, namespace: origin.namespace.clone(), name, shared_name }
    });
    if let Some(maps) = &maps
        && tokio::time::timeout(PATIENCE, maps.synced()).await.is_err()
    {
        tracing::warn!("ConfigMap {}/{} cannot be read: defaults hold until it can", maps.namespace, maps.name);
    }
    let mut written = Written::read(&origin.file, maps.as_ref()).await;
    let (settings, followed) = watch::channel(Arc::new(written.parse().unwrap_or_default()));
    runtime::task::spawn("mesh settings", async move {
        let mut versions = maps.as_ref().map(|maps| maps.own.version());
        loop {
            tokio::select! {
                () = settings.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
                changed = changed(&mut versions) => if !changed { return },
            }
            let now = Written::read(&origin.file, maps.as_ref()).await;
            if now == written {
                continue;
            }
            written = now;
            // What cannot be read leaves what was read before.
            if let Some(next) = written.parse() {
                tracing::info!("the mesh's settings have changed");
                settings.send_replace(Arc::new(next));
            }
        }
    });
    followed
}

async fn changed(versions: &mut Option<watch::Receiver<u64>>) -> bool {
    match versions {
        Some(versions) => versions.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

impl Maps {
    async fn synced(&self) {
        self.own.synced().await;
        if let Some(shared) = &self.shared {
            shared.synced().await;
        }
    }

    fn texts(&self) -> (String, String) {
        let text = |store: &Store<ConfigMap>, name: &str| {
            store.get(&self.namespace, name).and_then(|map| map.data.get(KEY).cloned()).unwrap_or_default()
        };
        (
            self.shared.as_ref().map(|store| text(store, &self.shared_name)).unwrap_or_default(),
            text(&self.own, &self.name),
        )
    }
}

/// Settings as they are written.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// Where, for whoever has to mend them.
    place: String,
    lower: String,
    upper: String,
}

impl Written {
    async fn read(file: &Path, maps: Option<&Maps>) -> Self {
        if let Ok(upper) = tokio::fs::read_to_string(file).await {
            return Self { place: file.display().to_string(), lower: String::new(), upper };
        }
        let (lower, upper) = maps.map(Maps::texts).unwrap_or_default();
        let place = maps.map_or_else(String::new, |maps| format!("ConfigMap {}/{}", maps.namespace, maps.name));
        Self { place, lower, upper }
    }

    fn parse(&self) -> Option<MeshConfig> {
        let parsed = MeshConfig::layered(&self.lower, &self.upper);
        parsed.map_err(|error| tracing::error!("{} is not used, what was read before holds: {error}", self.place)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_is_followed_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh");
        std::fs::write(&file, "ingressClass: one").unwrap();
        let origin = Origin {
            file: file.clone(),
            client: None,
            namespace: String::new(),
            revision: String::new(),
            shared: None,
        };
        let mut settings = follow(origin).await;
        assert_eq!(settings.borrow_and_update().said("ingressClass"), Some("one"));
        std::fs::write(&file, "ingressClass: [").unwrap();
        assert!(tokio::time::timeout(5 * LOOK, settings.changed()).await.is_err());
        std::fs::write(&file, "ingressClass: two").unwrap();
        settings.changed().await.unwrap();
        assert_eq!(settings.borrow_and_update().said("ingressClass"), Some("two"));
    }

    #[test]
    fn a_revision_has_a_configmap_of_its_own() {
        assert_eq!((map_name("default").as_str(), map_name("blue").as_str()), ("istio", "istio-blue"));
    }
}
