//! delete and deletecollection.

use super::write::is_finished;
use super::{Reply, Request, present, view_one};
use crate::api::Api;
use crate::catalog::Kind;
use crate::crd;
use crate::object::{Object, format_time, timestamp};
use crate::request::selector::Selector;
use crate::status::{Result, Status};
use crate::store::Key;
use serde_json::{Value, json};
use std::sync::Arc;

/// What happens to the objects that name a deleted one as their owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are deleted after it.
    #[default]
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) propagation: Propagation,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    fn of(request: &Request) -> Result<Self> {
        let body = if request.body.is_empty() { json!({}) } else { request.json()? };
        let query = &request.query;
        let policy = match (body.text("/propagationPolicy"), query.get("propagationPolicy")) {
            ("", "") if body["orphanDependents"] == true => "Orphan",
            ("", policy) | (policy, _) => policy,
        };
        let propagation = match policy {
            "" | "Background" => Propagation::Background,
            "Foreground" => Propagation::Foreground,
            "Orphan" => Propagation::Orphan,
            other => {
                return Err(Status::bad_request(format!(
                    "propagationPolicy: Unsupported value: \"{other}\": supported values: \"Background\", \"Foreground\", \"Orphan\""
                )));
            }
        };
        let grace = body["gracePeriodSeconds"].as_i64().or_else(|| query.get("gracePeriodSeconds").parse().ok());
        Ok(Self {
            grace,
            uid: body.text("/preconditions/uid").to_owned(),
            resource_version: body.text("/preconditions/resourceVersion").to_owned(),
            propagation,
            dry_run: request.dry_run() || body.list("/dryRun").iter().any(|value| value == "All"),
        })
    }
}

/// How far a deletion came.
#[derive(Clone, Debug)]
pub(crate) enum Deleted {
    /// The object is gone.
    Gone(Arc<Value>),
    /// It waits for its grace period, its finalizers or its contents.
    Marked(Arc<Value>),
}

pub(crate) fn delete(api: &Api, request: &Request) -> Result<Reply> {
    let options = DeleteOptions::of(request)?;
    match remove(api, &request.kind, &request.key(), &options)? {
        Deleted::Marked(value) => Ok(Reply::ok(view_one(request, &value))),
        Deleted::Gone(value) if request.kind.is("", "pods") => Ok(Reply::ok(view_one(request, &value))),
        Deleted::Gone(value) => {
            let resource = &request.kind.resource;
            Ok(Reply::ok(Status::success(&resource.group, &resource.plural, value.name(), value.uid())))
        }
    }
}

pub(crate) fn delete_collection(api: &Api, request: &Request) -> Result<Reply> {
    let options = DeleteOptions::of(request)?;
    let selector =
        Selector::parse(request.query.get("labelSelector"), request.query.get("fieldSelector"), &request.kind)?;
    let resource = &request.kind.resource;
    let namespace = Some(request.namespace()).filter(|namespace| !namespace.is_empty());
    let (objects, revision) = api.store.list(&resource.storage, namespace);
    let mut items = Vec::new();
    for object in objects.iter().filter(|object| selector.matches(object)) {
        let key = Key::new(&resource.storage, object.namespace(), object.name());
        match remove(api, &request.kind, &key, &options) {
            Ok(Deleted::Gone(value) | Deleted::Marked(value)) => items.push(present(&value, &request.kind)),
            Err(status) if status.code() == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Reply::ok(json!({"kind": resource.list_kind, "apiVersion": request.kind.api_version(),
        "metadata": {"resourceVersion": revision.to_string()}, "items": items})))
}

/// Deletes one object as far as it can be deleted now.
pub(crate) fn remove(api: &Api, kind: &Kind, key: &Key, options: &DeleteOptions) -> Result<Deleted> {
    let (group, plural) = (&kind.resource.group, &kind.resource.plural);
    let outcome = api.store.write(options.dry_run, |transaction| {
        let current = transaction.get(key).ok_or_else(|| Status::not_found(group, plural, &key.name))?;
        check_preconditions(kind, &current, options)?;
        let marked = mark(kind, &current, options);
        if is_finished(kind, &marked) {
            let last = transaction.remove(key.clone()).unwrap_or(current);
            return Ok(Deleted::Gone(last));
        }
        if marked == *current {
            return Ok(Deleted::Marked(current));
        }
        Ok(Deleted::Marked(transaction.put(key.clone(), marked)))
    })?;
    if let Deleted::Gone(value) = &outcome
        && !options.dry_run
        && kind.is("apiextensions.k8s.io", "customresourcedefinitions")
    {
        crd::registered(api, Some(value), None);
    }
    Ok(outcome)
}

fn check_preconditions(kind: &Kind, current: &Value, options: &DeleteOptions) -> Result<()> {
    let checks = [
        ("UID", &options.uid, current.uid()),
        ("ResourceVersion", &options.resource_version, current.resource_version()),
    ];
    for (what, wanted, found) in checks {
        if !wanted.is_empty() && wanted != found {
            let detail =
                format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            return Err(Status::conflict(&kind.resource.group, &kind.resource.plural, current.name(), detail));
        }
    }
    Ok(())
}

/// The object as it waits for its end.
fn mark(kind: &Kind, current: &Value, options: &DeleteOptions) -> Value {
    let mut value = current.clone();
    let grace = grace(kind, current, options);
    let already = current.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let first = !current.is_terminating();
    let metadata = value.metadata_mut();
    if first || already.is_some_and(|already| grace < already) {
        let end = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + grace);
        metadata.insert("deletionTimestamp".into(), end.map_or_else(|_| timestamp(), format_time).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    }
    if first {
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation".into(), (generation + 1).into());
        }
        let wanted = match options.propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some("foregroundDeletion"),
            Propagation::Orphan => Some("orphan"),
        };
        if let Some(wanted) = wanted.filter(|wanted| !current.has_finalizer(wanted)) {
            match metadata.entry("finalizers").or_insert_with(|| json!([])) {
                Value::Array(finalizers) => finalizers.push(wanted.into()),
                other => *other = json!([wanted]),
            }
        }
        if kind.is("", "namespaces") {
            value.section("status").insert("phase".into(), "Terminating".into());
        }
    }
    value
}

/// Only pods that somebody runs get time to end.
fn grace(kind: &Kind, current: &Value, options: &DeleteOptions) -> i64 {
    let runs = kind.is("", "pods")
        && !current.text("/spec/nodeName").is_empty()
        && !matches!(current.text("/status/phase"), "Succeeded" | "Failed");
    if !runs {
        return 0;
    }
    let own = current.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    options.grace.unwrap_or(own).max(0)
}
