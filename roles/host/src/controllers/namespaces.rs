//! What every namespace has from the start: a default service account and the API's certificate authority.

use std::path::Path;

use api::{ConfigMap, Resource, ServiceAccount};
use cluster::Change;

use super::View;
use crate::AnyError;

const ROOT: &str = "kube-root-ca.crt";

/// The PEM text of the API's certificate authority: from a file of its own, or out of the kubeconfig.
pub(super) async fn root_certificate(file: Option<&Path>, kubeconfig: Option<&Path>) -> Result<String, AnyError> {
    if let Some(file) = file {
        let text = tokio::fs::read_to_string(file).await;
        return Ok(text.map_err(|error| format!("cannot read {}: {error}", file.display()))?);
    }
    let path = kubeconfig.map(Path::to_owned).or_else(|| std::env::var_os("KUBECONFIG").map(Into::into));
    let Some(path) = path else {
        // A pod's own account has it at hand.
        return Ok(tokio::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt").await?);
    };
    let text = tokio::fs::read_to_string(&path).await;
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(in_kubeconfig(&text).ok_or_else(|| format!("{} names no certificate authority", path.display()))?)
}

/// The first cluster's authority in a kubeconfig.
fn in_kubeconfig(text: &str) -> Option<String> {
    use base64::Engine;
    let document = api::yaml::read_documents(text.as_bytes()).ok()?.into_iter().next()?;
    let cluster = document.pointer("/clusters/0/cluster")?;
    if let Some(data) = cluster.get("certificate-authority-data").and_then(serde_json::Value::as_str) {
        return String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).ok()?).ok();
    }
    std::fs::read_to_string(cluster.get("certificate-authority")?.as_str()?).ok()
}

/// Gives every namespace what it should have, also when somebody takes it away.
pub(super) async fn run(view: View, root: String) {
    let mut changes = view.namespaces.changes();
    loop {
        if let Change::Applied(namespace) = changes.next().await
            && namespace.metadata.deletion_timestamp.is_none()
        {
            furnish(&view, namespace.name(), &root).await;
        }
    }
}

async fn furnish(view: &View, namespace: &str, root: &str) {
    let account = ServiceAccount { metadata: api::ObjectMeta::named(namespace, "default"), ..Default::default() };
    let mut map = ConfigMap { metadata: api::ObjectMeta::named(namespace, ROOT), ..Default::default() };
    map.data.insert("ca.crt".to_owned(), root.to_owned());
    loop {
        let account = super::apply::create_once(&view.client, &account).await;
        let map = super::apply::create_once(&view.client, &map).await;
        match account.and(map) {
            Ok(()) => return,
            // Gone already.
            Err(error) if error.is_not_found() || error.is_forbidden() => return,
            Err(error) => tracing::warn!(%error, namespace, "namespace not furnished; trying again"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("clusters: [{cluster: {certificate-authority-data: UEVN}}]", Some("PEM"))]
    #[case("clusters: [{cluster: {server: x}}]", None)]
    #[case("clusters: [{cluster: {certificate-authority-data: '?'}}]", None)]
    fn authorities(#[case] kubeconfig: &str, #[case] expected: Option<&str>) {
        assert_eq!(in_kubeconfig(kubeconfig).as_deref(), expected);
    }
}
