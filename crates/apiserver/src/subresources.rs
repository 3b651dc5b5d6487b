//! Parts of an object with a form of their own: scale, binding, eviction, token.

use crate::api::Api;
use crate::authn::BoundPod;
use crate::object::{Object, format_time, timestamp};
use crate::patch::{self, PatchType};
use crate::request::selector::label_selector_text;
use crate::schema::Schema;
use crate::status::{Cause, Result, Status};
use crate::store::Key;
use crate::table::Path;
use crate::verbs::{self, Context, DeleteOptions, Reply, Request, update_object};
use serde_json::{Value, json};
use std::sync::Arc;

const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 48 * 3600;

/// Answers a request about `scale`.
pub(crate) fn scale(api: &Api, request: &Request, verb: &str) -> Result<Reply> {
    let paths = ScalePointers::of(request)?;
    if verb == "get" {
        let value = api.store.get(&request.key()).ok_or_else(|| request.not_found())?;
        return Ok(Reply::ok(paths.show(&value)));
    }
    let body = request.json()?;
    let mut context = Context::of(request);
    context.subresource = "scale".into();
    let stored = update_object(api, &context, &request.target.name, |current| {
        let wanted = if verb == "patch" {
            let form = PatchType::of(&request.content_type, &request.kind).or_else(|_| Ok(PatchType::Merge))?;
            let form = if matches!(form, PatchType::Strategic | PatchType::Apply) { PatchType::Merge } else { form };
            patch::apply(form, &paths.show(current), &body, &Schema::free_form())?
        } else {
            body
        };
        let version = wanted.resource_version();
        if !version.is_empty() && version != current.resource_version() {
            return Err(Status::modified(&request.kind.resource.group, &request.kind.resource.plural, current.name()));
        }
        let replicas = wanted.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        if replicas < 0 {
            let cause = Cause::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", current.name(), &[cause]));
        }
        let mut value = current.clone();
        set(&mut value, &paths.spec, replicas.into());
        Ok(value)
    })?;
    Ok(Reply::ok(paths.show(&stored)))
}

/// Where a kind keeps what `scale` shows, as JSON pointers.
struct ScalePointers {
    spec: String,
    status: String,
    selector: Option<String>,
}

impl ScalePointers {
    fn of(request: &Request) -> Result<Self> {
        let Some(paths) = &request.kind.version().scale else {
            return Ok(Self { spec: "/spec/replicas".into(), status: "/status/replicas".into(), selector: None });
        };
        let pointer = |path: &str| {
            Path::parse(path).ok().and_then(|path| path.pointer()).ok_or_else(|| {
                Status::internal(format!("the path {path} of the scale subresource does not name a field"))
            })
        };
        let selector = paths.selector.as_deref().map(pointer).transpose()?;
        Ok(Self { spec: pointer(&paths.spec)?, status: pointer(&paths.status)?, selector })
    }

    fn show(&self, value: &Value) -> Value {
        let selector = match &self.selector {
            Some(pointer) => value.text(pointer).to_owned(),
            None => label_selector_text(value.pointer("/spec/selector")),
        };
        let metadata: Value = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
            .iter()
            .filter_map(|field| Some(((*field).to_owned(), value["metadata"].get(*field)?.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let count = |pointer: &str| value.pointer(pointer).cloned().unwrap_or_else(|| 0.into());
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
            "spec": {"replicas": count(&self.spec)}, "status": {"replicas": count(&self.status), "selector": selector}})
    }
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let mut slot = value;
    for part in pointer.split('/').skip(1) {
        slot = &mut slot[part.replace("~1", "/").replace("~0", "~")];
    }
    *slot = new;
}

/// Assigns a pod to a node.
pub(crate) fn bind(api: &Api, request: &Request) -> Result<Reply> {
    let body = request.json()?;
    let name = if request.target.name.is_empty() { body.name().to_owned() } else { request.target.name.clone() };
    let node = body.text("/target/name").to_owned();
    if node.is_empty() {
        let cause = Cause::required("target.name", "");
        return Err(Status::invalid("", "Binding", &name, &[cause]));
    }
    let kind = api.catalog().preferred("", "pods").ok_or_else(Status::no_such_path)?;
    let mut context = Context { kind, ..Context::of(request) };
    context.subresource = String::new();
    update_object(api, &context, &name, |pod| {
        let refuse = |detail: String| Err(Status::conflict("", "pods/binding", &name, detail));
        match pod.text("/spec/nodeName") {
            _ if pod.is_terminating() => {
                return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
            }
            "" => {}
            other => return refuse(format!("pod {name} is already assigned to node \"{other}\"")),
        }
        let mut pod = pod.clone();
        pod["spec"]["nodeName"] = node.clone().into();
        Ok(pod)
    })?;
    context.subresource = "status".into();
    update_object(api, &context, &name, |pod| {
        let mut pod = pod.clone();
        let scheduled =
            json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": timestamp()});
        match pod.section("status").entry("conditions").or_insert_with(|| json!([])) {
            Value::Array(conditions) => {
                conditions.retain(|condition| condition.text("/type") != "PodScheduled");
                conditions.push(scheduled);
            }
            other => *other = json!([scheduled]),
        }
        Ok(pod)
    })?;
    Ok(Reply::with(
        201,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// Ends a pod as a deletion does; budgets are not looked at.
pub(crate) fn evict(api: &Api, request: &Request) -> Result<Reply> {
    let body = request.json()?;
    let options = DeleteOptions {
        grace: body.pointer("/deleteOptions/gracePeriodSeconds").and_then(Value::as_i64),
        dry_run: request.dry_run(),
        ..DeleteOptions::default()
    };
    verbs::remove(api, &request.kind, &request.key(), &options)?;
    Ok(Reply::with(
        201,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// Issues a token for a service account.
pub(crate) fn token(api: &Api, request: &Request) -> Result<Reply> {
    let mut body = request.json()?;
    let account = api.store.get(&request.key()).ok_or_else(|| request.not_found())?;
    let seconds = body.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    if seconds < SHORTEST_TOKEN {
        let cause = Cause::invalid(
            "spec.expirationSeconds",
            &seconds.into(),
            "may not specify a duration less than 10 minutes",
        );
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", &request.target.name, &[cause]));
    }
    let seconds = seconds.min(LONGEST_TOKEN);
    let mut audiences: Vec<String> =
        body.list("/spec/audiences").iter().filter_map(|audience| Some(audience.as_str()?.to_owned())).collect();
    if audiences.is_empty() {
        audiences = api.audiences();
    }
    let bound = bound_pod(api, request, &body, account.name())?;
    let now = jiff::Timestamp::now().as_second();
    let who = (account.namespace(), account.name(), account.uid());
    let token = api.signer.issue(who, bound.as_ref(), audiences.clone(), now, seconds);
    let expires = jiff::Timestamp::from_second(now + seconds).map_or_else(|_| timestamp(), format_time);
    body["kind"] = "TokenRequest".into();
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["metadata"] =
        json!({"name": account.name(), "namespace": account.namespace(), "creationTimestamp": timestamp()});
    body["spec"]["audiences"] = json!(audiences);
    body["spec"]["expirationSeconds"] = seconds.into();
    body["status"] = json!({"token": token, "expirationTimestamp": expires});
    Ok(Reply::with(201, body))
}

fn not_for_node(account: &str, node: &str, why: &str) -> Status {
    let detail = format!("node \"{node}\" can only request tokens for pods that it runs: {why}");
    Status::forbidden("", "serviceaccounts", account, detail)
}

fn bound_pod(api: &Api, request: &Request, body: &Value, account: &str) -> Result<Option<BoundPod>> {
    let node_name = request.caller.node_name();
    let Some(reference) = body.pointer("/spec/boundObjectRef").filter(|reference| reference.is_object()) else {
        return match node_name {
            None => Ok(None),
            Some(node) => Err(not_for_node(account, node, "the token is not bound to a pod")),
        };
    };
    if reference.text("/kind") != "Pod" {
        let kind = reference.text("/kind");
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount \"{account}\" to an object of kind \"{kind}\": only pods are bound here"
        )));
    }
    let name = reference.text("/name");
    let pod = api
        .store
        .get(&Key::new(&Arc::from("/pods"), request.namespace(), name))
        .ok_or_else(|| Status::not_found("", "pods", name))?;
    let uid = reference.text("/uid");
    if !uid.is_empty() && uid != pod.uid() {
        let detail = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", "pods", name, detail));
    }
    if pod.text("/spec/serviceAccountName") != account {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
        )));
    }
    let node = pod.text("/spec/nodeName");
    if let Some(asking) = node_name.filter(|asking| *asking != node) {
        return Err(not_for_node(account, asking, "the pod runs on another node"));
    }
    let node = (!node.is_empty()).then(|| {
        let found = api.store.get(&Key::new(&Arc::from("/nodes"), "", node));
        (node.to_owned(), found.map_or_else(String::new, |found| found.uid().to_owned()))
    });
    let node = node.as_ref().map(|(name, uid)| (name.as_str(), uid.as_str()));
    Ok(Some(BoundPod::new((pod.name(), pod.uid()), node)))
}
