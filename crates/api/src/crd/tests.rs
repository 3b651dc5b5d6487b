//! Definitions that an API server accepts, and that say what our types say.

use std::collections::HashSet;

use super::*;

fn schema(plural: &str) -> Value {
    let kind = KINDS.iter().find(|kind| kind.plural == plural && kind.group != "networking.istio.io").unwrap();
    definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` with every schema below and including this one.
fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&format!("{path}[]"), &schema[key], visit);
        }
    }
}

#[test]
fn every_schema_is_structural() {
    for definition in crds() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        for version in definition["spec"]["versions"].as_array().unwrap() {
            walk(name, &version["schema"]["openAPIV3Schema"], &mut |path, schema| {
                let typed = schema["type"].is_string()
                    || schema["x-kubernetes-int-or-string"] == true
                    || schema["x-kubernetes-preserve-unknown-fields"] == true;
                assert!(typed, "{path} has no type: {schema}");
                for key in ["$ref", "title", "oneOf", "allOf", "const", "definitions"] {
                    assert!(schema[key].is_null(), "{path} has {key}: {schema}");
                }
                // An API server refuses a map whose keys may be missing.
                for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
                    let required = schema["items"]["required"].as_array();
                    assert!(required.is_some_and(|required| required.contains(key)), "{path} is a map by {key}");
                }
                assert!(schema["enum"].as_array().is_none_or(|values| values.iter().all(Value::is_string)), "{path}");
            });
        }
    }
}

#[test]
fn every_kind_has_a_name_of_its_own_and_stores_one_version() {
    let mut names = HashSet::new();
    for kind in KINDS {
        assert!(names.insert((kind.group, kind.plural)), "{} is there twice", kind.plural);
        assert_eq!(kind.versions.iter().filter(|version| version.storage).count(), 1, "{}", kind.plural);
    }
}

#[test]
fn a_typed_schema_says_what_our_types_say() {
    let schema = schema("authorizationpolicies");
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["properties"]["action"]["enum"], json!(["ALLOW", "DENY", "AUDIT", "CUSTOM"]));
    assert_eq!(spec["properties"]["rules"]["maxItems"], 512);
    let rule = &spec["properties"]["rules"]["items"]["properties"];
    assert_eq!(rule["when"]["items"]["required"], json!(["key"]));
    let source = &rule["from"]["items"]["properties"]["source"];
    assert_eq!(source["type"], "object");
    assert_eq!(source["properties"]["ipBlocks"]["items"]["type"], "string");
    assert_eq!(source["properties"]["serviceAccounts"]["maxItems"], 16);
    assert_eq!(source["x-kubernetes-validations"].as_array().unwrap().len(), 1);
    let reference = &spec["properties"]["targetRefs"]["items"];
    assert_eq!(reference["required"], json!(["kind", "name"]));
}

#[test]
fn a_gateway_must_have_a_class_and_listeners() {
    let schema = schema("gateways");
    assert_eq!(schema["required"], json!(["spec"]));
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["required"], json!(["gatewayClassName", "listeners"]));
    let listener = &spec["properties"]["listeners"]["items"];
    assert_eq!(listener["required"], json!(["name", "port", "protocol"]));
    assert_eq!(listener["properties"]["port"]["maximum"], 65535);
    assert_eq!(listener["properties"]["allowedRoutes"]["default"], json!({"namespaces": {"from": "Same"}}));
}
