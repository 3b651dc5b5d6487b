//! The environment of a container: its variables in order, with references to fields, configuration and each other.

use std::collections::BTreeMap;

use api::{Container, Pod};

use super::fields;
use super::objects::{Missing, Objects};

/// Variables that every container gets before its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    pub(super) path: String,
    pub(super) hostname: String,
    /// Address and port of the `kubernetes` service.
    pub(super) api: Option<(String, u16)>,
}

/// The container's variables; later ones win, as in Kubernetes.
pub(super) fn variables(
    base: &Base,
    pod: &Pod,
    container: &Container,
    objects: &Objects,
) -> Result<BTreeMap<String, String>, Missing> {
    let mut variables = base_variables(base);
    for source in &container.env_from {
        if let Some(from) = &source.config_map_ref
            && let Some(map) = objects.config_map(&from.name, from.optional)?
        {
            variables.extend(map.data.iter().map(|(key, value)| (format!("{}{key}", source.prefix), value.clone())));
        }
        if let Some(from) = &source.secret_ref
            && let Some(secret) = objects.secret(&from.name, from.optional)?
        {
            let text = |key: &String| secret.bytes(key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let pairs = secret.data.keys().filter_map(|key| Some((format!("{}{key}", source.prefix), text(key)?)));
            variables.extend(pairs.collect::<Vec<_>>());
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            None => Some(expand(&variable.value, &variables)),
            Some(source) => referenced(source, pod, container, objects)?,
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn base_variables(base: &Base) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("PATH".to_owned(), base.path.clone()),
        ("HOME".to_owned(), "/root".to_owned()),
        ("HOSTNAME".to_owned(), base.hostname.clone()),
    ]);
    if let Some((host, port)) = &base.api {
        let pairs = [
            ("KUBERNETES_SERVICE_HOST", host.clone()),
            ("KUBERNETES_SERVICE_PORT", port.to_string()),
            ("KUBERNETES_SERVICE_PORT_HTTPS", port.to_string()),
            ("KUBERNETES_PORT", format!("tcp://{host}:{port}")),
        ];
        variables.extend(pairs.map(|(name, value)| (name.to_owned(), value)));
    }
    variables
}

fn referenced(
    source: &api::EnvVarSource,
    pod: &Pod,
    container: &Container,
    objects: &Objects,
) -> Result<Option<String>, Missing> {
    if let Some(field) = &source.field_ref {
        return fields::value(pod, &field.field_path)
            .map(Some)
            .ok_or_else(|| Missing::new(format!("the pod has no field {}", field.field_path)));
    }
    if let Some(field) = &source.resource_field_ref {
        return Ok(Some(fields::resource(pod, container, field)));
    }
    if let Some(key) = &source.config_map_key_ref {
        let Some(map) = objects.config_map(&key.name, key.optional)? else { return Ok(None) };
        return entry(map.data.get(&key.key).cloned(), key, "configmap");
    }
    if let Some(key) = &source.secret_key_ref {
        let Some(secret) = objects.secret(&key.name, key.optional)? else { return Ok(None) };
        let text = secret.bytes(&key.key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        return entry(text, key, "secret");
    }
    Ok(Some(String::new()))
}

fn entry(value: Option<String>, key: &api::core::KeySelector, kind: &str) -> Result<Option<String>, Missing> {
    match value {
        None if !key.optional => Err(Missing::new(format!("couldn't find key {} in {kind} {}", key.key, key.name))),
        value => Ok(value),
    }
}

/// Replaces `$(NAME)` by the variable's value; `$$` stands for `$`, and an unknown name stays as it is written.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match name.and_then(|(name, after)| Some((variables.get(name)?, after))) {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => expanded.push('$'),
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("plain", "plain")]
    #[case("a$(X)b$(X)", "a1b1")]
    #[case("$$(X)", "$(X)")]
    #[case("$(UNKNOWN) $", "$(UNKNOWN) $")]
    #[case("$(X", "$(X")]
    #[case("$X", "$X")]
    fn expansion(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(expand(text, &BTreeMap::from([("X".to_owned(), "1".to_owned())])), expected);
    }

    fn container(env: serde_json::Value) -> Container {
        serde_json::from_value(serde_json::json!({ "name": "c", "env": env })).unwrap()
    }

    #[test]
    fn variables_may_use_those_before_them() {
        let container = container(serde_json::json!([
            { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
            { "name": "TEXT", "value": "on $(NODE), not $(LATER)" },
            { "name": "LATER", "value": "x" },
        ]));
        let mut pod = Pod::default();
        pod.spec.node_name = "n1".to_owned();
        let base = Base { api: Some(("10.96.0.1".to_owned(), 443)), ..Base::default() };
        let found = variables(&base, &pod, &container, &Objects::default()).unwrap();
        assert_eq!(found["TEXT"], "on n1, not $(LATER)");
        assert_eq!(found["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
    }

    #[test]
    fn a_missing_map_stops_unless_it_is_optional() {
        let reference = |optional| {
            let key = serde_json::json!({ "name": "m", "key": "k", "optional": optional });
            container(serde_json::json!([{ "name": "A", "valueFrom": { "configMapKeyRef": key } }]))
        };
        let read = |container| variables(&Base::default(), &Pod::default(), &container, &Objects::default());
        assert_eq!(read(reference(false)).unwrap_err().to_string(), "configmap \"m\" not found");
        assert!(!read(reference(true)).unwrap().contains_key("A"));
    }
}
