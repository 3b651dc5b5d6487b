//! Applying manifests: objects of any kind, in an order in which they can exist.

use std::collections::HashMap;
use std::time::Duration;

use api::{TypeMeta, object_name, type_meta};
use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::object::{APPLY, apply_query};
use crate::path::{collection_of, group_version, with_query};

/// How long a new kind may take until it is served.
const ESTABLISH: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What became of one object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Kind.
    pub kind: String,
    /// `namespace/name`, or the name alone.
    pub name: String,
}

/// Where a kind's objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    plural: String,
    namespaced: bool,
}

impl Client {
    /// Server-side applies objects in the name of `manager`: namespaces and kinds first, and each kind is waited for until it is served.
    ///
    /// `namespace` is where namespaced objects without one go. Stops at the first that is refused.
    pub async fn apply_manifests(&self, objects: Vec<Value>, manager: &str, namespace: &str) -> Result<Vec<Applied>> {
        let mut places = HashMap::new();
        let mut applied = Vec::new();
        for object in in_order(flatten(objects)) {
            applied.push(self.apply_manifest(object, manager, namespace, &mut places).await?);
        }
        Ok(applied)
    }

    /// Server-side applies one object of any kind.
    pub async fn apply_value(&self, object: Value, manager: &str) -> Result<Applied> {
        self.apply_manifest(object, manager, "default", &mut HashMap::new()).await
    }

    async fn apply_manifest(
        &self,
        mut object: Value,
        manager: &str,
        namespace: &str,
        places: &mut HashMap<TypeMeta, Place>,
    ) -> Result<Applied> {
        let name = object_name(&object);
        let wrong = |message: &str| Error::Manifest { object: name.clone(), message: message.to_owned() };
        let kind = type_meta(&object).ok_or_else(|| wrong("apiVersion and kind must say what it is"))?;
        let Some(plain_name) = object["metadata"]["name"].as_str().map(str::to_owned) else {
            return Err(wrong("metadata.name is missing"));
        };
        let place = match places.get(&kind) {
            Some(place) => place.clone(),
            None => places.entry(kind.clone()).or_insert(self.place(&kind, &name).await?).clone(),
        };
        if place.namespaced && object["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
            object["metadata"]["namespace"] = namespace.into();
        }
        let namespace =
            if place.namespaced { object["metadata"]["namespace"].as_str().unwrap_or_default() } else { "" };
        let path = format!("{}/{plain_name}", collection_of(&kind.group, &kind.version, &place.plural, namespace));
        let applied = Applied { kind: kind.kind.clone(), name: object_name(&object) };
        let action = format!("apply {} {}", applied.kind, applied.name);
        let path = with_query(path, &apply_query(manager, true));
        self.request(action, Method::PATCH, path, Some((APPLY, object.clone()))).await?;
        if kind.kind == "CustomResourceDefinition" {
            self.established(&object).await?;
        }
        Ok(applied)
    }

    /// Asks the server where a kind's objects are.
    async fn place(&self, kind: &TypeMeta, name: &str) -> Result<Place> {
        let unknown = || Error::Manifest {
            object: format!("{} {name}", kind.kind),
            message: format!(
                "the server does not know this kind in {}; apply its CustomResourceDefinition first",
                version_text(kind)
            ),
        };
        let action = format!("ask what {} is", version_text(kind));
        match self.request(action, Method::GET, group_version(&kind.group, &kind.version), None).await {
            Ok(list) => find_place(&list, &kind.kind).ok_or_else(unknown),
            Err(error) if error.is_not_found() => Err(unknown()),
            Err(error) => Err(error),
        }
    }

    /// Waits until a new kind is served in all its served versions.
    async fn established(&self, definition: &Value) -> Result<()> {
        let deadline = Instant::now() + ESTABLISH;
        let spec = &definition["spec"];
        let (group, kind) =
            (spec["group"].as_str().unwrap_or_default(), spec["names"]["kind"].as_str().unwrap_or_default());
        let versions = spec["versions"].as_array().into_iter().flatten();
        for version in
            versions.filter(|version| version["served"] == true).filter_map(|version| version["name"].as_str())
        {
            loop {
                let kind = TypeMeta { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() };
                match self.place(&kind, "").await {
                    Ok(_) => break,
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        }
        Ok(())
    }
}

fn version_text(kind: &TypeMeta) -> String {
    if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) }
}

fn find_place(list: &Value, kind: &str) -> Option<Place> {
    let resources = list["resources"].as_array()?;
    let found = resources.iter().find(|resource| {
        resource["kind"] == kind && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
    })?;
    Some(Place {
        plural: found["name"].as_str()?.to_owned(),
        namespaced: found["namespaced"].as_bool().unwrap_or(false),
    })
}

/// Lists give their items.
fn flatten(objects: Vec<Value>) -> Vec<Value> {
    objects
        .into_iter()
        .flat_map(|mut object| match object["items"].take() {
            Value::Array(items) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items,
            Value::Null => {
                if let Some(members) = object.as_object_mut() {
                    members.remove("items");
                }
                vec![object]
            }
            items => {
                object["items"] = items;
                vec![object]
            }
        })
        .collect()
}

/// Namespaces, then kinds, then accounts and rights, then configuration, then the rest; within each as written.
fn in_order(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" | "ClusterRole" | "Role" | "ClusterRoleBinding" | "RoleBinding" => 2,
        "ConfigMap" | "Secret" => 3,
        "Service" => 4,
        _ => 5,
    });
    objects
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_need_comes_first() {
        let kinds = ["Deployment", "ServiceAccount", "CustomResourceDefinition", "ConfigMap", "Namespace", "Pod"];
        let objects = kinds.map(|kind| json!({"kind": kind})).to_vec();
        let ordered: Vec<_> =
            in_order(objects).iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(
            ordered,
            ["Namespace", "CustomResourceDefinition", "ServiceAccount", "ConfigMap", "Deployment", "Pod"]
        );
    }

    #[test]
    fn a_list_is_its_items() {
        let list = json!({"kind": "List", "items": [{"kind": "Pod"}, {"kind": "Service"}]});
        assert_eq!(flatten(vec![list, json!({"kind": "Pod"})]).len(), 3);
    }

    #[test]
    fn a_kind_is_found_past_its_subresources() {
        let list = json!({"resources": [
            {"name": "pods/status", "kind": "Pod", "namespaced": true}, {"name": "pods", "kind": "Pod", "namespaced": true},
        ]});
        assert_eq!(find_place(&list, "Pod"), Some(Place { plural: "pods".into(), namespaced: true }));
        assert_eq!(find_place(&list, "Node"), None);
    }
}
