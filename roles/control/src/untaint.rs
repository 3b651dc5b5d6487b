//! Takes the taint `cni.istio.io/not-ready` off a node once its agent is ready (control-plane A23).
//!
//! Whoever wants that no pod starts before the agent puts the taint on new nodes; this only takes it away.

use crate::leader::Leader;
use api::{Node, Pod, Resource};
use cluster::{Client, Patch, Scope, Store};
use serde_json::{Value, json};
use std::time::Duration;

const TAINT: &str = "cni.istio.io/not-ready";
const AGENT: &str = "k8s-app=istio-cni-node";
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps nodes with a ready agent free of the taint for as long as it is polled.
pub(crate) async fn run(client: Client, namespace: String, mut leader: Leader) {
    let nodes: Store<Node> = client.watch(Scope::all());
    let agents: Store<Pod> = client.watch(Scope::namespace(namespace).labels(AGENT));
    nodes.synced().await;
    agents.synced().await;
    let (mut node_changes, mut agent_changes) = (nodes.version(), agents.version());
    loop {
        leader.acquired().await;
        node_changes.borrow_and_update();
        agent_changes.borrow_and_update();
        let mut failed = false;
        for agent in
            agents.list().iter().filter(|agent| agent.is_ready() && agent.metadata.deletion_timestamp.is_none())
        {
            let Some(node) = nodes.get("", &agent.spec.node_name) else { continue };
            let Some(patch) = untainted(&node) else { continue };
            if leader.leads()
                && let Err(error) = client.patch::<Node>("", node.name(), Patch::Json(patch)).await
            {
                failed = true;
                tracing::warn!(node = node.name(), "taking taint {TAINT} off a node: {error}; trying again");
            }
        }
        tokio::select! {
            _ = node_changes.changed() => {}
            _ = agent_changes.changed() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// The change that takes the taint away and fails if somebody else moved it meanwhile; none without the taint.
fn untainted(node: &Node) -> Option<Value> {
    let place = node.spec.taints.iter().position(|taint| taint.key == TAINT)?;
    Some(json!([
        {"op": "test", "path": format!("/spec/taints/{place}/key"), "value": TAINT},
        {"op": "remove", "path": format!("/spec/taints/{place}")},
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agents_taint_goes() {
        let node =
            |taints: Value| Node::from_value(json!({"metadata": {"name": "n1"}, "spec": {"taints": taints}})).unwrap();
        let other = json!({"key": "other", "effect": "NoSchedule"});
        let own = json!({"key": TAINT, "effect": "NoExecute"});
        let patch = untainted(&node(json!([other, own]))).unwrap();
        assert_eq!((&patch[0]["path"], &patch[1]["path"]), (&json!("/spec/taints/1/key"), &json!("/spec/taints/1")));
        assert_eq!(untainted(&node(json!([other]))), None);
        assert_eq!(untainted(&node(json!([]))), None);
    }
}
