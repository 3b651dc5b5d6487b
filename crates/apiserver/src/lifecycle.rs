//! What happens to objects after they are deleted: their dependents follow, and namespaces are emptied.
//!
//! One task looks at every object that [`crate::store`] points out: gone ones, ones on their way out, and new ones that name
//! an owner which does not exist.

use crate::api::Api;
use crate::object::Object;
use crate::status::{Result, Status};
use crate::store::{Attention, Key};
use crate::verbs::{Context, DeleteOptions, Strictness, admit_fields, present, remove, update_object};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Events are kept for this long.
const EVENT_LIFE: i64 = 3600;
const SWEEP: Duration = Duration::from_secs(60);

/// Acts on objects as they come.
pub(crate) async fn run(api: Arc<Api>, mut inbox: mpsc::UnboundedReceiver<Attention>) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let item = tokio::select! {
            item = inbox.recv() => match item {
                Some(item) => item,
                None => return,
            },
            _ = sweep.tick() => {
                let api = Arc::clone(&api);
                let now = jiff::Timestamp::now().as_second();
                tokio::task::spawn_blocking(move || forget_events(&api, now)).await.ok();
                continue;
            }
        };
        let api = Arc::clone(&api);
        let place = item.key.clone();
        let done = tokio::task::spawn_blocking(move || act(&api, &item)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(status)) => {
                tracing::warn!(?place, error = %status, "what a deletion leaves behind could not be tidied")
            }
            Err(error) => tracing::warn!(?place, %error, "what a deletion leaves behind could not be tidied"),
        }
    }
}

/// Deletes events that nothing has happened to for their whole life.
fn forget_events(api: &Api, now: i64) {
    let storage: Arc<str> = "/events".into();
    let (events, _) = api.store.list(&storage, None);
    let old = |event: &Value| {
        let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
        let last = times.iter().find_map(|pointer| event.text(pointer).parse::<jiff::Timestamp>().ok());
        last.is_some_and(|last| last.as_second() + EVENT_LIFE < now)
    };
    for event in events.iter().filter(|event| old(event)) {
        let key = Key::new(&storage, event.namespace(), event.name());
        if let Err(status) = delete(api, &key) {
            tracing::debug!(error = %status, "an old event could not be forgotten");
        }
    }
}

/// What one object asks for.
pub(crate) fn act(api: &Api, item: &Attention) -> Result<()> {
    if item.gone {
        for key in api.store.dependents(&item.uid) {
            settle(api, &key)?;
        }
        for owner in &item.owners {
            wake_owner(api, owner)?;
        }
        if item.key.kind.as_ref() == DEFINITIONS {
            empty_definition(api, &item.key.name)?;
        }
        return finish_namespace(api, &item.key.namespace);
    }
    let Some(value) = api.store.get(&item.key) else { return Ok(()) };
    if !value.is_terminating() {
        return settle(api, &item.key);
    }
    if item.key.kind.as_ref() == "/namespaces" {
        return empty_namespace(api, &item.key.name);
    }
    if value.has_finalizer(ORPHAN) {
        for key in api.store.dependents(value.uid()) {
            disown(api, &key, value.uid())?;
        }
        return drop_finalizer(api, &item.key, ORPHAN);
    }
    if value.has_finalizer(FOREGROUND) {
        let dependents = api.store.dependents(value.uid());
        if dependents.is_empty() {
            return drop_finalizer(api, &item.key, FOREGROUND);
        }
        for key in dependents {
            delete(api, &key)?;
        }
    }
    Ok(())
}

/// The objects of a custom resource go with its definition: nothing serves them any more.
fn empty_definition(api: &Api, name: &str) -> Result<()> {
    let Some((plural, group)) = name.split_once('.') else { return Ok(()) };
    let storage: Arc<str> = format!("{group}/{plural}").into();
    api.store.write(false, |transaction| {
        for object in transaction.list(&storage) {
            transaction.remove(Key::new(&storage, object.namespace(), object.name()));
        }
        Ok(())
    })
}

/// Deletes an object whose owners are all gone; lets it forget the ones that are.
fn settle(api: &Api, key: &Key) -> Result<()> {
    let Some(value) = api.store.get(key) else { return Ok(()) };
    let owners = value.list("/metadata/ownerReferences");
    let gone: Vec<&str> = owners.iter().map(|owner| owner.text("/uid")).filter(|uid| !api.store.has_uid(uid)).collect();
    if owners.is_empty() || gone.is_empty() {
        return Ok(());
    }
    if gone.len() == owners.len() {
        return delete(api, key);
    }
    gone.into_iter().try_for_each(|uid| disown(api, key, uid))
}

/// An owner that waits for its dependents is let go once the last of them is gone.
fn wake_owner(api: &Api, uid: &str) -> Result<()> {
    let Some(key) = api.store.place_of(uid) else { return Ok(()) };
    let waits = api.store.get(&key).is_some_and(|owner| owner.is_terminating() && owner.has_finalizer(FOREGROUND));
    if waits && api.store.dependents(uid).is_empty() {
        return drop_finalizer(api, &key, FOREGROUND);
    }
    Ok(())
}

fn delete(api: &Api, key: &Key) -> Result<()> {
    let kind = api.catalog().stored_at(&key.kind).ok_or_else(Status::no_such_path)?;
    match remove(api, &kind, key, &DeleteOptions::default()) {
        Err(status) if status.code() != 404 => Err(status),
        _ => Ok(()),
    }
}

/// Changes an object on this server's own account; one that is gone is left alone.
fn change(api: &Api, key: &Key, edit: impl Fn(&mut Value)) -> Result<()> {
    let kind = api.catalog().stored_at(&key.kind).ok_or_else(Status::no_such_path)?;
    let context = Context::own(kind.clone(), &key.namespace);
    let outcome = update_object(api, &context, &key.name, |stored| {
        let mut value = present(stored, &kind);
        edit(&mut value);
        admit_fields(&kind, &mut value, Strictness::Ignore, &mut Vec::new())?;
        Ok(value)
    });
    match outcome {
        Err(status) if status.code() != 404 => Err(status),
        _ => Ok(()),
    }
}

fn retain(value: &mut Value, list: &str, keep: impl Fn(&Value) -> bool) {
    if let Some(Value::Array(elements)) = value.metadata_mut().get_mut(list) {
        elements.retain(keep);
    }
}

fn disown(api: &Api, key: &Key, uid: &str) -> Result<()> {
    change(api, key, |value| retain(value, "ownerReferences", |owner| owner.text("/uid") != uid))
}

fn drop_finalizer(api: &Api, key: &Key, name: &str) -> Result<()> {
    change(api, key, |value| retain(value, "finalizers", |finalizer| finalizer != name))
}

fn empty_namespace(api: &Api, name: &str) -> Result<()> {
    for (key, value) in api.store.contents(name) {
        if !value.is_terminating() {
            delete(api, &key)?;
        }
    }
    finish_namespace(api, name)
}

/// Lets a namespace go that is on its way out and has become empty.
fn finish_namespace(api: &Api, name: &str) -> Result<()> {
    let kind = api.catalog().preferred("", "namespaces").ok_or_else(Status::no_such_path)?;
    let key = Key::new(&kind.resource.storage, "", name);
    let waiting = api.store.get(&key).is_some_and(|namespace| namespace.is_terminating());
    if !waiting || !api.store.contents(name).is_empty() {
        return Ok(());
    }
    let mut context = Context::own(kind, "");
    context.subresource = "finalize".into();
    let outcome = update_object(api, &context, name, |stored| {
        let mut value = stored.clone();
        if let Some(Value::Array(finalizers)) = value.pointer_mut("/spec/finalizers") {
            finalizers.retain(|finalizer| finalizer != "kubernetes");
        }
        Ok(value)
    });
    match outcome {
        Err(status) if status.code() != 404 => Err(status),
        _ => Ok(()),
    }
}
