//! The RBAC decision: an action is allowed when some binding of the caller leads to a role with a rule that covers it.

use crate::authn::User;
use crate::object::Object;
use crate::request::route::Route;
use crate::store::{Key, Store};
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// A path that is no resource; everything else is empty then.
    pub(crate) path: String,
}

impl Action {
    /// The action of a request.
    pub(crate) fn of(route: &Route) -> Self {
        match &route.resource {
            None => Self { verb: route.verb.clone(), path: route.path.clone(), ..Self::default() },
            Some(target) => Self {
                verb: route.verb.clone(),
                group: target.group.clone(),
                resource: target.plural.clone(),
                subresource: target.subresource.split('/').next().unwrap_or_default().to_owned(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                path: String::new(),
            },
        }
    }

    /// The resource as rules name it.
    pub(crate) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The sentence a refused caller reads.
    pub(crate) fn refusal(&self, user: &User) -> String {
        let who = &user.name;
        if !self.path.is_empty() {
            return format!("User \"{who}\" cannot {} path \"{}\"", self.verb, self.path);
        }
        let scope = if self.namespace.is_empty() || self.resource == "namespaces" {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        format!(
            "User \"{who}\" cannot {} resource \"{}\" in API group \"{}\" {scope}",
            self.verb,
            self.full_resource(),
            self.group
        )
    }

    fn covered_by(&self, rule: &Value) -> bool {
        if !covers(rule.list("/verbs"), &self.verb) {
            return false;
        }
        if !self.path.is_empty() {
            return rule.list("/nonResourceURLs").iter().filter_map(Value::as_str).any(|url| {
                url == self.path || url.strip_suffix('*').is_some_and(|prefix| self.path.starts_with(prefix))
            });
        }
        let names = rule.list("/resourceNames");
        covers(rule.list("/apiGroups"), &self.group)
            && rule.list("/resources").iter().filter_map(Value::as_str).any(|resource| self.names(resource))
            && (names.is_empty() || names.iter().any(|name| *name == self.name.as_str()))
    }

    fn names(&self, resource: &str) -> bool {
        resource == "*"
            || resource == self.full_resource()
            || resource.strip_prefix("*/").is_some_and(|subresource| subresource == self.subresource)
    }
}

fn covers(list: &[Value], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

/// Whether a caller may do this.
pub(crate) fn allowed(store: &Store, user: &User, action: &Action) -> bool {
    if user.is_master() {
        return true;
    }
    let mut found = false;
    each_rule(store, user, &action.namespace, |rule| {
        found = action.covered_by(rule);
        found
    });
    found
}

/// Every rule that applies to a caller in a namespace.
pub(crate) fn rules_for(store: &Store, user: &User, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    each_rule(store, user, namespace, |rule| {
        rules.push(rule.clone());
        false
    });
    rules
}

fn each_rule(store: &Store, user: &User, namespace: &str, mut visit: impl FnMut(&Value) -> bool) {
    let kind = |plural: &str| -> Arc<str> { format!("{GROUP}/{plural}").into() };
    let (everywhere, _) = store.list(&kind("clusterrolebindings"), None);
    let here = if namespace.is_empty() { Vec::new() } else { store.list(&kind("rolebindings"), Some(namespace)).0 };
    for binding in everywhere.iter().chain(&here) {
        if !binding.list("/subjects").iter().any(|subject| is_subject(user, subject, binding.namespace())) {
            continue;
        }
        let name = binding.text("/roleRef/name");
        let key = match binding.text("/roleRef/kind") {
            "Role" => Key::new(&kind("roles"), binding.namespace(), name),
            _ => Key::new(&kind("clusterroles"), "", name),
        };
        let Some(role) = store.get(&key) else { continue };
        if role_rules(store, &role).iter().any(&mut visit) {
            return;
        }
    }
}

/// The rules of a role, with those it gathers.
pub(super) fn role_rules(store: &Store, role: &Value) -> Vec<Value> {
    let mut rules = role.list("/rules").to_vec();
    if role.pointer("/aggregationRule").is_some() {
        rules.extend(aggregated(store, role));
    }
    rules
}

/// The rules of the cluster roles that an aggregating role selects.
fn aggregated(store: &Store, role: &Value) -> Vec<Value> {
    let (roles, _) = store.list(&format!("{GROUP}/clusterroles").into(), None);
    let selected = |candidate: &Value| {
        role.list("/aggregationRule/clusterRoleSelectors").iter().any(|selector| {
            selector.get("matchLabels").and_then(Value::as_object).is_some_and(|labels| {
                let own = candidate.pointer("/metadata/labels");
                !labels.is_empty() && labels.iter().all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
            })
        })
    };
    roles
        .iter()
        .filter(|candidate| candidate.name() != role.name() && selected(candidate))
        .flat_map(|candidate| candidate.list("/rules").to_vec())
        .collect()
}

fn is_subject(user: &User, subject: &Value, binding_namespace: &str) -> bool {
    let name = subject.text("/name");
    match subject.text("/kind") {
        "User" => user.name == name,
        "Group" => user.groups.iter().any(|group| group == name),
        "ServiceAccount" => {
            let namespace = match subject.text("/namespace") {
                "" => binding_namespace,
                namespace => namespace,
            };
            user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
                == Some((namespace, name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn action(verb: &str, group: &str, resource: &str, subresource: &str, name: &str) -> Action {
        Action {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Action::default()
        }
    }

    #[rstest]
    #[case(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), action("get", "", "pods", "", ""), true)]
    #[case(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), action("get", "", "pods", "log", "a"), false)]
    #[case(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}), action("get", "", "pods", "log", "a"), true)]
    #[case(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), action("patch", "apps", "deployments", "scale", "a"), true)]
    #[case(json!({"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/status"]}), action("update", "apps", "deployments", "status", "a"), true)]
    #[case(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}), action("get", "", "secrets", "", "a"), true)]
    #[case(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}), action("get", "", "secrets", "", "b"), false)]
    #[case(json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods"]}), action("get", "", "pods", "", ""), false)]
    fn a_rule_covers_exactly_what_it_names(#[case] rule: Value, #[case] action: Action, #[case] expected: bool) {
        assert_eq!(action.covered_by(&rule), expected);
    }

    #[test]
    fn bindings_lead_to_roles_in_their_namespace_only() {
        let (store, _inbox) = Store::open(None).unwrap();
        let put = |plural: &str, namespace: &str, name: &str, mut value: Value| {
            value["metadata"] = json!({"namespace": namespace, "name": name});
            let key = Key::new(&format!("{GROUP}/{plural}").into(), namespace, name);
            store.write(false, |transaction| Ok(transaction.put(key, value))).unwrap();
        };
        put("roles", "a", "reader", json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}));
        let subjects = json!([{"kind": "ServiceAccount", "name": "sa"}]);
        put("rolebindings", "a", "b", json!({"roleRef": {"kind": "Role", "name": "reader"}, "subjects": subjects}));
        let user = User::authenticated("system:serviceaccount:a:sa", []);
        let mut wanted = action("get", "", "pods", "", "x");
        wanted.namespace = "a".into();
        assert!(allowed(&store, &user, &wanted));
        wanted.namespace = "b".into();
        assert!(!allowed(&store, &user, &wanted));
        assert_eq!(
            wanted.refusal(&user),
            "User \"system:serviceaccount:a:sa\" cannot get resource \"pods\" in API group \"\" in the namespace \"b\""
        );
    }
}
