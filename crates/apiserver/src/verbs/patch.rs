//! patch: a change described by a document, and server-side apply.

use super::fields::{self, Strictness, admit_fields};
use super::write::{Context, Record, after_write, begin, check_size, place, replace, update_object};
use super::{Reply, Request, present, view_one};
use crate::admission;
use crate::api::Api;
use crate::catalog::Kind;
use crate::events;
use crate::object::Object;
use crate::ownership;
use crate::patch::{self, PatchType};
use crate::schema::prune;
use crate::status::{Cause, Result, Status};
use crate::store::Transaction;
use serde_json::Value;
use std::sync::Arc;

pub(crate) fn patch(api: &Api, request: &Request) -> Result<Reply> {
    let form = PatchType::of(&request.content_type, &request.kind)?;
    let document = request.json()?;
    let mut warnings = admission::warnings(&request.kind);
    let strictness = Strictness::of(&request.query)?;
    if form == PatchType::Apply {
        return apply(api, request, document, strictness, warnings);
    }
    let kind = &request.kind;
    let context = Context::of(request);
    let stored = update_object(api, &context, &request.target.name, |current| {
        let mut value = patch::apply(form, &present(current, kind), &document, kind.schema())?;
        admit_fields(kind, &mut value, strictness, &mut warnings)?;
        if kind.is("events.k8s.io", "events") {
            events::to_core_group(&mut value);
        }
        check_name(kind, &request.target.name, &value)?;
        Ok(value)
    })?;
    Ok(Reply { warnings, ..Reply::ok(view_one(request, &stored)) })
}

fn check_name(kind: &Kind, name: &str, value: &Value) -> Result<()> {
    if value.name() == name {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.name", &value.name().into(), "field is immutable");
    Err(Status::invalid(&kind.resource.group, &kind.resource.kind, name, &[cause]))
}

/// Server-side apply: creates the object when it is not there.
fn apply(
    api: &Api,
    request: &Request,
    document: Value,
    strictness: Strictness,
    mut warnings: Vec<String>,
) -> Result<Reply> {
    let (kind, context, name) = (&request.kind, Context::of(request), request.target.name.as_str());
    if request.query.get("fieldManager").is_empty() {
        return Err(Status::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    let mut intent = document;
    intent.metadata_mut().insert("name".into(), name.into());
    place(&context, &mut intent)?;
    if intent.pointer("/metadata/managedFields").is_some_and(|managed| !managed.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let intent = declared(kind, intent, strictness, &mut warnings)?;
    let mut created = false;
    let mut before = None;
    let outcome = api.store.write(context.dry_run, |transaction| {
        let Some(current) = transaction.get(&context.key(name)) else {
            created = true;
            return apply_new(api, &context, transaction, intent);
        };
        before = Some(Arc::clone(&current));
        let live = present(&current, kind);
        let mut value = ownership::apply(&context, &live, &intent, request.query.flag("force"))?;
        admit_fields(kind, &mut value, Strictness::Ignore, &mut Vec::new())?;
        replace(api, &context, transaction, &current, value, Record::Done)
    })?;
    after_write(api, &context, before.as_deref(), Some(&outcome));
    let code = if created { 201 } else { 200 };
    Ok(Reply { warnings, ..Reply::with(code, view_one(request, &outcome)) })
}

fn apply_new(api: &Api, context: &Context, transaction: &mut Transaction<'_>, intent: Value) -> Result<Arc<Value>> {
    if !context.subresource.is_empty() {
        return Err(Status::not_found(context.group(), context.plural(), intent.name()));
    }
    if !intent.resource_version().is_empty() {
        return Err(Status::modified(context.group(), context.plural(), intent.name()));
    }
    let mut value = ownership::apply_first(context, &intent);
    admit_fields(&context.kind, &mut value, Strictness::Ignore, &mut Vec::new())?;
    begin(&context.kind, &mut value);
    fields::check_object(&context.kind, &value, None)?;
    admission::admit(api, transaction, context, &mut value, None)?;
    check_size(context, &value)?;
    Ok(transaction.put(context.key(value.name()), value))
}

/// An applied configuration without what its kind does not declare, and without defaults: they are nobody's intent.
fn declared(kind: &Kind, intent: Value, strictness: Strictness, warnings: &mut Vec<String>) -> Result<Value> {
    let mut complete = intent.clone();
    admit_fields(kind, &mut complete, strictness, warnings)?;
    let mut intent = intent;
    prune::object(&mut intent, kind.schema());
    if !kind.is_custom() {
        prune::normalise(&mut intent, kind.schema());
    }
    intent["apiVersion"] = kind.api_version().into();
    intent["kind"] = kind.resource.kind.clone().into();
    Ok(intent)
}
