//! get, list and watch.

use super::{Reply, Request};
use crate::api::Api;
use crate::catalog::{self, Kind};
use crate::events;
use crate::object::Object;
use crate::request::negotiate::Form;
use crate::request::selector::Selector;
use crate::status::{Result, Status};
use crate::table;
use crate::verbs::Body;
use crate::watch::{View, Watcher};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use std::sync::Arc;

/// An object as clients of this version see it.
pub(crate) fn present(value: &Value, kind: &Kind) -> Value {
    let mut value = value.clone();
    catalog::present(&mut value, kind);
    if kind.is("events.k8s.io", "events") {
        events::to_events_group(&mut value);
    }
    value
}

/// One object in the form that was asked for.
pub(crate) fn view_one(request: &Request, value: &Value) -> Value {
    let value = present(value, &request.kind);
    match request.form {
        Form::Table => {
            let row = table::row(&value, &request.kind, request.query.get("includeObject"), jiff::Timestamp::now());
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": value.resource_version()},
                "columnDefinitions": table::definitions(&request.kind), "rows": [row]})
        }
        Form::Metadata => table::metadata_only(&value),
        _ => value,
    }
}

pub(crate) fn get(api: &Api, request: &Request) -> Result<Reply> {
    let value = api.store.get(&request.key()).ok_or_else(|| request.not_found())?;
    Ok(Reply::ok(view_one(request, &value)))
}

/// The selector of a request, narrowed to its name when it has one.
fn selector(request: &Request) -> Result<Selector> {
    let query = &request.query;
    let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"), &request.kind)?;
    Ok(if request.target.name.is_empty() { selector } else { selector.and_name(&request.target.name) })
}

fn namespace(request: &Request) -> Option<&str> {
    Some(request.namespace()).filter(|namespace| !namespace.is_empty())
}

pub(crate) fn list(api: &Api, request: &Request) -> Result<Reply> {
    let selector = selector(request)?;
    let (objects, now) = api.store.list(&request.kind.resource.storage, namespace(request));
    check_revision(request, now)?;
    let mut matching: Vec<Arc<Value>> = objects.into_iter().filter(|object| selector.matches(object)).collect();
    let mut revision = now;
    if let Some(place) = Place::read(request.query.get("continue"))? {
        revision = place.revision;
        matching.retain(|object| (object.namespace(), object.name()) > (place.namespace.as_str(), place.name.as_str()));
    }
    let limit = request.query.number("limit").filter(|limit| *limit > 0);
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| matching.len() > *limit) {
        let remaining = matching.len() - limit;
        matching.truncate(limit);
        if let Some(last) = matching.last() {
            let place = Place { revision, namespace: last.namespace().into(), name: last.name().into() };
            metadata["continue"] = place.write().into();
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    Ok(Reply::ok(collection(request, &matching, metadata)))
}

/// A list in the form that was asked for.
fn collection(request: &Request, objects: &[Arc<Value>], metadata: Value) -> Value {
    let kind = &request.kind;
    let shown = objects.iter().map(|object| present(object, kind));
    match request.form {
        Form::Table => {
            let (include, now) = (request.query.get("includeObject"), jiff::Timestamp::now());
            let rows: Vec<Value> = shown.map(|object| table::row(&object, kind, include, now)).collect();
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "columnDefinitions": table::definitions(kind), "rows": rows})
        }
        Form::Metadata => {
            let items: Vec<Value> = shown.map(|object| table::metadata_only(&object)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
        _ => json!({"kind": kind.resource.list_kind, "apiVersion": kind.api_version(), "metadata": metadata,
            "items": shown.collect::<Vec<Value>>()}),
    }
}

/// Only the present can be listed: a request for an exact past is told that it is gone, one for the future to come later.
fn check_revision(request: &Request, now: u64) -> Result<()> {
    let text = request.query.get("resourceVersion");
    if text.is_empty() || text == "0" || !request.query.get("continue").is_empty() {
        return Ok(());
    }
    let wanted: u64 = text.parse().map_err(|_| {
        Status::bad_request(format!("invalid resource version: strconv.ParseUint: parsing \"{text}\": invalid syntax"))
    })?;
    if wanted > now {
        return Err(too_large(wanted, now));
    }
    if request.query.get("resourceVersionMatch") == "Exact" && wanted != now {
        return Err(Status::expired(format!("The provided resource version is not kept: {wanted} (now {now})")));
    }
    Ok(())
}

fn too_large(wanted: u64, now: u64) -> Status {
    Status::new(504, "Timeout", format!("Too large resource version: {wanted}, current: {now}"))
}

pub(crate) fn watch(api: &Api, request: &Request) -> Result<Reply> {
    let selector = selector(request)?;
    let slot = api.watch_slot().ok_or_else(|| {
        Status::too_many_requests("too many watches are open on this server, close some and try again")
    })?;
    let kind = &request.kind.resource.storage;
    let changed = api.store.subscribe(kind);
    let query = &request.query;
    let initial_events = query.flag("sendInitialEvents");
    let text = query.get("resourceVersion");
    let (objects, now) = api.store.list(kind, namespace(request));
    let from_now = text.is_empty() || text == "0" || initial_events;
    let cursor = if from_now {
        now
    } else {
        text.parse().map_err(|_| Status::bad_request(format!("invalid resource version: \"{text}\"")))?
    };
    // A revision of the future belongs to another life of this server: its owner must list again.
    let gone = (cursor > now).then_some(now);
    let view = View {
        kind: request.kind.clone(),
        form: request.form,
        include: query.get("includeObject").to_owned(),
        namespace: namespace(request).map(str::to_owned),
        selector,
    };
    let first = if initial_events || from_now { objects } else { Vec::new() };
    let watcher = Watcher::new(view, cursor, changed, slot)
        .starting_with(first, initial_events)
        .bookmarks(query.flag("allowWatchBookmarks"))
        .lasting(query.number("timeoutSeconds"))
        .ending_at_once(gone);
    Ok(Reply { code: 200, body: Body::Watch(Box::new(watcher)), warnings: Vec::new() })
}

/// Where the next page of a list begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    revision: u64,
    namespace: String,
    name: String,
}

impl Place {
    fn write(&self) -> String {
        BASE64.encode(format!("{}/{}/{}", self.revision, self.namespace, self.name))
    }

    fn read(token: &str) -> Result<Option<Self>> {
        if token.is_empty() {
            return Ok(None);
        }
        let parse = || -> Option<Self> {
            let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
            let mut parts = text.splitn(3, '/');
            let revision = parts.next()?.parse().ok()?;
            Some(Self { revision, namespace: parts.next()?.to_owned(), name: parts.next()?.to_owned() })
        };
        parse().map(Some).ok_or_else(|| Status::bad_request("invalid continue token"))
    }
}
