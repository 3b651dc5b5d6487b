//! Carrying out what Deployments, ReplicaSets and DaemonSets need.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{DaemonSet, Deployment, Pod, ReplicaSet, Resource, Time};
use cluster::{Client, DeleteOptions, EventKind, Patch, Recorder};
use serde_json::json;

use super::{GATHER, RETRY, View, by_controller, changed, report, write_status};
use crate::controllers::pending::Pending;
use crate::controllers::{daemon_set, deployment, replica_set, rollout};

/// How soon to look again while time itself changes something (`minReadySeconds`, progress deadlines).
const TICK: Duration = Duration::from_secs(1);

fn now() -> Time {
    Time(jiff::Timestamp::now())
}

/// What was created and deleted for each owner and not seen yet.
#[derive(Debug, Default)]
struct Deeds {
    created: Pending<String>,
    deleted: Pending<String>,
}

impl Deeds {
    /// Whether something is still to be seen, so that counting now would count wrong.
    fn unseen(&mut self, pods: &[Arc<Pod>]) -> bool {
        let known = |uid: &String| pods.iter().find(|pod| pod.metadata.uid == *uid);
        let created = self.created.settle(|uid| known(uid).is_some());
        let deleted = self.deleted.settle(|uid| known(uid).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()));
        created || deleted
    }
}

/// Makes and deletes pods for one owner.
async fn act<T: Resource>(
    client: &Client,
    recorder: &Recorder,
    owner: &T,
    create: Vec<Pod>,
    delete: &[String],
    pods: &[Arc<Pod>],
    deeds: &mut Deeds,
) -> Result<(), cluster::Error> {
    for pod in create {
        match client.create(&pod).await {
            Ok(made) => {
                deeds.created.add(made.metadata.uid.clone());
                let message = format!("Created pod: {}", made.name());
                tell(recorder, owner, EventKind::Normal, "SuccessfulCreate", message);
            }
            Err(error) => {
                let message = format!("Error creating: {error}");
                tell(recorder, owner, EventKind::Warning, "FailedCreate", message);
                return Err(error);
            }
        }
    }
    for name in delete {
        let Some(pod) = pods.iter().find(|pod| pod.name() == name) else { continue };
        client.delete::<Pod>(pod.namespace(), name, &DeleteOptions::default().of(&**pod)).await?;
        deeds.deleted.add(pod.metadata.uid.clone());
        tell(recorder, owner, EventKind::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
    }
    Ok(())
}

fn tell<T: Resource>(recorder: &Recorder, object: &T, kind: EventKind, reason: &'static str, message: String) {
    let (recorder, object) = (recorder.clone(), object.clone());
    runtime::task::spawn("event", async move {
        if let Err(error) = recorder.record(&object, kind, reason, &message, jiff::Timestamp::now()).await {
            tracing::debug!(%error, "event not recorded");
        }
    });
}

/// Keeps every ReplicaSet at its size.
pub(in crate::controllers) async fn replica_sets(view: View) {
    let recorder = Recorder::new(view.client.clone(), "replicaset-controller", "");
    let (mut sets, mut pods) = (view.replica_sets.version(), view.pods.version());
    let mut deeds: HashMap<String, Deeds> = HashMap::new();
    loop {
        sets.mark_unchanged();
        pods.mark_unchanged();
        let mut owned = by_controller(&view.pods);
        let (mut failed, mut waiting) = (false, false);
        for set in view.replica_sets.list() {
            let uid = set.metadata.uid.clone();
            let pods = owned.remove(&uid).unwrap_or_default();
            let deeds = deeds.entry(uid).or_default();
            waiting |= set.spec.min_ready_seconds > 0 || deeds.unseen(&pods);
            failed |= report("replica set not kept", keep_set(&view, &recorder, &set, &pods, deeds).await);
        }
        deeds.retain(|uid, _| view.replica_sets.list().iter().any(|set| set.metadata.uid == *uid));
        changed!(pause(failed, waiting); sets, pods);
        tokio::time::sleep(GATHER).await;
    }
}

fn pause(failed: bool, waiting: bool) -> Duration {
    match (failed, waiting) {
        (true, _) => RETRY,
        (_, true) => TICK,
        _ => Duration::from_secs(60),
    }
}

async fn keep_set(
    view: &View,
    recorder: &Recorder,
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    deeds: &mut Deeds,
) -> Result<(), cluster::Error> {
    let seen: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    let plan = replica_set::plan(set, &seen, now());
    if !deeds.unseen(pods) {
        act(&view.client, recorder, set, plan.create, &plan.delete, pods, deeds).await?;
    }
    write_status(&view.client, set, &set.status, &plan.status).await
}

/// Keeps every DaemonSet on its nodes.
pub(in crate::controllers) async fn daemon_sets(view: View) {
    let recorder = Recorder::new(view.client.clone(), "daemonset-controller", "");
    let (mut sets, mut pods) = (view.daemon_sets.version(), view.pods.version());
    let mut nodes = view.nodes.version();
    let mut deeds: HashMap<String, Deeds> = HashMap::new();
    loop {
        sets.mark_unchanged();
        pods.mark_unchanged();
        nodes.mark_unchanged();
        let mut owned = by_controller(&view.pods);
        let (mut failed, mut waiting) = (false, false);
        for set in view.daemon_sets.list() {
            let uid = set.metadata.uid.clone();
            let pods = owned.remove(&uid).unwrap_or_default();
            let deeds = deeds.entry(uid).or_default();
            waiting |= set.spec.min_ready_seconds > 0 || deeds.unseen(&pods);
            failed |= report("daemon set not kept", keep_daemons(&view, &recorder, &set, &pods, deeds).await);
        }
        deeds.retain(|uid, _| view.daemon_sets.list().iter().any(|set| set.metadata.uid == *uid));
        changed!(pause(failed, waiting); sets, pods, nodes);
        tokio::time::sleep(GATHER).await;
    }
}

async fn keep_daemons(
    view: &View,
    recorder: &Recorder,
    set: &DaemonSet,
    pods: &[Arc<Pod>],
    deeds: &mut Deeds,
) -> Result<(), cluster::Error> {
    let nodes = view.nodes.list();
    let nodes: Vec<&api::Node> = nodes.iter().map(AsRef::as_ref).collect();
    let seen: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    let plan = daemon_set::plan(set, &nodes, &seen, now());
    if !deeds.unseen(pods) {
        act(&view.client, recorder, set, plan.create, &plan.delete, pods, deeds).await?;
    }
    write_status(&view.client, set, &set.status, &plan.status).await
}

/// Rolls every Deployment forward.
pub(in crate::controllers) async fn deployments(view: View) {
    let recorder = Recorder::new(view.client.clone(), "deployment-controller", "");
    let (mut deployments, mut sets) = (view.deployments.version(), view.replica_sets.version());
    let mut acted: Pending<(String, String)> = Pending::default();
    loop {
        deployments.mark_unchanged();
        sets.mark_unchanged();
        let owned = by_controller(&view.replica_sets);
        let version = |uid: &str, name: &str| {
            owned.get(uid)?.iter().find(|set| set.name() == name).map(|set| set.metadata.resource_version.clone())
        };
        // A ReplicaSet that was written counts only once the written version, or a later one, is seen.
        acted.settle(|(key, before)| {
            let (uid, name) = key.split_once('/').unwrap_or((key, ""));
            version(uid, name).unwrap_or_default() != *before
        });
        let busy: Vec<String> =
            acted.keys().map(|(key, _)| key.split('/').next().unwrap_or_default().to_owned()).collect();
        let (mut failed, mut waiting) = (false, !busy.is_empty());
        for deployment in view.deployments.list() {
            let uid = &deployment.metadata.uid;
            if busy.contains(uid) {
                continue;
            }
            let sets = owned.get(uid).cloned().unwrap_or_default();
            let outcome = roll(&view.client, &recorder, &deployment, &sets, &mut acted).await;
            waiting |= outcome.as_ref().is_ok_and(|progressing| *progressing);
            failed |= report("deployment not rolled", outcome.map(drop));
        }
        changed!(pause(failed, waiting); deployments, sets);
        tokio::time::sleep(GATHER).await;
    }
}

/// Takes the next steps of one Deployment; says whether it is still on its way.
async fn roll(
    client: &Client,
    recorder: &Recorder,
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    acted: &mut Pending<(String, String)>,
) -> Result<bool, cluster::Error> {
    let uid = &deployment.metadata.uid;
    let owned: Vec<&ReplicaSet> =
        sets.iter().map(AsRef::as_ref).filter(|set| rollout::controls(uid, set.metadata())).collect();
    let plan = deployment::plan(deployment, &owned, now());
    let namespace = deployment.namespace();
    let version = |name: &str| {
        let known = sets.iter().find(|set| set.name() == name);
        known.map(|set| set.metadata.resource_version.clone()).unwrap_or_default()
    };
    for step in plan.steps {
        match step {
            deployment::Step::Create(set) => {
                create_set(client, deployment, &set, acted).await?;
                scaled(recorder, deployment, set.name(), 0, set.spec.replicas.unwrap_or(1));
            }
            deployment::Step::Scale { name, replicas, annotations } => {
                let annotations: serde_json::Map<_, _> =
                    annotations.into_iter().map(|(key, value)| (key, value.into())).collect();
                let patch = json!({ "metadata": { "annotations": annotations }, "spec": { "replicas": replicas } });
                client.patch::<ReplicaSet>(namespace, &name, Patch::Merge(patch)).await?;
                acted.add((format!("{uid}/{name}"), version(&name)));
                let before = sets.iter().find(|set| set.name() == name).and_then(|set| set.spec.replicas);
                scaled(recorder, deployment, &name, before.unwrap_or(1), replicas);
            }
            deployment::Step::Delete { name } => {
                client.delete::<ReplicaSet>(namespace, &name, &DeleteOptions::default()).await?;
            }
            deployment::Step::Annotate { revision } => {
                let annotations = json!({ "deployment.kubernetes.io/revision": revision });
                let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
                client.patch::<Deployment>(namespace, deployment.name(), patch).await?;
            }
        }
    }
    write_status(client, deployment, &deployment.status, &plan.status).await?;
    let wanted = deployment.spec.replicas.unwrap_or(1);
    Ok(plan.status.updated_replicas != wanted || plan.status.available_replicas != wanted)
}

fn scaled(recorder: &Recorder, deployment: &Deployment, set: &str, before: i32, after: i32) {
    let way = match after.cmp(&before) {
        std::cmp::Ordering::Less => "down",
        std::cmp::Ordering::Equal => return,
        std::cmp::Ordering::Greater => "up",
    };
    let message = format!("Scaled {way} replica set {set} from {before} to {after}");
    tell(recorder, deployment, EventKind::Normal, "ScalingReplicaSet", message);
}

async fn create_set(
    client: &Client,
    deployment: &Deployment,
    set: &ReplicaSet,
    acted: &mut Pending<(String, String)>,
) -> Result<(), cluster::Error> {
    let key = format!("{}/{}", deployment.metadata.uid, set.name());
    match client.create(set).await {
        Ok(_) => acted.add((key, String::new())),
        // The name is taken by a set that is not ours, or whose template only looks the same: another name next time.
        Err(error) if error.is_already_exists() => {
            let collisions = deployment.status.collision_count.unwrap_or(0) + 1;
            let patch = Patch::Merge(json!({ "status": { "collisionCount": collisions } }));
            client.patch_status::<Deployment>(deployment.namespace(), deployment.name(), patch).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
