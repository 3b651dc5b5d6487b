//! A waypoint on one host: deployed from its Gateway, and left alone by what does not concern it.

use crate::{AMBIT, run};
use anyhow::{Result, bail, ensure};
use api::{Gateway, Pod, Resource};
use cluster::DeleteOptions;
use testkit::{World, until};

/// A waypoint whose parameters put a program in the proxy's place that is always ready.
fn waypoint(name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  gatewayClassName: istio-waypoint\n  listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]\n  \
         infrastructure: {{parametersRef: {{group: \"\", kind: ConfigMap, name: parameters}}}}\n"
    )
}

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: ConfigMap\n\
    metadata: {name: parameters, namespace: shop}\ndata:\n  deployment: |\n    \
    spec: {template: {spec: {containers: [{name: istio-proxy, image: ambit.local/app, args: [serve, --http, \"15021\"]}]}}}\n---\n";

/// The pod of a waypoint, once its Gateway is programmed.
async fn programmed(world: &World, name: &str) -> Result<Pod> {
    until(&format!("waypoint {name} to be programmed"), async || {
        let gateway: Gateway = world.client.get("shop", name).await?;
        let held = gateway.status.conditions.iter().find(|held| held.type_ == "Programmed");
        if !held.is_some_and(api::Condition::is_true) {
            bail!("{:?}", held.map(|held| &held.message));
        }
        let pods = world.pods("shop").await?;
        let own = |pod: &Pod| pod.metadata.label("gateway.networking.k8s.io/gateway-name") == Some(name);
        pods.into_iter().find(own).ok_or_else(|| anyhow::anyhow!("no pod"))
    })
    .await
}

#[test]
fn mesh_deploys_a_waypoint_and_a_restart_leaves_it_alone() {
    run(async {
        let world = World::up(AMBIT).await?;
        world.apply(&format!("{SHOP}{}", waypoint("waypoint"))).await?;
        let pod = programmed(&world, "waypoint").await?;
        ensure!(pod.service_account() == "waypoint", "it runs as {}", pod.service_account());
        ensure!(world.crash("control")? > 0, "a control plane runs");
        // Another one shows that the new control plane has looked at all of them.
        world.apply(&waypoint("later")).await?;
        programmed(&world, "later").await?;
        let same = programmed(&world, "waypoint").await?;
        ensure!(same.metadata.uid == pod.metadata.uid, "{} was replaced by {}", pod.name(), same.name());
        world.client.delete::<Gateway>("shop", "waypoint", &DeleteOptions::default()).await?;
        until("the pod to go with its gateway", async || match world.client.find::<Pod>("shop", pod.name()).await? {
            Some(_) => bail!("{} is still there", pod.name()),
            None => Ok(()),
        })
        .await
    });
}
