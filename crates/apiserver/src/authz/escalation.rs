//! Nobody gives away more than they have: rules in a role, and the role of a binding, must be covered by the caller's own rights.

use super::rbac::{Action, allowed};
use crate::authn::User;
use crate::object::Object;
use crate::store::{Key, Store};
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The first right that a role or binding would give and its author does not have, said as a sentence.
pub(crate) fn check(store: &Store, user: &User, namespace: &str, object: &Value) -> Option<String> {
    if user.is_master() {
        return None;
    }
    let binding = object.text("/kind").ends_with("Binding");
    let (verb, resource, name) = if binding {
        let resource = if object.text("/roleRef/kind") == "Role" { "roles" } else { "clusterroles" };
        ("bind", resource, object.text("/roleRef/name"))
    } else {
        let resource = if object.text("/kind") == "Role" { "roles" } else { "clusterroles" };
        ("escalate", resource, object.name())
    };
    let exempt = Action {
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Action::default()
    };
    if allowed(store, user, &exempt) {
        return None;
    }
    let rules = if binding {
        let home = if resource == "roles" { namespace } else { "" };
        let role = store.get(&Key::new(&format!("{GROUP}/{resource}").into(), home, name));
        match role {
            // What a role that does not exist yet will allow is not known, so it may not be given.
            None => return Some(format!("{resource}.{GROUP} \"{name}\" not found")),
            Some(role) => super::rbac::role_rules(store, &role),
        }
    } else {
        object.list("/rules").to_vec()
    };
    rules.iter().flat_map(|rule| actions(rule, namespace)).find(|action| !allowed(store, user, action)).map(|action| {
        format!(
            "user \"{}\" is attempting to grant RBAC permissions not currently held: {}",
            user.name,
            action.refusal(user)
        )
    })
}

/// Every single right that a rule gives.
fn actions(rule: &Value, namespace: &str) -> Vec<Action> {
    let texts = |field: &str| -> Vec<String> {
        rule.list(field).iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
    };
    let names = match texts("/resourceNames") {
        names if names.is_empty() => vec![String::new()],
        names => names,
    };
    let mut actions = Vec::new();
    for verb in texts("/verbs") {
        for path in texts("/nonResourceURLs") {
            actions.push(Action { verb: verb.clone(), path, ..Action::default() });
        }
        for group in texts("/apiGroups") {
            for full in texts("/resources") {
                let (resource, subresource) = full.split_once('/').unwrap_or((&full, ""));
                for name in &names {
                    actions.push(Action {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.to_owned(),
                        subresource: subresource.to_owned(),
                        namespace: namespace.to_owned(),
                        name: name.clone(),
                        path: String::new(),
                    });
                }
            }
        }
    }
    actions
}
