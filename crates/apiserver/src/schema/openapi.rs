//! OpenAPI v3 documents, one per group and version: what `kubectl apply` and `kubectl explain` read.

use super::{Form, List, Schema, builtin};
use crate::catalog::{Catalog, Kind, group_version};
use serde_json::{Map, Value, json};

/// The media type of [`empty_v2`].
pub(crate) const V2_MEDIA: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v2` in its binary form, with nothing in it: clients that fall back to it then leave validation to the server.
pub(crate) fn empty_v2() -> Vec<u8> {
    let text = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap_or_default();
        [&[number << 3 | 2, length], content].concat()
    };
    let info = [text(1, b"Kubernetes"), text(2, b"v1.34.0")].concat();
    [text(1, b"2.0"), text(2, &info), text(8, b"")].concat()
}

/// `/openapi/v3`: where the documents are.
pub(crate) fn index(catalog: &Catalog) -> Value {
    let mut paths = Map::new();
    for (group, versions) in catalog.groups() {
        for version in versions {
            let place = match group.as_str() {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            };
            paths.insert(place.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{place}")}));
        }
    }
    json!({ "paths": paths })
}

/// The document of a group and version.
pub(crate) fn document(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<Kind> = catalog
        .resources()
        .filter(|resource| resource.group == group)
        .filter_map(|resource| catalog.find(group, version, &resource.plural))
        .collect();
    if kinds.is_empty() {
        return None;
    }
    let mut writer = Writer::default();
    let mut paths = Map::new();
    for kind in &kinds {
        writer.kind(kind);
        operations(kind, &mut paths);
    }
    let title = json!({"title": "Kubernetes", "version": "v1.34.0"});
    Some(json!({"openapi": "3.0.0", "info": title, "paths": paths, "components": {"schemas": writer.schemas}}))
}

/// The full name of a block of the table of types.
fn full_name(name: &str) -> String {
    match name.split('.').next() {
        Some("meta") => format!("io.k8s.apimachinery.pkg.apis.{name}"),
        Some("apiextensions") => format!("io.k8s.apiextensions-apiserver.pkg.apis.{name}"),
        _ => format!("io.k8s.api.{name}"),
    }
}

fn component(kind: &Kind) -> String {
    match &kind.schema().name {
        Some(name) => full_name(name),
        None => {
            let mut parts: Vec<&str> = kind.resource.group.split('.').rev().collect();
            parts.extend([kind.version().name.as_str(), kind.resource.kind.as_str()]);
            parts.join(".")
        }
    }
}

fn gvk(kind: &Kind) -> Value {
    json!({"group": kind.resource.group, "version": kind.version().name, "kind": kind.resource.kind})
}

fn operations(kind: &Kind, paths: &mut Map<String, Value>) {
    let base = match kind.resource.group.as_str() {
        "" => format!("/api/{}", kind.version().name),
        _ => format!("/apis/{}", group_version(&kind.resource.group, &kind.version().name)),
    };
    let scope = if kind.resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let list = format!("{base}{scope}/{}", kind.resource.plural);
    let name = component(kind);
    let reference = json!({"$ref": format!("#/components/schemas/{name}")});
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    let answer = json!({"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}});
    let operation = |action: &str, media: &[&str]| {
        let content: Map<String, Value> =
            media.iter().map(|media| ((*media).to_owned(), json!({"schema": reference}))).collect();
        let mut operation = json!({"parameters": parameters, "responses": answer,
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(kind)});
        if !content.is_empty() {
            operation["requestBody"] = json!({"content": content, "required": true});
        }
        operation
    };
    let mut patches =
        vec!["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
    if !kind.is_custom() {
        patches.push("application/strategic-merge-patch+json");
    }
    paths
        .insert(list.clone(), json!({"get": operation("list", &[]), "post": operation("post", &["application/json"])}));
    if kind.resource.verbs().contains(&"patch") {
        paths.insert(
            format!("{list}/{{name}}"),
            json!({"get": operation("get", &[]), "put": operation("put", &["application/json"]),
                "patch": operation("patch", &patches), "delete": operation("delete", &[])}),
        );
    }
}

#[derive(Default)]
struct Writer {
    schemas: Map<String, Value>,
}

impl Writer {
    fn kind(&mut self, kind: &Kind) {
        let name = component(kind);
        let mut value = self.body(kind.schema());
        if kind.is_custom() || kind.schema().properties.is_empty() {
            for field in ["apiVersion", "kind"] {
                value["properties"][field] = json!({"type": "string"});
            }
            value["properties"]["metadata"] = match builtin::types().get("meta.v1.ObjectMeta") {
                Some(metadata) => self.write(metadata),
                None => json!({"type": "object"}),
            };
        }
        value["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
        self.schemas.insert(name, value);
    }

    fn write(&mut self, schema: &Schema) -> Value {
        let Some(name) = schema.name.as_deref().map(full_name) else { return self.body(schema) };
        if !self.schemas.contains_key(&name) {
            // A place first: what refers to it must not write it again.
            self.schemas.insert(name.clone(), Value::Null);
            let body = self.body(schema);
            self.schemas.insert(name.clone(), body);
        }
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        match &schema.default {
            Some(default) => json!({"allOf": [reference], "default": default}),
            None => reference,
        }
    }

    fn body(&mut self, schema: &Schema) -> Value {
        let mut out = json!({});
        if let Some(form) = form(schema.form) {
            out["type"] = form.into();
        }
        if schema.form == Form::IntOrString {
            out["x-kubernetes-int-or-string"] = true.into();
        }
        let texts = [("format", &schema.format), ("description", &schema.description)];
        for (field, text) in texts {
            if let Some(text) = text {
                out[field] = text.clone().into();
            }
        }
        for (name, field) in &schema.properties {
            out["properties"][name] = self.write(field);
        }
        if let Some(additional) = &schema.additional {
            out["additionalProperties"] = self.write(additional);
        }
        if let Some(items) = &schema.items {
            out["items"] = self.write(items);
        }
        if !schema.required.is_empty() {
            out["required"] = json!(schema.required);
        }
        if let Some(default) = schema.default.as_ref().filter(|_| schema.name.is_none()) {
            out["default"] = default.clone();
        }
        if let Some(values) = &schema.limits.enumeration {
            out["enum"] = json!(values);
        }
        extensions(schema, &mut out);
        out
    }
}

fn form(form: Form) -> Option<&'static str> {
    match form {
        Form::Any | Form::IntOrString => None,
        Form::Object => Some("object"),
        Form::Array => Some("array"),
        Form::String | Form::Quantity => Some("string"),
        Form::Integer => Some("integer"),
        Form::Number => Some("number"),
        Form::Boolean => Some("boolean"),
    }
}

fn extensions(schema: &Schema, out: &mut Value) {
    match &schema.list {
        List::Atomic if schema.form == Form::Array => out["x-kubernetes-list-type"] = "atomic".into(),
        List::Atomic => {}
        List::Set => out["x-kubernetes-list-type"] = "set".into(),
        List::Map(keys) => {
            out["x-kubernetes-list-type"] = "map".into();
            out["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    if let Some(merge) = &schema.merge {
        out["x-kubernetes-patch-strategy"] = if schema.retain_keys { "merge,retainKeys" } else { "merge" }.into();
        if let Some(key) = &merge.key {
            out["x-kubernetes-patch-merge-key"] = key.clone().into();
        }
    }
    if schema.atomic_map {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if schema.preserve_unknown {
        out["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    if schema.nullable {
        out["nullable"] = true.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let catalog = Catalog::built_in();
        let document = document(&catalog, "apps", "v1").unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.get(name).is_some_and(Value::is_object), "{name}");
        }
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    }
}
