//! No order of events lets an enrolled pod speak in the clear.
//!
//! In many random orders an application starts and restarts, its namespace is enrolled, agent and proxy crash; once the pod says that it is
//! enrolled, its requests carry a text that must never be seen on a link between nodes.

use crate::{AMBIT, SHOP, run};
use anyhow::{Result, ensure};
use api::{Namespace, Pod};
use cluster::DeleteOptions;
use rand::seq::SliceRandom;
use testkit::{Canary, World};

/// How many orders are tried.
const ORDERS: u64 = 50;

/// What happens, in some order.
#[derive(Debug, Clone, Copy)]
enum Event {
    StartApp,
    Enrol,
    CrashAgents,
    CrashProxies,
    Restart,
}

/// Every event once, shuffled; a failure prints the order it met.
fn order() -> Vec<Event> {
    let mut events = [Event::StartApp, Event::Enrol, Event::CrashAgents, Event::CrashProxies, Event::Restart].to_vec();
    events.shuffle(&mut rand::rng());
    events
}

#[test]
fn mesh_never_speaks_in_the_clear_whatever_the_order() {
    run(async {
        let world = World::up(AMBIT).await?;
        world.apply(SHOP).await?;
        world.ready("shop", 3).await?;
        world.enrol("shop", true).await?;
        world.redirected("shop", true).await?;
        for number in 0..ORDERS {
            let events = order();
            let outcome = one_order(&world, number, &events).await;
            ensure!(outcome.is_ok(), "order {number}, {events:?}: {:#}", outcome.unwrap_err());
        }
        Ok(())
    });
}

async fn one_order(world: &World, number: u64, events: &[Event]) -> Result<()> {
    let namespace = format!("order-{number}");
    let marker = format!("canary-{number}-in-the-clear");
    let canary = Canary::watch(world, "n2", &marker)?;
    world.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n")).await?;
    for event in events {
        match event {
            Event::StartApp => world.apply(&app(&namespace)).await?,
            Event::Enrol => world.enrol(&namespace, true).await?,
            Event::CrashAgents => drop(world.crash("cni agent")?),
            Event::CrashProxies => drop(world.crash("proxy ztunnel")?),
            Event::Restart => restart(world, &namespace).await?,
        }
    }
    world.redirected(&namespace, true).await?;
    world.ready(&namespace, 1).await?;
    // Whether it is served at first or only when everything is back: it must never be readable.
    world.answered(&namespace, "app", &format!("http://server.shop:8080/{marker}"), true).await?;
    ensure!(!canary.is_seen(), "the request was read from a link between nodes");
    ensure!(canary.frames() > 0, "the links were watched");
    world.client.delete::<Pod>(&namespace, "app", &DeleteOptions::default()).await?;
    world.client.delete::<Namespace>("", &namespace, &DeleteOptions::default()).await?;
    Ok(())
}

/// Replaces the application, whether it has been started yet or not.
async fn restart(world: &World, namespace: &str) -> Result<()> {
    world.client.delete::<Pod>(namespace, "app", &DeleteOptions::default()).await?;
    testkit::until("the old application to be gone", async || {
        ensure!(world.client.find::<Pod>(namespace, "app").await?.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    world.apply(&app(namespace)).await
}

/// On the node that the server is not on.
fn app(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: app, namespace: {namespace}}}\nspec:\n  nodeSelector: {{kubernetes.io/hostname: n1}}\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: ambit.local/app\n    args: [serve, --http, \"8080\"]\n"
    )
}
