//! Which pod a command is about: `pod`, `pod.namespace`, `deployment/name.namespace`.

use std::fmt;

use api::{DaemonSet, Deployment, LabelSelector, Pod, Resource, Selector};
use cluster::{Client, Scope};

use crate::Error;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodName {
    pub(crate) name: String,
    pub(crate) namespace: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl PodName {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self { name: pod.name().to_owned(), namespace: pod.namespace().to_owned() }
    }
}

/// What an argument names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Pod(PodName),
    Controller { kind: String, name: String, namespace: String },
}

fn read(argument: &str, default_namespace: &str) -> Named {
    let (kind, rest) = match argument.split_once('/') {
        Some((kind, rest)) => (Some(kind.to_ascii_lowercase()), rest),
        None => (None, argument),
    };
    // Names of pods have no dots, except for the one before the namespace.
    let (name, namespace) = rest.rsplit_once('.').unwrap_or((rest, default_namespace));
    let (name, namespace) = (name.to_owned(), namespace.to_owned());
    match kind.as_deref() {
        None | Some("pod" | "pods" | "po") => Named::Pod(PodName { name, namespace }),
        Some(kind) => Named::Controller { kind: kind.to_owned(), name, namespace },
    }
}

/// Finds the pod that an argument names; of a controller's pods a running one.
pub(crate) async fn find(client: &Client, argument: &str, default_namespace: &str) -> Result<Pod, Error> {
    match read(argument, default_namespace) {
        Named::Pod(PodName { name, namespace }) => {
            let pod = client.find::<Pod>(&namespace, &name).await?;
            pod.ok_or_else(|| Error::NoPod { wanted: format!("pod {name}"), namespace })
        }
        Named::Controller { kind, name, namespace } => {
            let selector = match kind.as_str() {
                "deployment" | "deployments" | "deploy" => {
                    client.get::<Deployment>(&namespace, &name).await?.spec.selector
                }
                "daemonset" | "daemonsets" | "ds" => client.get::<DaemonSet>(&namespace, &name).await?.spec.selector,
                other => {
                    return Err(Error::Usage(format!("{other}/{name}: give a pod, deployment/NAME or daemonset/NAME")));
                }
            };
            let wanted = format!("pod of {kind}/{name}");
            running(client, &namespace, &selector).await?.into_iter().next().ok_or(Error::NoPod { wanted, namespace })
        }
    }
}

/// The node proxy of a node; of any node when none is said.
pub(crate) async fn ztunnel(client: &Client, namespace: &str, node: Option<&str>) -> Result<Pod, Error> {
    let selector = client.get::<DaemonSet>(namespace, "ztunnel").await?.spec.selector;
    let pods = running(client, namespace, &selector).await?;
    let found = pods.into_iter().find(|pod| node.is_none_or(|node| pod.spec.node_name == node));
    let wanted = node.map_or_else(|| "ztunnel pod".to_owned(), |node| format!("ztunnel pod on node {node}"));
    found.ok_or_else(|| Error::NoPod { wanted, namespace: namespace.to_owned() })
}

/// Whether a pod is a node proxy.
pub(crate) fn is_ztunnel(pod: &Pod) -> bool {
    pod.metadata.label("app") == Some("ztunnel")
}

/// The running pods that a selector picks, by name.
pub(crate) async fn running(client: &Client, namespace: &str, selector: &LabelSelector) -> Result<Vec<Pod>, Error> {
    let scope = Scope::namespace(namespace).labels(Selector::from(selector).to_string());
    let mut pods: Vec<Pod> = client.list(&scope).await?;
    pods.retain(|pod| pod.status.phase == "Running" && pod.metadata.deletion_timestamp.is_none());
    pods.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn pod(name: &str, namespace: &str) -> Named {
        Named::Pod(PodName { name: name.into(), namespace: namespace.into() })
    }

    #[rstest]
    #[case("web-1", pod("web-1", "default"))]
    #[case("web-1.shop", pod("web-1", "shop"))]
    #[case("pod/web-1.shop", pod("web-1", "shop"))]
    #[case("ds/ztunnel.istio-system", Named::Controller {
        kind: "ds".into(), name: "ztunnel".into(), namespace: "istio-system".into(),
    })]
    fn an_argument_names_a_pod_or_a_controller(#[case] argument: &str, #[case] named: Named) {
        assert_eq!(read(argument, "default"), named);
    }
}
