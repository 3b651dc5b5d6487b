//! create and update, and what every write goes through.

use super::fields::{self, Strictness, admit_fields};
use super::{Reply, Request, view_one};
use crate::admission;
use crate::api::Api;
use crate::authn::User;
use crate::catalog::Kind;
use crate::crd;
use crate::events;
use crate::object::{Object, timestamp};
use crate::ownership;
use crate::status::{Result, Status};
use crate::store::{Key, Transaction};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Objects larger than this are refused.
const LARGEST_OBJECT: usize = 1536 * 1024;
/// How often a generated name is tried.
const NAME_ATTEMPTS: usize = 8;

/// Who changes which kind, and how it is to be recorded.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    /// Who asked; nobody for changes that this server makes on its own account.
    pub(crate) user: Option<User>,
    pub(crate) manager: String,
    pub(crate) subresource: String,
    pub(crate) dry_run: bool,
}

impl Context {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            kind: request.kind.clone(),
            namespace: request.namespace().to_owned(),
            user: Some(request.caller.clone()),
            manager: request.manager(),
            subresource: request.target.subresource.clone(),
            dry_run: request.dry_run(),
        }
    }

    /// A change that this server makes on its own account.
    pub(crate) fn own(kind: Kind, namespace: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            user: None,
            manager: "apiserver".into(),
            subresource: String::new(),
            dry_run: false,
        }
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        Key::new(&self.kind.resource.storage, &self.namespace, name)
    }

    pub(super) fn group(&self) -> &str {
        &self.kind.resource.group
    }

    pub(super) fn plural(&self) -> &str {
        &self.kind.resource.plural
    }
}

pub(crate) fn create(api: &Api, request: &Request) -> Result<Reply> {
    let mut warnings = admission::warnings(&request.kind);
    let mut value = request.json()?;
    admit_fields(&request.kind, &mut value, Strictness::of(&request.query)?, &mut warnings)?;
    let stored = create_object(api, &Context::of(request), value)?;
    Ok(Reply { warnings, ..Reply::with(201, view_one(request, &stored)) })
}

/// Creates a complete object.
pub(crate) fn create_object(api: &Api, context: &Context, mut value: Value) -> Result<Arc<Value>> {
    let kind = &context.kind;
    if kind.is("events.k8s.io", "events") {
        events::to_core_group(&mut value);
    }
    if !value.resource_version().is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    place(context, &mut value)?;
    begin(kind, &mut value);
    let generated = value.name().is_empty() && !value.text("/metadata/generateName").is_empty();
    for attempt in 1.. {
        let mut value = value.clone();
        if generated {
            let name = generated_name(value.text("/metadata/generateName"));
            value.metadata_mut().insert("name".into(), name.into());
        }
        let outcome = api.store.write(context.dry_run, |transaction| insert(api, context, transaction, value));
        match outcome {
            Err(status) if generated && status.code() == 409 && attempt < NAME_ATTEMPTS => {}
            Ok(stored) => {
                after_write(api, context, None, Some(&stored));
                return Ok(stored);
            }
            refused => return refused,
        }
    }
    unreachable!("the loop ends by returning")
}

fn insert(api: &Api, context: &Context, transaction: &mut Transaction<'_>, mut value: Value) -> Result<Arc<Value>> {
    let kind = &context.kind;
    let key = context.key(value.name());
    fields::check_object(kind, &value, None)?;
    if transaction.get(&key).is_some() {
        return Err(Status::already_exists(context.group(), context.plural(), value.name()));
    }
    admission::admit(api, transaction, context, &mut value, None)?;
    ownership::record(context, None, &mut value);
    check_size(context, &value)?;
    Ok(transaction.put(key, value))
}

/// The namespace in the object and the one in the path must agree.
pub(super) fn place(context: &Context, value: &mut Value) -> Result<()> {
    let named = value.namespace().to_owned();
    if !context.kind.resource.namespaced {
        value.metadata_mut().remove("namespace");
        return Ok(());
    }
    if !named.is_empty() && named != context.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    value.metadata_mut().insert("namespace".into(), context.namespace.clone().into());
    Ok(())
}

/// The metadata that only this server gives.
pub(super) fn begin(kind: &Kind, value: &mut Value) {
    let metadata = value.metadata_mut();
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), timestamp().into());
    if admission::counts_generations(kind) {
        metadata.insert("generation".into(), 1.into());
    }
    admission::first_status(kind, value);
}

fn generated_name(prefix: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let suffix = (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]));
    prefix.chars().take(58).chain(suffix).collect()
}

pub(super) fn check_size(context: &Context, value: &Value) -> Result<()> {
    if value.to_string().len() > LARGEST_OBJECT {
        return Err(Status::forbidden(
            context.group(),
            context.plural(),
            value.name(),
            format!("the object is larger than {LARGEST_OBJECT} bytes"),
        ));
    }
    Ok(())
}

/// What follows from a change that has been kept.
pub(super) fn after_write(api: &Api, context: &Context, old: Option<&Value>, new: Option<&Value>) {
    if !context.dry_run && context.kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        crd::registered(api, old, new);
    }
}

pub(crate) fn update(api: &Api, request: &Request) -> Result<Reply> {
    let mut warnings = admission::warnings(&request.kind);
    let mut value = request.json()?;
    admit_fields(&request.kind, &mut value, Strictness::of(&request.query)?, &mut warnings)?;
    let name = &request.target.name;
    if value.name() != name {
        let (found, wanted) = (value.name(), name);
        return Err(Status::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({wanted})"
        )));
    }
    let context = Context::of(request);
    place(&context, &mut value)?;
    if request.kind.is("events.k8s.io", "events") {
        events::to_core_group(&mut value);
    }
    let stored = update_object(api, &context, name, |_| Ok(value))?;
    Ok(Reply { warnings, ..Reply::ok(view_one(request, &stored)) })
}

/// Replaces an object by what `change` makes of it.
pub(crate) fn update_object(
    api: &Api,
    context: &Context,
    name: &str,
    change: impl FnOnce(&Value) -> Result<Value>,
) -> Result<Arc<Value>> {
    let mut before = None;
    let outcome = api.store.write(context.dry_run, |transaction| {
        let current = transaction
            .get(&context.key(name))
            .ok_or_else(|| Status::not_found(context.group(), context.plural(), name))?;
        before = Some(Arc::clone(&current));
        let candidate = change(&current)?;
        replace(api, context, transaction, &current, candidate, Record::Update)
    })?;
    after_write(api, context, before.as_deref(), Some(&outcome));
    Ok(outcome)
}

/// How the ownership of fields is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// From the difference between the two states.
    Update,
    /// It has been worked out by the apply.
    Done,
}

pub(super) fn replace(
    api: &Api,
    context: &Context,
    transaction: &mut Transaction<'_>,
    current: &Arc<Value>,
    candidate: Value,
    record: Record,
) -> Result<Arc<Value>> {
    let kind = &context.kind;
    let key = context.key(current.name());
    let version = candidate.resource_version();
    if !version.is_empty() && version != current.resource_version() {
        return Err(Status::modified(context.group(), context.plural(), current.name()));
    }
    if !candidate.uid().is_empty() && candidate.uid() != current.uid() {
        let detail = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            candidate.uid(),
            current.uid()
        );
        return Err(Status::conflict(context.group(), context.plural(), current.name(), detail));
    }
    let mut value = merged_parts(context, current, candidate);
    keep_identity(current, &mut value);
    fields::check_object(kind, &value, Some(current))?;
    admission::admit(api, transaction, context, &mut value, Some(current))?;
    count_generation(kind, current, &mut value);
    if record == Record::Update {
        ownership::record(context, Some(current), &mut value);
    }
    if same(current, &value) {
        return Ok(Arc::clone(current));
    }
    check_size(context, &value)?;
    if is_finished(kind, &value) {
        let value = transaction.put(key.clone(), value);
        transaction.remove(key);
        return Ok(value);
    }
    Ok(transaction.put(key, value))
}

/// The part of the candidate that this request may change, over the rest of what is stored.
fn merged_parts(context: &Context, current: &Value, candidate: Value) -> Value {
    let mut candidate = candidate;
    let take = |target: &mut Value, source: &mut Value, field: &str| match source.get_mut(field) {
        Some(value) => target[field] = value.take(),
        None => {
            target.as_object_mut().map(|fields| fields.remove(field));
        }
    };
    match context.subresource.as_str() {
        "status" => {
            let mut value = current.clone();
            take(&mut value, &mut candidate, "status");
            let metadata_too = context.kind.is("", "pods") || context.kind.is("", "nodes");
            if metadata_too && let Some(from) = candidate.get_mut("metadata") {
                for field in ["labels", "annotations"] {
                    take(&mut value["metadata"], from, field);
                }
            }
            if let Some(managed) = candidate.pointer_mut("/metadata/managedFields") {
                value["metadata"]["managedFields"] = managed.take();
            }
            value
        }
        "finalize" => {
            let mut value = current.clone();
            value["spec"] = candidate["spec"].take();
            value
        }
        _ => {
            if context.kind.has_subresource("status") {
                let mut old = current.get("status").map(|status| serde_json::json!({"status": status}));
                match &mut old {
                    Some(old) => take(&mut candidate, old, "status"),
                    None => {
                        candidate.as_object_mut().map(|fields| fields.remove("status"));
                    }
                }
            }
            candidate
        }
    }
}

/// Metadata that no client changes.
fn keep_identity(current: &Value, value: &mut Value) {
    const KEPT: [&str; 9] = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ];
    let empty = Map::new();
    let old = current.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let metadata = value.metadata_mut();
    metadata.remove("selfLink");
    for field in KEPT {
        match old.get(field) {
            Some(kept) => metadata.insert(field.into(), kept.clone()),
            None => metadata.remove(field),
        };
    }
    // An object on its way out takes no new finalizers.
    if old.contains_key("deletionTimestamp") {
        let before = current.list("/metadata/finalizers");
        if let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers") {
            finalizers.retain(|finalizer| before.contains(finalizer));
        }
    }
}

fn count_generation(kind: &Kind, current: &Value, value: &mut Value) {
    if !admission::counts_generations(kind) {
        return;
    }
    let content = |object: &Value| {
        let mut content = object.as_object().cloned().unwrap_or_default();
        for field in ["metadata", "apiVersion", "kind"] {
            content.remove(field);
        }
        if kind.has_subresource("status") {
            content.remove("status");
        }
        content
    };
    if content(current) != content(value) {
        let generation = current.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        value.metadata_mut().insert("generation".into(), (generation + 1).into());
    }
}

/// Whether nothing changed but who is recorded for it and when.
fn same(current: &Value, value: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(entries) = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut) {
            for entry in entries {
                entry.as_object_mut().map(|entry| entry.remove("time"));
            }
        }
        object
    };
    current == value || strip(current) == strip(value)
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(super) fn is_finished(kind: &Kind, value: &Value) -> bool {
    let graceful = kind.is("", "pods")
        && value.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) > 0;
    let namespace_holds = kind.is("", "namespaces") && !value.list("/spec/finalizers").is_empty();
    value.is_terminating() && value.list("/metadata/finalizers").is_empty() && !graceful && !namespace_holds
}
