//! From an HTTP request to a reply: who asks, may they, and what answers.

use crate::api::Api;
use crate::authn::{self, User};
use crate::authz::{self, Action};
use crate::catalog::{Kind, Origin};
use crate::object::Object;
use crate::proxy;
use crate::request::negotiate::{self, Form};
use crate::request::query::{Query, decode};
use crate::request::route::{Route, Target};
use crate::schema::{openapi, wire};
use crate::status::{Result, Status};
use crate::verbs::{self, Body, Reply, Request};
use crate::{discovery, reviews, subresources};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use serde_json::{Value, json};
use std::sync::Arc;

/// The parts of a request that decide what happens to it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) route: Route,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    /// Who the client's certificate names.
    pub(crate) certificate: Option<User>,
}

/// What is to be done with a request that is allowed.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Answer it; the body is needed.
    Answer(Box<Job>),
    /// Answer it at once.
    Reply(Reply),
    /// Hand it to the node that runs the pod.
    Node(proxy::Destination),
}

/// A request about a resource, ready for its body.
#[derive(Debug)]
pub(crate) struct Job {
    verb: String,
    request: Request,
}

fn header(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Who is asking.
pub(crate) fn authenticate(api: &Api, head: &Head) -> Result<User> {
    let authorization = header(&head.headers, AUTHORIZATION);
    let token = authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("bearer "));
    let user = match (token.map(str::trim), &head.certificate) {
        (Some(token), _) if api.admin_token.as_deref().is_some_and(|admin| same_secret(admin, token)) => {
            User::authenticated("admin", [authn::MASTERS.to_owned()])
        }
        (Some(token), _) => {
            let now = jiff::Timestamp::now().as_second();
            let claims = api.signer.verify(token, &api.audiences(), now);
            claims.and_then(|claims| authn::token_user(&claims, &api.store)).map_err(|error| {
                tracing::debug!(%error, "a bearer token is not believed");
                Status::unauthorized()
            })?
        }
        (None, Some(user)) => user.clone(),
        (None, None) => User::anonymous(),
    };
    impersonate(api, head, user)
}

/// Compares without telling by its duration how much was right.
fn same_secret(left: &str, right: &str) -> bool {
    left.len() == right.len() && left.bytes().zip(right.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// A caller that may do so acts as somebody else.
fn impersonate(api: &Api, head: &Head, user: User) -> Result<User> {
    let name = header(&head.headers, "impersonate-user");
    if name.is_empty() {
        return Ok(user);
    }
    let groups: Vec<String> = head
        .headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|group| Some(group.to_str().ok()?.to_owned()))
        .collect();
    let targets = std::iter::once(("users", name)).chain(groups.iter().map(|group| ("groups", group.as_str())));
    for (resource, name) in targets {
        let action =
            Action { verb: "impersonate".into(), resource: resource.into(), name: name.into(), ..Action::default() };
        if !authz::allowed(&api.store, &user, &action) {
            return Err(Status::forbidden("", resource, name, action.refusal(&user)));
        }
    }
    Ok(User::authenticated(name, groups))
}

/// Decides what happens to a request.
pub(crate) fn plan(api: &Api, head: &Head) -> Result<Plan> {
    let user = authenticate(api, head)?;
    let action = Action::of(&head.route);
    if head.route.verb.is_empty() {
        return Err(Status::method_not_allowed("", ""));
    }
    if !authz::allowed(&api.store, &user, &action) {
        if user.is_anonymous() {
            return Err(Status::unauthorized());
        }
        return Err(Status::forbidden(&action.group, &action.full_resource(), &action.name, action.refusal(&user)));
    }
    let form = negotiate::form(header(&head.headers, ACCEPT));
    match &head.route.resource {
        None => path(api, &head.route, form.unwrap_or_default()).map(Plan::Reply),
        Some(target) => {
            let form = form.ok_or_else(|| {
                Status::new(406, "NotAcceptable", "only the following media types are accepted: application/json")
            });
            resource(api, head, user, target, form)
        }
    }
}

fn resource(api: &Api, head: &Head, user: User, target: &Target, form: Result<Form>) -> Result<Plan> {
    let catalog = api.catalog();
    let (group, plural) = (&target.group, &target.plural);
    let Some(kind) = catalog.find(group, &target.version, plural) else {
        if group.is_empty() && plural == "bindings" {
            let pods = catalog.find("", &target.version, "pods").ok_or_else(Status::no_such_path)?;
            let target = Target { subresource: "binding".into(), ..target.clone() };
            let request = request(head, user, target, pods, form?);
            return Ok(Plan::Answer(Box::new(Job { verb: head.route.verb.clone(), request })));
        }
        return Err(Status::no_such_path());
    };
    if kind.resource.origin == Origin::Unserved {
        return Err(Status::not_served(group, plural));
    }
    let subresource = target.subresource.as_str();
    if !subresource.is_empty() && !kind.has_subresource(subresource) {
        return Err(Status::no_such_path());
    }
    if target.namespace.is_empty() && kind.resource.namespaced && !matches!(head.route.verb.as_str(), "list" | "watch")
    {
        return Err(Status::no_such_path());
    }
    if kind.is("", "pods") && matches!(subresource, "log" | "exec" | "attach" | "portforward") {
        return proxy::destination(api, target, &head.query).map(Plan::Node);
    }
    let request = request(head, user, target.clone(), kind, form?);
    Ok(Plan::Answer(Box::new(Job { verb: head.route.verb.clone(), request })))
}

fn request(head: &Head, caller: User, target: Target, kind: Kind, form: Form) -> Request {
    Request {
        target,
        kind,
        query: head.query.clone(),
        form,
        caller,
        content_type: header(&head.headers, CONTENT_TYPE).to_owned(),
        user_agent: header(&head.headers, USER_AGENT).to_owned(),
        body: Bytes::new(),
    }
}

impl Job {
    /// Whether answering it changes something.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// Answers the request.
    pub(crate) fn run(mut self, api: &Arc<Api>, body: Bytes) -> Result<Reply> {
        self.request.body = body;
        let request = &self.request;
        if self.writes() {
            check_media(request, &self.verb)?;
        }
        let resource = &request.kind.resource;
        if resource.origin == Origin::Review {
            return reviews::answer(api, request);
        }
        match (self.verb.as_str(), request.target.subresource.as_str()) {
            (verb @ ("get" | "update" | "patch"), "scale") => subresources::scale(api, request, verb),
            ("create", "token") => subresources::token(api, request),
            ("create", "binding") => subresources::bind(api, request),
            ("create", "eviction") => subresources::evict(api, request),
            ("get", "" | "status") => verbs::get(api, request),
            ("update", "" | "status" | "finalize") => verbs::update(api, request),
            ("patch", "" | "status") => verbs::patch(api, request),
            ("list", "") => verbs::list(api, request),
            ("watch", "") => verbs::watch(api, request),
            ("create", "") if request.target.name.is_empty() => verbs::create(api, request),
            ("delete", "") => verbs::delete(api, request),
            ("deletecollection", "") => verbs::delete_collection(api, request),
            _ => Err(Status::method_not_allowed(&resource.group, &resource.plural)),
        }
    }
}

/// Bodies are JSON or, for built-in kinds, the binary encoding; patches name their own format.
fn check_media(request: &Request, verb: &str) -> Result<()> {
    let media = request.content_type.split(';').next().unwrap_or_default().trim();
    if request.body.is_empty() || verb == "patch" || matches!(media, "" | "application/json" | wire::MEDIA) {
        return Ok(());
    }
    Err(Status::unsupported_media(format!(
        "the body of the request was in an unknown format ({media}) - accepted media types include: application/json"
    )))
}

/// Answers paths that are no resource.
fn path(api: &Api, route: &Route, form: Form) -> Result<Reply> {
    if !matches!(route.verb.as_str(), "get" | "head") {
        return Err(Status::method_not_allowed("", ""));
    }
    let catalog = api.catalog();
    let decoded = decode(&route.path, false);
    let parts: Vec<&str> = decoded.split('/').filter(|part| !part.is_empty()).collect();
    let found = |value: Option<Value>| value.map(Reply::ok).ok_or_else(Status::no_such_path);
    match parts[..] {
        ["healthz" | "livez" | "readyz", ..] => Ok(Reply::text(200, "ok")),
        ["version"] => Ok(Reply::ok(discovery::version())),
        ["api"] if form == Form::Discovery => Ok(aggregated(discovery::aggregated(&catalog, true))),
        ["apis"] if form == Form::Discovery => Ok(aggregated(discovery::aggregated(&catalog, false))),
        ["api"] => Ok(Reply::ok(discovery::core_versions())),
        ["apis"] => Ok(Reply::ok(discovery::groups(&catalog))),
        ["api", version] => found(discovery::resources(&catalog, "", version)),
        ["apis", group] => found(discovery::one_group(&catalog, group)),
        ["apis", group, version] => found(discovery::resources(&catalog, group, version)),
        ["openapi", "v2"] => {
            let body = Body::Raw(openapi::V2_MEDIA, openapi::empty_v2());
            Ok(Reply { code: 200, body, warnings: Vec::new() })
        }
        ["openapi", "v3"] => Ok(Reply::ok(openapi::index(&catalog))),
        ["openapi", "v3", "api", version] => found(openapi::document(&catalog, "", version)),
        ["openapi", "v3", "apis", group, version] => found(openapi::document(&catalog, group, version)),
        ["openid", "v1", "jwks"] => Ok(Reply::ok(api.signer.jwks())),
        [".well-known", "openid-configuration"] => {
            let issuer = api.signer.issuer();
            Ok(Reply::ok(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"),
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"]})))
        }
        [] => {
            let paths = ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"];
            Ok(Reply::ok(json!({ "paths": paths })))
        }
        _ => Err(Status::no_such_path()),
    }
}

fn aggregated(value: Value) -> Reply {
    Reply { code: 200, body: Body::Typed(discovery::AGGREGATED, value), warnings: Vec::new() }
}

/// The user that a verified certificate names.
pub(crate) fn certificate_user(subject: identity::https::ClientSubject) -> Option<User> {
    let name = subject.common_name.filter(|name| !name.is_empty())?;
    Some(User::authenticated(name, subject.organisations))
}

/// Messages for logs: what was refused, without bodies.
pub(crate) fn log_refusal(head: &Head, status: &Status) {
    if status.code() >= 500 && status.code() != 501 {
        tracing::warn!(verb = head.route.verb, path = head.route.path, error = %status, "a request failed");
    } else {
        tracing::debug!(verb = head.route.verb, path = head.route.path, code = status.code(), error = %status, "a request was refused");
    }
    debug_assert!(status.json().text("/status") == "Failure");
}
