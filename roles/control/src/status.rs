//! What the mesh says about objects, written into their status (control-plane A9).
//!
//! Conditions are applied under a field manager of their own, so that they live next to what others write, and are taken
//! back by applying nothing. Only the leader writes. Each statement comes with what the object says already, so what is
//! said is not said again, and a replica that does not lead knows at any time what it would have to say if it did.

use crate::{
    leader::Leader,
    resolve::{Statement, Subject, Verdict},
};
use api::{
    AuthorizationPolicy, Condition, Gateway, GatewayClass, Namespace, Node, PeerAuthentication, Pod, Resource, Service,
    ServiceEntry, WorkloadEntry,
};
use cluster::{Client, Error};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::mpsc, time::Instant};

type Key = (Subject, String, String);

/// How long to wait before a statement is written once more: after a failure, or when somebody else took it back.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes what it hears for as long as it hears anything; without a leader it only listens.
pub async fn write(client: Client, mut spoken: mpsc::UnboundedReceiver<Vec<Statement>>, leader: Option<Leader>) {
    let Some(leader) = leader else {
        while spoken.recv().await.is_some() {}
        return;
    };
    let mut due = Due::default();
    loop {
        tokio::select! {
            statements = spoken.recv() => match statements {
                Some(statements) => statements.into_iter().for_each(|statement| due.hear(statement, Instant::now())),
                None => return,
            },
            // It may have come to lead, or it is time to try again.
            () = tokio::time::sleep(AGAIN), if !due.is_idle() => {}
        }
        for key in due.ready(Instant::now()) {
            // Asked before each write: a term may end between two.
            if leader.leads() {
                let Some(status) = due.status(&key, Timestamp::now()) else { continue };
                let said = say(&client, &key, status).await;
                due.said(&key, said, Instant::now());
            }
        }
    }
}

/// What objects do not say yet, or were not seen to say yet.
#[derive(Default)]
struct Due(BTreeMap<Key, Saying>);

struct Saying {
    statement: Statement,
    /// When to write it; none once it is written, until the object is seen to say so.
    at: Option<Instant>,
}

impl Due {
    fn hear(&mut self, statement: Statement, now: Instant) {
        let key = (statement.subject, statement.namespace.clone(), statement.name.clone());
        if change(&statement, Timestamp::UNIX_EPOCH).is_none() {
            self.0.remove(&key);
            return;
        }
        let at = match self.0.get(&key) {
            Some(known) if known.statement.verdicts == statement.verdicts => match known.at {
                // The object as it was before it was written to.
                None if known.statement.held == statement.held => None,
                // Somebody else wrote something else.
                None => Some(now + AGAIN),
                at => at,
            },
            _ => Some(now),
        };
        self.0.insert(key, Saying { statement, at });
    }

    fn is_idle(&self) -> bool {
        self.0.values().all(|saying| saying.at.is_none())
    }

    fn ready(&self, now: Instant) -> Vec<Key> {
        let ready = self.0.iter().filter(|(_, saying)| saying.at.is_some_and(|at| at <= now));
        ready.map(|(key, _)| key.clone()).collect()
    }

    fn status(&self, key: &Key, now: Timestamp) -> Option<Value> {
        change(&self.0.get(key)?.statement, now)
    }

    fn said(&mut self, key: &Key, said: Result<(), Error>, now: Instant) {
        let Some(saying) = self.0.get_mut(key) else { return };
        match said {
            Ok(()) => saying.at = None,
            // It is gone, and what was said about it with it.
            Err(error) if error.is_not_found() => drop(self.0.remove(key)),
            Err(error) => {
                tracing::warn!(namespace = key.1, name = key.2, "writing a status: {error}");
                saying.at = Some(now + AGAIN);
            }
        }
    }
}

async fn say(client: &Client, (subject, namespace, name): &Key, status: Value) -> Result<(), Error> {
    /// Says it about an object of whichever of these kinds is meant.
    macro_rules! of_kind {
        ($kind:expr, $($type:ident)*) => { match $kind {
            $($type::KIND => client.say_status::<$type>(namespace, name, status, SHAPE).await,)*
            // EndpointSlices have no status.
            _ => Ok(()),
        } };
    }
    const SHAPE: &str = "ambit-shape";
    const SERVICE: &str = "istio-ambient-service";
    match *subject {
        Subject::Policy => {
            client.say_status::<AuthorizationPolicy>(namespace, name, status, "istio-ambient-ztunnel-policy").await
        }
        Subject::PolicyTargets => {
            client.say_status::<AuthorizationPolicy>(namespace, name, status, "istio-ambient-waypoint-policy").await
        }
        Subject::Service => client.say_status::<Service>(namespace, name, status, SERVICE).await,
        Subject::ServiceEntry => client.say_status::<ServiceEntry>(namespace, name, status, SERVICE).await,
        Subject::WorkloadEntry => {
            client.say_status::<WorkloadEntry>(namespace, name, status, "istio-ambient-workloadentry").await
        }
        Subject::Shape(kind) => of_kind!(
            kind, PeerAuthentication Service ServiceEntry WorkloadEntry Gateway GatewayClass Namespace Node Pod
        ),
    }
}

/// The status to apply; none if the object says the same already.
fn change(statement: &Statement, now: Timestamp) -> Option<Value> {
    let held = |verdict: &Verdict| statement.held.iter().find(|held| held.type_ == verdict.type_);
    let said = |verdict: &Verdict| held(verdict).is_some_and(|held| says(held, verdict, statement.generation));
    if statement.held.len() == statement.verdicts.len() && statement.verdicts.iter().all(said) {
        return None;
    }
    let conditions: Vec<Value> =
        statement.verdicts.iter().map(|verdict| condition(verdict, held(verdict), statement.generation, now)).collect();
    // What is not applied again is taken back.
    Some(if conditions.is_empty() { json!({}) } else { json!({"conditions": conditions}) })
}

fn says(held: &Condition, verdict: &Verdict, generation: i64) -> bool {
    held.is_true() == verdict.holds
        && held.reason == verdict.reason
        && held.message == verdict.message
        && (held.observed_generation == generation || held.observed_generation == 0)
}

fn condition(verdict: &Verdict, held: Option<&Condition>, generation: i64, now: Timestamp) -> Value {
    // The time moves with the status, not with the words.
    let since = held.filter(|held| held.is_true() == verdict.holds).and_then(|held| held.last_transition_time);
    let mut entry = json!({
        "type": verdict.type_, "status": if verdict.holds { "True" } else { "False" },
        "reason": verdict.reason, "message": verdict.message,
        "lastTransitionTime": since.unwrap_or(api::Time(now)).to_string(),
    });
    if generation != 0 {
        entry["observedGeneration"] = generation.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(holds: Option<bool>, held: &[Condition]) -> Statement {
        let verdict = |holds| Verdict {
            type_: "ZtunnelAccepted",
            holds,
            reason: "Accepted",
            message: "attached to ztunnel".to_owned(),
        };
        Statement {
            subject: Subject::Policy,
            namespace: "shop".to_owned(),
            name: "p".to_owned(),
            verdicts: holds.map(verdict).into_iter().collect(),
            held: held.to_vec(),
            generation: 2,
        }
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
        let said = |holds, held: &[Condition]| change(&statement(holds, held), now);
        assert_eq!(said(Some(true), &[held("True", 2)]), None);
        assert_eq!(said(None, &[]), None);
        assert_eq!(said(None, &[held("True", 2)]), Some(json!({})));

        let newer = said(Some(true), &[held("True", 1)]).unwrap();
        assert_eq!(newer["conditions"][0]["observedGeneration"], 2);
        assert_eq!(newer["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let flipped = said(Some(false), &[held("True", 2)]).unwrap();
        assert_eq!(flipped["conditions"][0]["status"], "False");
        assert_eq!(flipped["conditions"][0]["lastTransitionTime"], "2026-11-21T10:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_not_written_again_before_the_object_says_something_else() {
        let (mut due, now) = (Due::default(), Instant::now());
        due.hear(statement(Some(true), &[]), now);
        let [key] = &due.ready(now)[..] else { panic!("one is ready") };
        let key = key.clone();
        due.said(&key, Ok(()), now);
        assert!(due.is_idle());
        // The object is heard of again before the write shows.
        due.hear(statement(Some(true), &[]), now);
        assert!(due.is_idle());
        // Somebody writes something else, again and again: a second apart.
        due.hear(statement(Some(true), &[held("False", 2)]), now);
        assert_eq!((due.ready(now).len(), due.ready(now + AGAIN).len()), (0, 1));
        // The object says so: over.
        due.hear(statement(Some(true), &[held("True", 2)]), now);
        assert!(due.0.is_empty());
    }
}
