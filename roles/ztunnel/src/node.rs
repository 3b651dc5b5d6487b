//! How the proxy introduces itself to the control plane (ztunnel.md §1.2). Pure.

use crate::config::Config;
use prost_types::{ListValue, Struct, Value, value::Kind};
use proto::core::Node;
use std::collections::BTreeMap;

/// The node of the first request of each type.
pub(crate) fn node(config: &Config) -> Node {
    let Config { pod_name: name, pod_namespace: namespace, instance_ip, .. } = config;
    let mut fields: BTreeMap<String, Value> = [
        ("NAME", name.as_str()),
        ("NAMESPACE", namespace),
        ("INSTANCE_IPS", instance_ip),
        ("NODE_NAME", config.node.as_deref().unwrap_or_default()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), text(value)))
    .collect();
    fields.extend(config.metadata.iter().map(|(key, value)| (key.clone(), text(value))));
    // The control plane shows it next to the proxy; charts set it, a bare process does not.
    fields.entry("ISTIO_VERSION".to_owned()).or_insert_with(|| text(env!("CARGO_PKG_VERSION")));
    fields.extend(config.json_metadata.iter().map(|(key, json)| (key.clone(), value(json))));
    Node {
        id: format!("ztunnel~{instance_ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(bool) => Kind::BoolValue(*bool),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(list) => Kind::ListValue(ListValue { values: list.iter().map(value).collect() }),
        serde_json::Value::Object(object) => {
            let fields = object.iter().map(|(key, json)| (key.clone(), value(json))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn the_node_is_as_upstream_introduces_itself() {
        let environment = Environment::from_iter([
            ("POD_NAME", "ztunnel-x"),
            ("POD_NAMESPACE", "istio-system"),
            ("INSTANCE_IP", "10.244.1.5"),
            ("NODE_NAME", "n1"),
            ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
            ("ISTIO_METAJSON_LABELS", r#"{"app":"ztunnel"}"#),
        ]);
        let node = node(&Config::read(&environment, &[]).unwrap());
        assert_eq!(node.id, "ztunnel~10.244.1.5~ztunnel-x.istio-system~istio-system.svc.cluster.local");
        let fields = node.metadata.unwrap().fields;
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["CLUSTER_ID", "INSTANCE_IPS", "ISTIO_VERSION", "LABELS", "NAME", "NAMESPACE", "NODE_NAME"]);
        assert!(
            matches!(&fields["LABELS"].kind, Some(Kind::StructValue(labels)) if labels.fields["app"] == text("ztunnel"))
        );
    }
}
