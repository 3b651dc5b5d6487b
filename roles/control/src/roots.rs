//! The mesh's roots in every namespace, where pods mount them: ConfigMap `istio-ca-root-cert`.

use crate::{authority::Authority, leader::Leader};
use api::{ConfigMap, Namespace, ObjectMeta};
use cluster::{Client, Scope, Store};
use model::well_known::ROOT_CONFIG_MAP;
use std::time::Duration;

const KEY: &str = "root-cert.pem";
const MANAGER: &str = "istiod-namespace-controller";
const SKIPPED: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the ConfigMaps right for as long as it is polled.
pub async fn keep(client: Client, authority: Authority, mut leader: Leader) {
    let namespaces: Store<Namespace> = client.watch(Scope::all());
    let config_maps: Store<ConfigMap> = client.watch(Scope::all().fields(format!("metadata.name={ROOT_CONFIG_MAP}")));
    namespaces.synced().await;
    config_maps.synced().await;
    let (mut namespace_changes, mut config_map_changes) = (namespaces.version(), config_maps.version());
    let mut authority_changes = authority.changes();
    loop {
        leader.acquired().await;
        namespace_changes.borrow_and_update();
        config_map_changes.borrow_and_update();
        let roots = authority.issuer().roots_pem();
        let mut failed = false;
        for namespace in namespaces.list() {
            if !is_wanted(&namespace) {
                continue;
            }
            let name = &namespace.metadata.name;
            let held = config_maps.get(name, ROOT_CONFIG_MAP);
            if held.is_some_and(|held| held.data.get(KEY) == Some(&roots)) {
                continue;
            }
            if let Err(error) = client.apply(&config_map(name, &roots), MANAGER).await {
                // A namespace that ends meanwhile takes its ConfigMap along.
                failed |= !(error.is_not_found() || error.is_forbidden());
                tracing::warn!(namespace = name, "writing ConfigMap {ROOT_CONFIG_MAP}: {error}");
            }
        }
        tokio::select! {
            _ = namespace_changes.changed() => {}
            _ = config_map_changes.changed() => {}
            _ = authority_changes.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

fn is_wanted(namespace: &Namespace) -> bool {
    namespace.status.phase != "Terminating"
        && namespace.metadata.deletion_timestamp.is_none()
        && !SKIPPED.contains(&namespace.metadata.name.as_str())
}

fn config_map(namespace: &str, roots: &str) -> ConfigMap {
    let mut metadata = ObjectMeta::named(namespace, ROOT_CONFIG_MAP);
    metadata.labels.insert("istio.io/config".to_owned(), "true".to_owned());
    ConfigMap { metadata, data: [(KEY.to_owned(), roots.to_owned())].into(), ..ConfigMap::default() }
}
