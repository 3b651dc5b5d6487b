//! The controllers' hands: looking at the stores, deciding with the pure parts, writing to the API.

mod placing;
mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{EndpointSlice, Resource};
use cluster::{Client, DeleteOptions, Patch, Store};
use serde_json::json;

use super::{View, endpoints};

pub(super) use placing::{node_lifecycle, schedule};
pub(super) use workloads::{daemon_sets, deployments, replica_sets};

/// How long to gather changes before looking at the whole again.
const GATHER: Duration = Duration::from_millis(5);

/// How soon to look again when something failed.
const RETRY: Duration = Duration::from_millis(500);

/// Waits for a change of any of the stores, or for `at_most`.
macro_rules! changed {
    ($at_most:expr; $($version:expr),+) => {
        tokio::select! {
            $( _ = $version.changed() => {} )+
            () = tokio::time::sleep($at_most) => {}
        }
    };
}
use changed;

/// Creates an object; one that is there already is fine.
pub(super) async fn create_once<T: Resource>(client: &Client, object: &T) -> Result<(), cluster::Error> {
    match client.create(object).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a status if it says something new.
async fn write_status<T, S>(client: &Client, object: &T, before: &S, status: &S) -> Result<(), cluster::Error>
where
    T: Resource,
    S: serde::Serialize + PartialEq,
{
    if before == status {
        return Ok(());
    }
    let mut value = serde_json::to_value(status).unwrap_or_default();
    // Merging keeps what is not mentioned: a count that is zero now must be said to be gone.
    let old = serde_json::to_value(before).unwrap_or_default();
    if let (Some(new), Some(old)) = (value.as_object_mut(), old.as_object()) {
        let gone: Vec<_> = old.keys().filter(|key| !new.contains_key(*key)).cloned().collect();
        new.extend(gone.into_iter().map(|key| (key, serde_json::Value::Null)));
    }
    let patch = Patch::Merge(json!({ "status": value }));
    match client.patch_status::<T>(object.namespace(), object.name(), patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Reports what a loop could not do; it looks again soon.
fn report(what: &str, outcome: Result<(), cluster::Error>) -> bool {
    if let Err(error) = &outcome
        && !error.is_conflict()
    {
        tracing::warn!(%error, "{what}; trying again");
    }
    outcome.is_err()
}

/// Objects of a store by the uid of their controller.
fn by_controller<T: Resource>(store: &Store<T>) -> BTreeMap<String, Vec<Arc<T>>> {
    let mut grouped: BTreeMap<String, Vec<Arc<T>>> = BTreeMap::new();
    for object in store.list() {
        let owner = object.metadata().controller().map(|owner| owner.uid.clone());
        if let Some(owner) = owner {
            grouped.entry(owner).or_default().push(object);
        }
    }
    grouped
}

/// Keeps the slices of every service with a selector.
pub(super) async fn endpoint_slices(view: View) {
    let (mut services, mut pods, mut slices) = (view.services.version(), view.pods.version(), view.slices.version());
    loop {
        services.mark_unchanged();
        pods.mark_unchanged();
        slices.mark_unchanged();
        let failed = reconcile_slices(&view).await;
        changed!(if failed { RETRY } else { Duration::from_secs(60) }; services, pods, slices);
        tokio::time::sleep(GATHER).await;
    }
}

async fn reconcile_slices(view: &View) -> bool {
    let pods = view.pods.list();
    let pods: Vec<&api::Pod> = pods.iter().map(AsRef::as_ref).collect();
    let owned: Vec<Arc<EndpointSlice>> = view
        .slices
        .list()
        .into_iter()
        .filter(|slice| slice.metadata().label(api::discovery::MANAGED_BY_LABEL) == Some(endpoints::MANAGER))
        .collect();
    let mut failed = false;
    for service in view.services.list() {
        if service.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let Some(wanted) = endpoints::slices(&service, &pods) else { continue };
        let here = |slice: &&Arc<EndpointSlice>| {
            slice.namespace() == service.namespace()
                && slice.metadata().label(api::discovery::SERVICE_NAME_LABEL) == Some(service.name())
        };
        let existing: Vec<_> = owned.iter().filter(here).collect();
        let outcome = write_slices(&view.client, &wanted, &existing).await;
        failed |= report("endpoint slices not written", outcome);
    }
    failed
}

async fn write_slices(
    client: &Client,
    wanted: &[EndpointSlice],
    existing: &[&Arc<EndpointSlice>],
) -> Result<(), cluster::Error> {
    for slice in wanted {
        match existing.iter().find(|known| known.name() == slice.name()) {
            None => match client.create(slice).await {
                Err(error) if error.is_already_exists() => replace(client, slice).await?,
                created => drop(created?),
            },
            Some(known) if !endpoints::same(known, slice) => replace(client, slice).await?,
            Some(_) => {}
        }
    }
    for known in existing.iter().filter(|known| !wanted.iter().any(|slice| slice.name() == known.name())) {
        let options = DeleteOptions::default();
        client.delete::<EndpointSlice>(known.namespace(), known.name(), &options).await?;
    }
    Ok(())
}

/// The slice is ours whole, so it is written whole.
async fn replace(client: &Client, slice: &EndpointSlice) -> Result<(), cluster::Error> {
    client.replace(slice).await.map(drop)
}
