//! Our own kinds, described to an API server: CustomResourceDefinitions for istio.io and Gateway API.
//!
//! [`KINDS`] is the table of names, versions and columns. The schemas of AuthorizationPolicy, PeerAuthentication,
//! ServiceEntry, WorkloadEntry, WorkloadGroup, GatewayClass and Gateway are derived from our types, in the structural form
//! that Kubernetes asks for; those of all other kinds say only "an object" and keep what was written ([`Schema::AsWritten`]).

mod kind;
mod kinds;
mod schema;

use serde_json::{Value, json};

pub use kind::{Column, Kind, Schema, Version};
pub use kinds::KINDS;

/// Every istio.io and Gateway API kind that we know, as CustomResourceDefinitions.
pub fn crds() -> Vec<Value> {
    KINDS.iter().map(definition).collect()
}

/// The definition of one kind.
pub fn definition(kind: &Kind) -> Value {
    let versions: Vec<_> = kind.versions.iter().map(|version| version_definition(kind, version)).collect();
    let mut names = json!({
        "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural, "singular": kind.kind.to_lowercase(),
        "categories": kind.categories(),
    });
    if !kind.short_name.is_empty() {
        names["shortNames"] = json!([kind.short_name]);
    }
    let mut metadata = json!({"name": format!("{}.{}", kind.plural, kind.group)});
    let annotations = kind.annotations();
    if !annotations.is_empty() {
        metadata["annotations"] =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata,
        "spec": {
            "group": kind.group, "names": names, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "versions": versions,
        },
    })
}

fn version_definition(kind: &Kind, version: &Version) -> Value {
    let columns: Vec<_> = kind
        .columns
        .iter()
        .map(|column| {
            let mut definition = json!({"name": column.name, "type": column.type_, "jsonPath": column.path});
            if column.priority > 0 {
                definition["priority"] = column.priority.into();
            }
            definition
        })
        .collect();
    let mut definition = json!({
        "name": version.name, "served": version.served, "storage": version.storage,
        "schema": {"openAPIV3Schema": schema::of(kind)},
    });
    if !columns.is_empty() {
        definition["additionalPrinterColumns"] = columns.into();
    }
    if kind.has_status {
        definition["subresources"] = json!({"status": {}});
    }
    if version.deprecated {
        definition["deprecated"] = true.into();
    }
    definition
}

#[cfg(test)]
mod tests;
