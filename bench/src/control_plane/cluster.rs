//! A generated mesh, object by object as a watch brings it: from JSON.

use api::{Namespace, Node, Pod, Service};
use control::{discovery::Discovery, resolve::Kind, source::Edit};
use serde_json::{Value, json};
use std::sync::Arc;

/// Name of the pod that marks the end of a storm.
pub(super) const LAST: &str = "the-last-pod";
/// Pods of a node.
const PER_NODE: u32 = 100;

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) pods: u32,
    pub(super) services: u32,
    pub(super) namespaces: u32,
}

fn edit<T: Kind>(value: Value) -> Edit {
    // INVARIANT: what this file writes has its kind's shape, or the first run tells.
    let object = T::from_value(value).map(Arc::new);
    Box::new(move |discovery: &mut Discovery| match object {
        Ok(object) => discovery.set(object),
        Err(error) => eprintln!("a generated object cannot be read: {error}"),
    })
}

impl Shape {
    /// All of it, made one by one.
    pub(super) fn everything(self) -> impl Iterator<Item = Edit> {
        let namespaces =
            (0..self.namespaces).map(|number| edit::<Namespace>(json!({"metadata": {"name": format!("ns-{number}")}})));
        let nodes = (0..self.pods.div_ceil(PER_NODE)).map(|number| {
            let zone = json!({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": format!("z{}", number % 3)});
            edit::<Node>(json!({"metadata": {"name": format!("node-{number}"), "labels": zone}}))
        });
        let services = (0..self.services).map(move |number| self.service(number));
        let pods = (0..self.pods).map(move |number| edit::<Pod>(self.pod(number, 0)));
        namespaces.chain(nodes).chain(services).chain(pods)
    }

    fn service(self, number: u32) -> Edit {
        let namespace = format!("ns-{}", number % self.namespaces);
        edit::<Service>(json!({
            "metadata": {"name": format!("svc-{number}"), "namespace": namespace},
            "spec": {
                "selector": {"app": format!("app-{number}")},
                "clusterIP": address(96, number), "clusterIPs": [address(96, number)],
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            },
        }))
    }

    /// A pod as the cluster has it, fields that nobody here reads included.
    fn pod(self, number: u32, version: u32) -> Value {
        let service = number % self.services;
        let namespace = format!("ns-{}", service % self.namespaces);
        let ip = address(128, number);
        json!({
            "metadata": {
                "name": format!("app-{service}-5d9c7b8f4-{number:05}"), "namespace": namespace, "uid": format!("uid-{number}"),
                "labels": {
                    "app": format!("app-{service}"), "version": format!("v{version}"), "pod-template-hash": "5d9c7b8f4",
                    "service.istio.io/canonical-revision": format!("v{version}"),
                },
                "annotations": {"ambient.istio.io/redirection": "enabled"},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{service}-5d9c7b8f4"), "uid": "u", "controller": true,
                }],
            },
            "spec": {
                "nodeName": format!("node-{}", number / PER_NODE), "serviceAccountName": format!("app-{service}"),
                "containers": [{"name": "app", "image": "registry.example/app:1", "ports": [{"containerPort": 8080, "name": "http"}]}],
            },
            "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        })
    }

    /// A pod whose version is another than before.
    pub(super) fn changed_pod(self, number: u32, version: u32) -> Edit {
        // Neighbours in time are not neighbours in the mesh.
        edit::<Pod>(self.pod(number.wrapping_mul(7919) % self.pods, version + 1))
    }

    /// The pod that marks the end.
    pub(super) fn last_pod(self) -> Edit {
        let mut pod = self.pod(0, 0);
        pod["metadata"]["name"] = LAST.into();
        edit::<Pod>(pod)
    }
}

fn address(first: u32, number: u32) -> String {
    format!("10.{}.{}.{}", first + (number >> 16), number >> 8 & 255, number & 255)
}
