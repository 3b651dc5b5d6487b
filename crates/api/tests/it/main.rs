//! What a real cluster holds is read, and written back as it was.

use api::*;
use rstest::rstest;
use serde_json::Value;

/// Reads an object as its type and writes it again.
fn again(object: Value) -> Result<Value, ParseError> {
    fn as_type<T: Resource>(object: Value) -> Result<Value, ParseError> {
        T::from_value(object).map(|object| object.to_value())
    }
    let kind = type_meta(&object).expect("a resource says what it is");
    let read = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => as_type::<Namespace>,
        ("", "Pod") => as_type::<Pod>,
        ("", "Service") => as_type::<Service>,
        ("", "ServiceAccount") => as_type::<ServiceAccount>,
        ("apps", "Deployment") => as_type::<Deployment>,
        ("gateway.networking.k8s.io", "Gateway") => as_type::<Gateway>,
        ("gateway.networking.k8s.io", "GatewayClass") => as_type::<GatewayClass>,
        ("gateway.networking.k8s.io", "HTTPRoute") => as_type::<HTTPRoute>,
        ("networking.istio.io", "ServiceEntry") => as_type::<ServiceEntry>,
        ("networking.istio.io", "WorkloadEntry") => as_type::<WorkloadEntry>,
        ("security.istio.io", "AuthorizationPolicy") => as_type::<AuthorizationPolicy>,
        ("security.istio.io", "PeerAuthentication") => as_type::<PeerAuthentication>,
        other => panic!("{other:?} has no type here"),
    };
    read(object)
}

/// Every difference that means something: what was empty may be left out, numbers may have been text.
fn differences(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                differences(&format!("{path}.{key}"), value, after.get(key).unwrap_or(&Value::Null), found);
            }
            found.extend(
                after.keys().filter(|key| !before.contains_key(*key)).map(|key| format!("{path}.{key} is new")),
            );
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                differences(&format!("{path}[{index}]"), before, after, found);
            }
        }
        (before, Value::Null) if is_empty(before) => {}
        // The default, spelt out.
        (Value::String(before), Value::Null) if before == "ALLOW" => {}
        // Kubernetes' times are whole seconds; not everybody writes them so.
        (Value::String(before), Value::String(after))
            if after.ends_with('Z') && before.starts_with(after.trim_end_matches('Z')) => {}
        (Value::String(before), Value::Number(after)) if *before == after.to_string() => {}
        (before, after) if before == after => {}
        (before, after) => found.push(format!("{path}: {before} became {after}")),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

#[rstest]
#[case("input", include_str!("../fixtures/input.yaml"))]
#[case("resources-with-status", include_str!("../fixtures/resources-with-status.yaml"))]
#[case("gatewayclasses", include_str!("../fixtures/gatewayclasses.yaml"))]
#[case("waypoint-objects", include_str!("../fixtures/waypoint-objects.yaml"))]
#[case("waypoint-gateway", include_str!("../fixtures/waypoint-gateway.yaml"))]
#[case("service-with-waypoint", include_str!("../fixtures/service-with-waypoint.yaml"))]
fn an_object_of_a_real_cluster_survives(#[case] name: &str, #[case] text: &str) {
    let mut objects = yaml::read_documents(text.as_bytes()).unwrap();
    if let [list] = &mut objects[..]
        && list["kind"] == "List"
    {
        objects = list["items"].take().as_array().unwrap().clone();
    }
    assert!(!objects.is_empty());
    for object in objects {
        let after = again(object.clone()).unwrap();
        let mut found = Vec::new();
        differences(&format!("{name}: {}", object["kind"]), &object, &after, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}
