//! What the mesh says about objects, written into their status (control-plane A9).
//!
//! Each condition is applied under a field manager of its own, so that it lives next to what others write, and is taken
//! back by applying nothing. Only the leader writes; a new leader says everything again.

use crate::{
    leader::Leader,
    resolve::{Subject, Verdict, Verdicts},
};
use api::{AuthorizationPolicy, Condition, Resource, Service, ServiceEntry, WorkloadEntry};
use cluster::{Client, Error};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::sync::mpsc;

type Key = (Subject, String, String);

/// Pause after a failed write, so that a broken server is not asked in a loop.
const RETRY: Duration = Duration::from_secs(1);

/// Writes what it hears for as long as it hears anything; without a leader it only listens.
pub async fn write(client: Client, mut spoken: mpsc::UnboundedReceiver<Verdicts>, leader: Option<Leader>) {
    let mut wanted: BTreeMap<Key, Option<Verdict>> = BTreeMap::new();
    let mut due: BTreeSet<Key> = BTreeSet::new();
    let mut led = false;
    let mut retry = false;
    loop {
        tokio::select! {
            verdicts = spoken.recv() => match verdicts {
                Some(verdicts) => for (key, verdict) in verdicts {
                    // What was said already is said already, whoever wrote it.
                    if wanted.get(&key) != Some(&verdict) {
                        due.insert(key.clone());
                        wanted.insert(key, verdict);
                    }
                },
                None => return,
            },
            () = tokio::time::sleep(RETRY), if retry || leader.is_some() && !led => {}
        }
        let leads = leader.as_ref().is_some_and(Leader::leads);
        if leads && !led {
            due.extend(wanted.keys().cloned());
        }
        led = leads;
        retry = false;
        if !leads {
            due.clear();
            continue;
        }
        for key in std::mem::take(&mut due) {
            let verdict = wanted.get(&key).cloned().flatten();
            match say(&client, &key, verdict.as_ref()).await {
                Ok(()) => {}
                // It is gone, and what was said about it with it.
                Err(error) if error.is_not_found() => drop(wanted.remove(&key)),
                Err(error) => {
                    tracing::warn!(namespace = key.1, name = key.2, "writing a status: {error}");
                    retry = true;
                    due.insert(key);
                }
            }
        }
    }
}

async fn say(client: &Client, key: &Key, verdict: Option<&Verdict>) -> Result<(), Error> {
    match key.0 {
        Subject::Policy => {
            let held = |policy: &AuthorizationPolicy| policy.status.conditions.clone();
            say_of(client, key, verdict, "ZtunnelAccepted", "istio-ambient-ztunnel-policy", held).await
        }
        Subject::Service => {
            let held = |service: &Service| service.status.conditions.clone();
            say_of(client, key, verdict, "istio.io/WaypointBound", "istio-ambient-service", held).await
        }
        Subject::ServiceEntry => {
            let held = |entry: &ServiceEntry| entry.status.conditions.clone();
            say_of(client, key, verdict, "istio.io/WaypointBound", "istio-ambient-service", held).await
        }
        Subject::WorkloadEntry => {
            let held = |entry: &WorkloadEntry| entry.status.conditions.clone();
            say_of(client, key, verdict, "istio.io/WaypointBound", "istio-ambient-workloadentry", held).await
        }
    }
}

async fn say_of<T: Resource>(
    client: &Client,
    (_, namespace, name): &Key,
    verdict: Option<&Verdict>,
    condition: &'static str,
    manager: &'static str,
    held: impl Fn(&T) -> Vec<Condition>,
) -> Result<(), Error> {
    let object: T = client.get(namespace, name).await?;
    let conditions = held(&object);
    let held = conditions.iter().find(|held| held.type_ == condition);
    let generation = object.metadata().generation;
    let Some(status) = change(condition, verdict, held, generation, Timestamp::now()) else { return Ok(()) };
    client.apply_status::<T>(namespace, name, status, manager).await.map(drop)
}

/// The status to apply; none if the object says the same already.
fn change(
    condition: &str,
    verdict: Option<&Verdict>,
    held: Option<&Condition>,
    generation: i64,
    now: Timestamp,
) -> Option<Value> {
    let Some(verdict) = verdict else { return held.map(|_| json!({})) };
    let status = if verdict.holds { "True" } else { "False" };
    let same = |held: &&Condition| {
        held.status == status
            && held.reason == verdict.reason
            && held.message == verdict.message
            && (held.observed_generation == generation || held.observed_generation == 0)
    };
    if held.filter(same).is_some() {
        return None;
    }
    // The time moves with the status, not with the words.
    let since = held.filter(|held| held.status == status).and_then(|held| held.last_transition_time);
    let mut entry = json!({
        "type": condition, "status": status, "reason": verdict.reason, "message": verdict.message,
        "lastTransitionTime": since.unwrap_or(api::Time(now)).to_string(),
    });
    if generation != 0 {
        entry["observedGeneration"] = generation.into();
    }
    Some(json!({"conditions": [entry]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(holds: bool) -> Verdict {
        Verdict { holds, reason: "Accepted", message: "attached to ztunnel".to_owned() }
    }

    fn held(status: &str, generation: i64) -> Condition {
        Condition {
            type_: "ZtunnelAccepted".to_owned(),
            status: status.to_owned(),
            reason: "Accepted".to_owned(),
            message: "attached to ztunnel".to_owned(),
            observed_generation: generation,
            last_transition_time: Some(api::Time("2026-01-01T00:00:00Z".parse().unwrap())),
            ..Condition::default()
        }
    }

    #[test]
    fn only_what_is_new_is_said() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let said =
            |verdict: Option<&Verdict>, held: Option<&Condition>| change("ZtunnelAccepted", verdict, held, 2, now);
        assert_eq!(said(Some(&verdict(true)), Some(&held("True", 2))), None);
        assert_eq!(said(None, None), None);
        assert_eq!(said(None, Some(&held("True", 2))), Some(json!({})));

        let newer = said(Some(&verdict(true)), Some(&held("True", 1))).unwrap();
        assert_eq!(newer["conditions"][0]["observedGeneration"], 2);
        assert_eq!(newer["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let flipped = said(Some(&verdict(false)), Some(&held("True", 2))).unwrap();
        assert_eq!(flipped["conditions"][0]["status"], "False");
        assert_eq!(flipped["conditions"][0]["lastTransitionTime"], "2026-11-21T10:00:00Z");
    }
}
