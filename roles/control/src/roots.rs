//! The mesh's roots in every namespace, where pods mount them: ConfigMap `istio-ca-root-cert`; and beside it, when there is
//! one, the list of certificates that are no longer believed: ConfigMap `istio-ca-crl`.

use crate::{authority::Authority, leader::Leader};
use api::{ConfigMap, Namespace, ObjectMeta};
use cluster::{Client, DeleteOptions, Scope, Store};
use model::well_known::ROOT_CONFIG_MAP;
use std::time::Duration;

/// A ConfigMap that every namespace has, and under which key.
struct Spread {
    name: &'static str,
    key: &'static str,
}

const ROOTS: Spread = Spread { name: ROOT_CONFIG_MAP, key: "root-cert.pem" };
const REVOKED: Spread = Spread { name: "istio-ca-crl", key: "ca-crl.pem" };
const MANAGER: &str = "istiod-namespace-controller";
const SKIPPED: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the ConfigMaps right for as long as it is polled.
pub async fn keep(client: Client, authority: Authority, mut leader: Leader) {
    let namespaces: Store<Namespace> = client.watch(Scope::all());
    let held =
        |spread: &Spread| client.watch::<ConfigMap>(Scope::all().fields(format!("metadata.name={}", spread.name)));
    let (roots, revoked) = (held(&ROOTS), held(&REVOKED));
    namespaces.synced().await;
    roots.synced().await;
    revoked.synced().await;
    let (mut namespace_changes, mut root_changes, mut revoked_changes) =
        (namespaces.version(), roots.version(), revoked.version());
    let mut authority_changes = authority.changes();
    loop {
        leader.acquired().await;
        namespace_changes.borrow_and_update();
        root_changes.borrow_and_update();
        revoked_changes.borrow_and_update();
        authority_changes.borrow_and_update();
        let texts =
            [(&ROOTS, &roots, authority.issuer().roots_pem()), (&REVOKED, &revoked, authority.revoked().to_string())];
        let mut failed = false;
        for namespace in namespaces.list().iter().filter(|namespace| is_wanted(namespace)) {
            for (spread, held, text) in &texts {
                if leader.leads() {
                    failed |= !spread.keep(&client, &namespace.metadata.name, held, text).await;
                }
            }
        }
        tokio::select! {
            _ = namespace_changes.changed() => {}
            _ = root_changes.changed() => {}
            _ = revoked_changes.changed() => {}
            _ = authority_changes.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

impl Spread {
    /// Makes a namespace's ConfigMap say the text, or takes ours away where there is none; whether that went well.
    async fn keep(&self, client: &Client, namespace: &str, held: &Store<ConfigMap>, text: &str) -> bool {
        let held = held.get(namespace, self.name);
        let done = match held {
            Some(held) if text.is_empty() && held.metadata.label(LABEL).is_some() => {
                client.delete::<ConfigMap>(namespace, self.name, &DeleteOptions::default().of(&*held)).await.map(drop)
            }
            _ if text.is_empty() => Ok(()),
            Some(held) if held.data.get(self.key).is_some_and(|held| held == text) => Ok(()),
            _ => client.apply(&self.config_map(namespace, text), MANAGER).await.map(drop),
        };
        let Err(error) = done else { return true };
        tracing::warn!(namespace, "writing ConfigMap {}: {error}", self.name);
        // A namespace that ends meanwhile takes its ConfigMap along.
        error.is_not_found() || error.is_forbidden()
    }

    fn config_map(&self, namespace: &str, text: &str) -> ConfigMap {
        let mut metadata = ObjectMeta::named(namespace, self.name);
        metadata.labels.insert(LABEL.to_owned(), "true".to_owned());
        ConfigMap { metadata, data: [(self.key.to_owned(), text.to_owned())].into(), ..ConfigMap::default() }
    }
}

/// Marks what is written here.
const LABEL: &str = "istio.io/config";

fn is_wanted(namespace: &Namespace) -> bool {
    namespace.status.phase != "Terminating"
        && namespace.metadata.deletion_timestamp.is_none()
        && !SKIPPED.contains(&namespace.metadata.name.as_str())
}
