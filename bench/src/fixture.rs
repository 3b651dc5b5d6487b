//! The pods of a measurement: a client on node n1 and a sink on each node, once outside the mesh and once inside, and some
//! more of the mesh's so that its start is that of ten pods.

use anyhow::{Context, Result};
use api::{Pod, Resource};
use model::well_known::DATAPLANE_MODE_LABEL;
use serde_json::{Value, json};
use testkit::World;

use crate::work::{Path, Place};

/// Port of the sinks.
pub(crate) const PORT: u16 = 9100;
/// The pod that makes load.
pub(crate) const CLIENT: &str = "client";
/// How many pods there are.
pub(crate) const PODS: usize = 10;

/// Pods of each path, and the nodes that they are on.
const MEASURED: [(&str, &str); 3] = [(CLIENT, "n1"), ("same", "n1"), ("cross", "n2")];
const FURTHER: [(&str, &str); PODS - 2 * MEASURED.len()] =
    [("further-1", "n1"), ("further-2", "n2"), ("further-3", "n1"), ("further-4", "n2")];

/// Where the sinks are.
#[derive(Debug)]
pub(crate) struct Sinks(Vec<(Path, String, String)>);

impl Sinks {
    /// The address and port of a sink.
    pub(crate) fn target(&self, path: Path, place: Place) -> Result<String> {
        let name = place.sink();
        let found = self.0.iter().find(|(of, pod, _)| *of == path && pod == name);
        let (_, _, address) = found.with_context(|| format!("pod {}/{name} has no address", path.namespace()))?;
        Ok(format!("{address}:{PORT}"))
    }
}

/// Makes the pods and waits until all of them are ready and those of the mesh enrolled.
pub(crate) async fn deploy(world: &World) -> Result<Sinks> {
    world.client.apply_manifests(manifests(), "bench", "default").await.context("making the pods")?;
    let mut sinks = Vec::new();
    for path in Path::ALL {
        let pods = world.ready(path.namespace(), pods_of(path).count()).await?;
        sinks.extend(pods.iter().map(|pod| (path, pod.name().to_owned(), address(pod))));
    }
    world.redirected(Path::Mesh.namespace(), true).await?;
    Ok(Sinks(sinks))
}

fn address(pod: &Pod) -> String {
    pod.status.pod_ip.clone()
}

fn pods_of(path: Path) -> impl Iterator<Item = (&'static str, &'static str)> {
    let further = if path == Path::Mesh { FURTHER.as_slice() } else { &[] };
    MEASURED.into_iter().chain(further.iter().copied())
}

fn manifests() -> Vec<Value> {
    let mut objects = Vec::new();
    for path in Path::ALL {
        let labels = if path == Path::Mesh { json!({DATAPLANE_MODE_LABEL: "ambient"}) } else { json!({}) };
        let metadata = json!({"name": path.namespace(), "labels": labels});
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        objects.extend(pods_of(path).map(|(name, node)| pod(path.namespace(), name, node)));
    }
    objects
}

fn pod(namespace: &str, name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app",
                "image": "ambit.local/app",
                "args": ["sink", "--port", PORT.to_string()],
                "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 2},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_pods_as_is_told() {
        let of_kind = |kind: &str| manifests().iter().filter(|object| object["kind"] == kind).count();
        assert_eq!(of_kind("Pod"), PODS);
        assert_eq!(of_kind("Namespace"), 2);
    }
}
