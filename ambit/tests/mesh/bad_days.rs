//! Each part of the mesh crashes in turn; traffic goes on where it can, comes back where it must, and is never in the clear.

use crate::{AMBIT, SHOP, run};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use testkit::{Canary, World};

const SERVER: &str = "http://server.shop:8080";

/// A world with the shop enrolled.
async fn shop() -> Result<World> {
    let world = World::up(AMBIT).await?;
    world.apply(SHOP).await?;
    world.ready("shop", 3).await?;
    world.ready("outside", 1).await?;
    world.enrol("shop", true).await?;
    world.redirected("shop", true).await?;
    world.answered("shop", "client", SERVER, true).await?;
    Ok(world)
}

#[test]
fn mesh_serves_again_after_its_proxies_crashed() {
    run(async {
        let world = shop().await?;
        let canary = Canary::watch(&world, "n2", "canary-proxy")?;
        ensure!(world.crash("proxy ztunnel")? == 4, "two node proxies run, each under its supervisor");
        let begun = Instant::now();
        world.answered("shop", "client", &format!("{SERVER}/canary-proxy"), true).await?;
        let took = begun.elapsed();
        println!("served again after {took:.1?}");
        ensure!(took < Duration::from_secs(10), "served again only after {took:?}");
        ensure!(!canary.is_seen(), "a request went over the link in the clear");
        ensure!(canary.frames() > 0, "the links were watched");
        Ok(())
    });
}

#[test]
fn mesh_carries_traffic_without_its_control_plane() {
    run(async {
        let world = shop().await?;
        ensure!(world.crash("control")? > 0, "a control plane runs");
        let served = world.request("shop", "client", SERVER).await?;
        ensure!(served.success, "{}", served.first_line());
        // It comes back and goes on: a policy made now is applied.
        world.apply(include_str!("../../manifests/demo/strict.yaml")).await?;
        world.answered("outside", "client", SERVER, false).await?;
        let inside = world.request("shop", "client", SERVER).await?;
        ensure!(inside.success, "{}", inside.first_line());
        Ok(())
    });
}

#[test]
fn mesh_enrols_what_came_while_its_agents_were_gone() {
    run(async {
        let world = shop().await?;
        ensure!(world.crash("cni agent")? == 2, "two agents run");
        let served = world.request("shop", "client", SERVER).await?;
        ensure!(served.success, "{}", served.first_line());
        world.enrol("outside", true).await?;
        world.redirected("outside", true).await?;
        world.answered("outside", "client", SERVER, true).await?;
        world.enrol("outside", false).await?;
        world.redirected("outside", false).await?;
        Ok(())
    });
}

#[test]
fn mesh_outlives_a_crash_of_the_api() {
    run(async {
        let world = shop().await?;
        ensure!(world.crash("ambit apiserver")? == 1, "one API runs");
        // Its objects are still there, nobody was restarted, and what is asked of it now happens.
        world.answered("shop", "client", SERVER, true).await?;
        world.apply(include_str!("../../manifests/demo/strict.yaml")).await?;
        world.answered("outside", "client", SERVER, false).await?;
        for namespace in ["shop", "istio-system"] {
            for pod in world.pods(namespace).await? {
                let restarts: i32 = pod.status.container_statuses.iter().map(|one| one.restart_count).sum();
                ensure!(restarts == 0, "{} was restarted", pod.metadata.name);
            }
        }
        Ok(())
    });
}

#[test]
fn mesh_restarts_a_pod_whose_process_dies_at_once() {
    run(async {
        let world = World::up(AMBIT).await?;
        world
            .apply(
                "apiVersion: v1\nkind: Pod\nmetadata: {name: brief, namespace: default}\nspec:\n  containers:\n  - name: app\n    \
                 image: ambit.local/app\n    args: [client, --url, \"http://127.0.0.1:1/\"]\n",
            )
            .await?;
        testkit::until("the pod to be restarted", async || {
            let pods = world.pods("default").await?;
            let restarts: i32 =
                pods.iter().flat_map(|pod| &pod.status.container_statuses).map(|one| one.restart_count).sum();
            ensure!(restarts > 0, "{restarts} restarts");
            Ok(())
        })
        .await
    });
}
