//! Questions about who somebody is and what they may do.

use crate::api::Api;
use crate::authn::{self, User};
use crate::authz::{self, Action};
use crate::object::Object;
use crate::status::{Cause, Result, Status};
use crate::verbs::{Reply, Request};
use serde_json::{Value, json};

/// Answers a review.
pub(crate) fn answer(api: &Api, request: &Request) -> Result<Reply> {
    let mut body = request.json()?;
    if !body.is_object() {
        return Err(Status::bad_request("a review must be an object"));
    }
    let status = match request.kind.resource.plural.as_str() {
        "selfsubjectreviews" => json!({"userInfo": request.caller.json()}),
        "tokenreviews" => token(api, &body),
        "selfsubjectaccessreviews" => verdict(api, &request.caller, &action(&body)?),
        "subjectaccessreviews" => verdict(api, &subject(&body)?, &action(&body)?),
        "localsubjectaccessreviews" => {
            let action = action(&body)?;
            if action.namespace != request.target.namespace {
                let cause = Cause::invalid(
                    "spec.resourceAttributes.namespace",
                    &action.namespace.into(),
                    "must match metadata.namespace",
                );
                return Err(Status::invalid("authorization.k8s.io", "LocalSubjectAccessReview", "", &[cause]));
            }
            verdict(api, &subject(&body)?, &action)
        }
        "selfsubjectrulesreviews" => rules(api, &request.caller, body.text("/spec/namespace")),
        _ => return Err(Status::no_such_path()),
    };
    body["kind"] = request.kind.resource.kind.clone().into();
    body["apiVersion"] = request.kind.api_version().into();
    body["status"] = status;
    if body.get("metadata").is_none() {
        body["metadata"] = json!({"creationTimestamp": null});
    }
    Ok(Reply::with(201, body))
}

fn token(api: &Api, body: &Value) -> Value {
    let mut audiences: Vec<String> =
        body.list("/spec/audiences").iter().filter_map(|audience| Some(audience.as_str()?.to_owned())).collect();
    if audiences.is_empty() {
        audiences = api.audiences();
    }
    let now = jiff::Timestamp::now().as_second();
    let verified = api.signer.verify(body.text("/spec/token"), &audiences, now);
    match verified.and_then(|claims| Ok((authn::token_user(&claims, &api.store)?, claims))) {
        Ok((user, claims)) => {
            let shared: Vec<&String> = claims.aud.iter().filter(|audience| audiences.contains(audience)).collect();
            json!({"authenticated": true, "user": user.json(), "audiences": shared})
        }
        Err(error) => json!({"authenticated": false, "user": {}, "error": error.to_string()}),
    }
}

fn subject(body: &Value) -> Result<User> {
    let groups: Vec<String> =
        body.list("/spec/groups").iter().filter_map(|group| Some(group.as_str()?.to_owned())).collect();
    let name = body.text("/spec/user").to_owned();
    if name.is_empty() && groups.is_empty() {
        let cause = Cause::required("spec.user", "at least one of user or group must be specified");
        return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &[cause]));
    }
    Ok(User { name, groups, ..User::default() })
}

fn action(body: &Value) -> Result<Action> {
    if let Some(resource) = body.pointer("/spec/resourceAttributes").filter(|resource| resource.is_object()) {
        let text = |field: &str| resource.text(field).to_owned();
        return Ok(Action {
            verb: text("/verb"),
            group: text("/group"),
            resource: text("/resource"),
            subresource: text("/subresource"),
            namespace: text("/namespace"),
            name: text("/name"),
            path: String::new(),
        });
    }
    match body.pointer("/spec/nonResourceAttributes").filter(|path| path.is_object()) {
        Some(path) => {
            Ok(Action { verb: path.text("/verb").into(), path: path.text("/path").into(), ..Action::default() })
        }
        None => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let cause = Cause::invalid("spec.resourceAttributes", &Value::Null, detail);
            Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &[cause]))
        }
    }
}

fn verdict(api: &Api, user: &User, action: &Action) -> Value {
    if authz::allowed(&api.store, user, action) {
        json!({"allowed": true})
    } else {
        json!({"allowed": false, "reason": action.refusal(user)})
    }
}

fn rules(api: &Api, user: &User, namespace: &str) -> Value {
    let all = if user.is_master() {
        vec![
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
            json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
        ]
    } else {
        authz::rules_for(&api.store, user, namespace)
    };
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|rule| !rule.list("/nonResourceURLs").is_empty());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
