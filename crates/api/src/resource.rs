//! What a type is called on the wire, and how it is read from and written to JSON.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::prune_nulls;
use crate::meta::{ObjectMeta, OwnerReference};
use crate::shaped::Shaped;

/// A kind of object that an API server keeps.
pub trait Resource: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// API group; empty for the core group.
    const GROUP: &'static str;
    /// Version within the group.
    const VERSION: &'static str;
    /// Kind.
    const KIND: &'static str;
    /// Name in paths.
    const PLURAL: &'static str;
    /// Whether objects live in namespaces.
    const NAMESPACED: bool;

    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// The object's metadata, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;

    /// `apiVersion`: `v1`, `apps/v1`.
    fn api_version() -> String {
        if Self::GROUP.is_empty() { Self::VERSION.to_owned() } else { format!("{}/{}", Self::GROUP, Self::VERSION) }
    }

    /// The object's name.
    fn name(&self) -> &str {
        &self.metadata().name
    }

    /// The object's namespace; empty when cluster-scoped.
    fn namespace(&self) -> &str {
        &self.metadata().namespace
    }

    /// Reads an object; `null` members count as absent and unknown ones are ignored.
    fn from_value(mut value: Value) -> Result<Self, ParseError> {
        Self::read(&mut value)
    }

    /// Like [`Self::from_value`], for those who still want the value when it cannot be read.
    fn read(value: &mut Value) -> Result<Self, ParseError> {
        prune_nulls(value);
        serde_path_to_error::deserialize(Shaped(value)).map_err(|error| ParseError {
            kind: Self::KIND,
            name: object_name(value),
            path: error.path().to_string(),
            message: error.inner().to_string(),
        })
    }

    /// The object as JSON with `apiVersion` and `kind` in front.
    fn to_value(&self) -> Value {
        let mut members = serde_json::Map::new();
        members.insert("apiVersion".to_owned(), Self::api_version().into());
        members.insert("kind".to_owned(), Self::KIND.into());
        // INVARIANT: resources are structs with text keys, which JSON can always hold.
        if let Ok(Value::Object(fields)) = serde_json::to_value(self) {
            members.extend(fields);
        }
        Value::Object(members)
    }

    /// A reference that makes this object the controller of another.
    fn controller_reference(&self) -> OwnerReference {
        OwnerReference { controller: true, block_owner_deletion: Some(true), ..self.owner_reference() }
    }

    /// A reference that lets another object be deleted with this one.
    fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::api_version(),
            kind: Self::KIND.to_owned(),
            name: self.metadata().name.clone(),
            uid: self.metadata().uid.clone(),
            ..OwnerReference::default()
        }
    }
}

/// An object that does not have its kind's shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading {kind} {name}: {path}: {message}")]
pub struct ParseError {
    /// Kind that was expected.
    pub kind: &'static str,
    /// `namespace/name` as far as it could be read.
    pub name: String,
    /// Path of the field.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// `apiVersion` and `kind` of an object whose type is not known beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeMeta {
    /// API group; empty for the core group.
    pub group: String,
    /// Version within the group.
    pub version: String,
    /// Kind.
    pub kind: String,
}

/// Reads `apiVersion` and `kind`; `None` when either is missing.
pub fn type_meta(value: &Value) -> Option<TypeMeta> {
    let api_version = value.get("apiVersion")?.as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = value.get("kind")?.as_str()?;
    Some(TypeMeta { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() })
}

/// `namespace/name`, or `name` when there is no namespace, of an object of any shape.
pub fn object_name(value: &Value) -> String {
    let member = |key| value.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
    let name = member("name").or_else(|| member("generateName")).unwrap_or("(unnamed)");
    match member("namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Pod, Service};

    #[test]
    fn an_object_is_read_without_what_is_unknown_and_written_without_what_is_empty() {
        let pod = Pod::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "future": 1,
            "metadata": {"name": "a", "namespace": "b", "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "ports": null}], "volumes": [{"name": "v", "emptyDir": {}}]},
        }))
        .unwrap();
        assert_eq!((pod.namespace(), pod.name()), ("b", "a"));
        assert_eq!(
            pod.to_value(),
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"},
                "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "c"}]},
            })
        );
    }

    #[test]
    fn a_wrong_shape_names_the_object_and_the_field() {
        let error = Service::from_value(json!({
            "metadata": {"name": "a", "namespace": "b"}, "spec": {"ports": [{"port": "http"}]},
        }))
        .unwrap_err();
        assert!(error.to_string().starts_with("reading Service b/a: spec.ports[0].port: invalid type"), "{error}");
    }
}
