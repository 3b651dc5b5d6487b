//! No order of events lets an enrolled pod speak in the clear.
//!
//! In many random orders an application starts, its namespace is enrolled, agent and proxy crash; once the pod says that it is
//! enrolled, its requests carry a text that must never be seen on a link between nodes.

use crate::{AMBIT, SHOP, run};
use anyhow::{Result, ensure};
use api::{Namespace, Pod};
use cluster::DeleteOptions;
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
}

const EVENTS: [Event; 4] = [Event::StartApp, Event::Enrol, Event::CrashAgents, Event::CrashProxies];

/// The order with this number; every order of four events is among any 24 numbers in a row.
fn order(number: u64) -> Vec<Event> {
    let mut left = EVENTS.to_vec();
    let mut number = usize::try_from(number).unwrap_or_default();
    let mut order = Vec::new();
    while !left.is_empty() {
        let next = left.remove(number % left.len());
        number /= left.len() + 1;
        order.push(next);
    }
    order
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
            let events = order(number);
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

/// On the node that the server is not on.
fn app(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: app, namespace: {namespace}}}\nspec:\n  nodeSelector: {{kubernetes.io/hostname: n1}}\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: ambit.local/app\n    args: [serve, --http, \"8080\"]\n"
    )
}

#[test]
fn orders_differ() {
    let orders: std::collections::BTreeSet<_> = (0..24).map(|number| format!("{:?}", order(number))).collect();
    assert_eq!(orders.len(), 24);
}
