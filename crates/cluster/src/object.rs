//! Reading and writing objects.

use api::{ParseError, Resource};
use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, JSON, write_path};
use crate::error::{Error, Result};
use crate::path::{self, Scope, with_query};

/// A change to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386: members replace members, `null` removes.
    Merge(Value),
    /// RFC 6902: a list of operations.
    Json(Value),
    /// Kubernetes' own merge, which knows the keys of lists; for built-in kinds only.
    Strategic(Value),
    /// Server-side apply: the fields that this manager wants, and no others of its.
    Apply {
        /// The fields; `apiVersion`, `kind` and the name are added when missing.
        fields: Value,
        /// Who wants them.
        manager: String,
        /// Whether to take fields over from other managers.
        force: bool,
    },
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds until the object goes; `None` is the kind's default.
    pub grace_period_seconds: Option<i64>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only this version of the object.
    pub resource_version: Option<String>,
    /// `Foreground`, `Background` or `Orphan`; `None` is the kind's default.
    pub propagation_policy: Option<&'static str>,
}

impl DeleteOptions {
    /// At once, without grace.
    pub fn immediately() -> Self {
        Self { grace_period_seconds: Some(0), ..Self::default() }
    }

    /// Only if it is still this object.
    #[must_use]
    pub fn of<T: Resource>(mut self, object: &T) -> Self {
        self.uid = Some(object.metadata().uid.clone());
        self
    }

    fn body(&self) -> Value {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation_policy {
            body["propagationPolicy"] = policy.into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}

impl Client {
    /// Reads one object.
    pub async fn get<T: Resource>(&self, namespace: &str, name: &str) -> Result<T> {
        self.request_object(
            named::<T>("read", namespace, name),
            Method::GET,
            path::object::<T>(namespace, name, ""),
            None,
        )
        .await
    }

    /// Reads one object, `None` when there is none.
    pub async fn find<T: Resource>(&self, namespace: &str, name: &str) -> Result<Option<T>> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all objects of a scope. One that does not have its kind's shape is logged and left out.
    pub async fn list<T: Resource>(&self, scope: &Scope) -> Result<Vec<T>> {
        let (objects, rejected) = self.list_with_rejected(scope).await?;
        for error in rejected {
            tracing::warn!(%error, "object left out");
        }
        Ok(objects)
    }

    /// Reads all objects of a scope, and what is wrong with those that do not have their kind's shape.
    pub async fn list_with_rejected<T: Resource>(&self, scope: &Scope) -> Result<(Vec<T>, Vec<ParseError>)> {
        let collection = path::collection::<T>(scope.namespace.as_deref().unwrap_or_default());
        let (mut objects, mut rejected) = (Vec::new(), Vec::new());
        let mut query = scope.query();
        query.push(("limit", "500".to_owned()));
        loop {
            let path = with_query(collection.clone(), &query);
            let mut list = self.request(format!("list {}", T::PLURAL), Method::GET, path, None).await?;
            if let Value::Array(items) = list["items"].take() {
                for item in items {
                    match T::from_value(item) {
                        Ok(object) => objects.push(object),
                        Err(error) => rejected.push(error),
                    }
                }
            }
            let Some(token) = list["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) else {
                return Ok((objects, rejected));
            };
            query.retain(|(key, _)| *key != "continue");
            query.push(("continue", token.to_owned()));
        }
    }

    /// Creates an object; the answer has what the server added.
    pub async fn create<T: Resource>(&self, object: &T) -> Result<T> {
        let action = named::<T>("create", object.namespace(), object.name());
        let path = write_path(path::collection::<T>(object.namespace()), &[]);
        self.request_object(action, Method::POST, path, Some((JSON, object.to_value()))).await
    }

    /// Replaces an object that we own whole; with a `resourceVersion` only when nobody changed it in between.
    pub async fn replace<T: Resource>(&self, object: &T) -> Result<T> {
        let (namespace, name) = (object.namespace(), object.name());
        let path = path::object::<T>(namespace, name, "");
        self.request_object(named::<T>("replace", namespace, name), Method::PUT, path, Some((JSON, object.to_value())))
            .await
    }

    /// Changes an object.
    pub async fn patch<T: Resource>(&self, namespace: &str, name: &str, patch: Patch) -> Result<T> {
        self.patch_subresource(namespace, name, "", patch).await
    }

    /// Changes an object's status.
    pub async fn patch_status<T: Resource>(&self, namespace: &str, name: &str, patch: Patch) -> Result<T> {
        self.patch_subresource(namespace, name, "status", patch).await
    }

    /// Changes a subresource of an object.
    pub async fn patch_subresource<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: Patch,
    ) -> Result<T> {
        let path = path::object::<T>(namespace, name, subresource);
        let (media_type, body, query) = encode::<T>(namespace, name, patch);
        let action = named::<T>("change", namespace, name);
        self.request_object(action, Method::PATCH, with_query(path, &query), Some((media_type, body))).await
    }

    /// Server-side apply of everything that the object says, in the name of `manager`, taking over what others manage.
    pub async fn apply<T: Resource>(&self, object: &T, manager: &str) -> Result<T> {
        let fields = object.to_value();
        let patch = Patch::Apply { fields, manager: manager.to_owned(), force: true };
        self.patch(object.namespace(), object.name(), patch).await
    }

    /// Server-side apply of a status.
    pub async fn apply_status<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
        status: Value,
        manager: &str,
    ) -> Result<T> {
        let patch = Patch::Apply { fields: json!({"status": status}), manager: manager.to_owned(), force: true };
        self.patch_status(namespace, name, patch).await
    }

    /// Like [`Self::apply_status`], for an object that may not have its kind's shape.
    pub async fn say_status<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
        status: Value,
        manager: &str,
    ) -> Result<()> {
        let patch = Patch::Apply { fields: json!({"status": status}), manager: manager.to_owned(), force: true };
        let (media_type, body, query) = encode::<T>(namespace, name, patch);
        let path = with_query(path::object::<T>(namespace, name, "status"), &query);
        self.request(named::<T>("change", namespace, name), Method::PATCH, path, Some((media_type, body))).await?;
        Ok(())
    }

    /// Deletes an object; `false` when there was none.
    pub async fn delete<T: Resource>(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<bool> {
        let path = path::object::<T>(namespace, name, "");
        let action = named::<T>("delete", namespace, name);
        match self.request(action, Method::DELETE, path, Some((JSON, options.body()))).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a pod its node, as a scheduler does.
    pub async fn bind(&self, namespace: &str, pod: &str, node: &str) -> Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = path::object::<api::Pod>(namespace, pod, "binding");
        self.request(named::<api::Pod>("bind", namespace, pod), Method::POST, path, Some((JSON, binding))).await?;
        Ok(())
    }
}

/// `read Pod shop/cart`.
pub(crate) fn named<T: Resource>(verb: &str, namespace: &str, name: &str) -> String {
    match namespace {
        "" => format!("{verb} {} {name}", T::KIND),
        _ => format!("{verb} {} {namespace}/{name}", T::KIND),
    }
}

/// Media type, body and query of a patch.
fn encode<T: Resource>(
    namespace: &str,
    name: &str,
    patch: Patch,
) -> (&'static str, Value, Vec<(&'static str, String)>) {
    match patch {
        Patch::Merge(value) => ("application/merge-patch+json", value, Vec::new()),
        Patch::Json(value) => ("application/json-patch+json", value, Vec::new()),
        Patch::Strategic(value) => ("application/strategic-merge-patch+json", value, Vec::new()),
        Patch::Apply { fields, manager, force } => {
            let mut body = json!({"apiVersion": T::api_version(), "kind": T::KIND, "metadata": {"name": name}});
            if T::NAMESPACED {
                body["metadata"]["namespace"] = namespace.into();
            }
            merge(&mut body, fields);
            (APPLY, body, apply_query(&manager, force))
        }
    }
}

/// Media type of server-side apply; JSON is YAML.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// Query of server-side apply.
pub(crate) fn apply_query(manager: &str, force: bool) -> Vec<(&'static str, String)> {
    vec![("fieldManager", manager.to_owned()), ("force", force.to_string())]
}

/// Lays `over` over `under`, object by object.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

impl Error {
    /// Whether a read-modify-write is worth repeating.
    pub fn is_retryable(&self) -> bool {
        self.is_conflict() || self.is_unreachable() || matches!(self, Self::Refused { code: 429 | 500..=599, .. })
    }
}

#[cfg(test)]
mod tests {
    use api::{Namespace, Pod};

    use super::*;

    #[test]
    fn an_apply_names_the_object_by_itself() {
        let patch = Patch::Apply { fields: json!({"status": {"phase": "Running"}}), manager: "m".into(), force: true };
        let (media_type, body, query) = encode::<Pod>("a", "b", patch);
        assert_eq!(media_type, "application/apply-patch+yaml");
        assert_eq!(
            body,
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "namespace": "a"},
                "status": {"phase": "Running"},
            })
        );
        assert_eq!(query, [("fieldManager", "m".to_owned()), ("force", "true".to_owned())]);
        let patch =
            Patch::Apply { fields: json!({"metadata": {"labels": {"c": "d"}}}), manager: "m".into(), force: false };
        assert_eq!(encode::<Namespace>("", "b", patch).1["metadata"], json!({"name": "b", "labels": {"c": "d"}}));
    }

    #[test]
    fn a_delete_says_only_what_is_asked() {
        assert_eq!(DeleteOptions::default().body(), json!({"apiVersion": "v1", "kind": "DeleteOptions"}));
        let mut pod = Pod::default();
        pod.metadata.uid = "u".into();
        let body = DeleteOptions::immediately().of(&pod).body();
        assert_eq!((&body["gracePeriodSeconds"], &body["preconditions"]), (&json!(0), &json!({"uid": "u"})));
    }
}
