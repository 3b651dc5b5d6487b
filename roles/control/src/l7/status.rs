//! What routes are told about their parents, written into their status (control-plane A15).
//!
//! The entries of other controllers stay; ours are written anew when they differ. Only the leader writes.

use super::route::{ParentStatus, Said};
use crate::leader::Leader;
use api::{GRPCRoute, HTTPRoute, Resource, gateway::RouteStatus};
use cluster::{Client, Error, Patch};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::mpsc;

const CONTROLLER: &str = "istio.io/gateway-controller";
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// Which object is spoken about: kind, namespace, name.
pub type Subject = (&'static str, String, String);

/// Writes what it hears. What was said last wins; without a leader it only listens.
pub async fn write(
    client: Client,
    mut spoken: mpsc::UnboundedReceiver<(Subject, Vec<ParentStatus>)>,
    leader: Option<Leader>,
) {
    let mut due: BTreeMap<Subject, Vec<ParentStatus>> = BTreeMap::new();
    loop {
        let leads = leader.as_ref().is_some_and(Leader::leads);
        tokio::select! {
            heard = spoken.recv() => match heard {
                Some((subject, parents)) => drop(due.insert(subject, parents)),
                None => return,
            },
            () = tokio::time::sleep(RETRY), if leader.is_some() && !due.is_empty() => {}
        }
        while let Ok((subject, parents)) = spoken.try_recv() {
            due.insert(subject, parents);
        }
        if !leads {
            continue;
        }
        for (subject, parents) in std::mem::take(&mut due) {
            let written = match subject.0 {
                HTTPRoute::KIND => say::<HTTPRoute>(&client, &subject, &parents, |route| &route.status).await,
                _ => say::<GRPCRoute>(&client, &subject, &parents, |route| &route.status).await,
            };
            match written {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(namespace = subject.1, name = subject.2, "writing a route's status: {error}");
                    due.entry(subject).or_insert(parents);
                }
                _ => {}
            }
        }
    }
}

async fn say<T: Resource>(
    client: &Client,
    (_, namespace, name): &Subject,
    parents: &[ParentStatus],
    status: impl Fn(&T) -> &RouteStatus,
) -> Result<(), Error> {
    let object: T = client.get(namespace, name).await?;
    let generation = object.metadata().generation;
    let Some(next) = merged(status(&object), parents, generation, Timestamp::now()) else { return Ok(()) };
    client.patch_status::<T>(namespace, name, Patch::Merge(json!({"status": {"parents": next}}))).await.map(drop)
}

/// The list of parents to write; none if it stands there already.
fn merged(held: &RouteStatus, parents: &[ParentStatus], generation: i64, now: Timestamp) -> Option<Vec<Value>> {
    let value = |entry: &api::gateway::RouteParentStatus| serde_json::to_value(entry).unwrap_or_default();
    let foreign = held.parents.iter().filter(|entry| entry.controller_name != CONTROLLER).map(value);
    let ours = parents.iter().map(|parent| {
        let before =
            held.parents.iter().find(|entry| entry.controller_name == CONTROLLER && entry.parent_ref == parent.parent);
        let conditions: Vec<Value> = [("Accepted", &parent.accepted), ("ResolvedRefs", &parent.resolved)]
            .into_iter()
            .map(|(name, said)| condition(name, said, before, generation, now))
            .collect();
        json!({"parentRef": parent.parent, "controllerName": CONTROLLER, "conditions": conditions})
    });
    let next: Vec<Value> = foreign.chain(ours).collect();
    let written: Vec<Value> = held.parents.iter().map(value).collect();
    (next != written).then_some(next)
}

fn condition(
    name: &str,
    (holds, reason, message): &Said,
    before: Option<&api::gateway::RouteParentStatus>,
    generation: i64,
    now: Timestamp,
) -> Value {
    let status = if *holds { "True" } else { "False" };
    let held = before.and_then(|entry| entry.conditions.iter().find(|held| held.type_ == name));
    let since = held.filter(|held| held.status == status).and_then(|held| held.last_transition_time);
    // Through the type, so that it compares with what was read.
    let condition = api::Condition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: (*reason).to_owned(),
        message: message.clone(),
        observed_generation: generation,
        last_transition_time: Some(since.unwrap_or(api::Time(now))),
        ..api::Condition::default()
    };
    serde_json::to_value(condition).unwrap_or_default()
}
