//! Pods, and the data that they mount.

use super::names;
use crate::object::Object;
use crate::status::{Cause, Result, Status};
use crate::store::{Key, Transaction};
use crate::verbs::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// As upstream, so that a token outlives its hour by the refreshing of whoever mounts it.
const TOKEN_SECONDS: i64 = 3607;

/// Defaults of a pod's spec that depend on other fields.
pub(super) fn complete_spec(spec: &mut Value) {
    let account = match (spec.text("/serviceAccountName"), spec.text("/serviceAccount")) {
        ("", deprecated) => deprecated.to_owned(),
        (name, _) => name.to_owned(),
    };
    if !account.is_empty() {
        spec["serviceAccountName"] = account.clone().into();
        spec["serviceAccount"] = account.into();
    }
    let host_network = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            complete_container(container, host_network);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if volume.as_object().is_some_and(|volume| volume.len() == 1) {
            volume["emptyDir"] = json!({});
        }
    }
}

fn complete_container(container: &mut Value, host_network: bool) {
    if container.text("/imagePullPolicy").is_empty() {
        let image = container.text("/image");
        let name = image.rsplit('/').next().unwrap_or_default();
        let latest = !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
        container["imagePullPolicy"] = if latest { "Always" } else { "IfNotPresent" }.into();
    }
    if host_network {
        for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            if port.get("hostPort").is_none() {
                port["hostPort"] = port["containerPort"].clone();
            }
        }
    }
    if let Some(limits) = container.pointer("/resources/limits").and_then(Value::as_object).cloned() {
        let requests = container["resources"].section("requests");
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
    }
}

/// The class by which pods are sacrificed when a node runs short.
pub(super) fn quality(pod: &Value) -> &'static str {
    let containers = || pod.list("/spec/containers").iter().chain(pod.list("/spec/initContainers"));
    let of = |container: &Value, what: &str| -> Map<String, Value> {
        container.pointer(&format!("/resources/{what}")).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    if containers().all(|container| of(container, "limits").is_empty() && of(container, "requests").is_empty()) {
        return "BestEffort";
    }
    let guaranteed = containers().all(|container| {
        let (limits, requests) = (of(container, "limits"), of(container, "requests"));
        ["cpu", "memory"].iter().all(|name| limits.contains_key(*name) && limits.get(*name) == requests.get(*name))
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

/// `stringData` is written for people and kept as data.
pub(super) fn encode_secret(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    if let Some(Value::Object(plain)) = fields.remove("stringData") {
        let data = fields.entry("data").or_insert_with(|| json!({}));
        for (name, text) in plain {
            data[name] = BASE64.encode(text.as_str().unwrap_or_default()).into();
        }
    }
}

/// What the ServiceAccount rules add to a pod: its account, and where the account's token is mounted.
pub(super) fn admit(transaction: &Transaction<'_>, context: &Context, pod: &mut Value) -> Result<()> {
    if pod.text("/spec/serviceAccountName").is_empty() {
        pod["spec"]["serviceAccountName"] = "default".into();
        pod["spec"]["serviceAccount"] = "default".into();
    }
    let account = pod.text("/spec/serviceAccountName").to_owned();
    let found = transaction.get(&Key::new(&Arc::from("/serviceaccounts"), &context.namespace, &account));
    // The default account is made soon after its namespace; a pod need not wait for that.
    if found.is_none() && account != "default" {
        let namespace = &context.namespace;
        return Err(Status::forbidden(
            "",
            "pods",
            pod.name(),
            format!("error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"),
        ));
    }
    let own = pod.pointer("/spec/automountServiceAccountToken").and_then(Value::as_bool);
    let of_account = found.and_then(|found| found.get("automountServiceAccountToken").and_then(Value::as_bool));
    if own.or(of_account).unwrap_or(true) {
        mount_token(&mut pod["spec"]);
    }
    tolerate_defaults(&mut pod["spec"]);
    if pod.pointer("/spec/priority").is_none() {
        pod["spec"]["priority"] = priority(transaction, pod.text("/spec/priorityClassName")).into();
    }
    let spec = &mut pod["spec"];
    for (field, value) in [("enableServiceLinks", json!(true)), ("preemptionPolicy", json!("PreemptLowerPriority"))] {
        if spec.get(field).is_none() {
            spec[field] = value;
        }
    }
    Ok(())
}

fn priority(transaction: &Transaction<'_>, class: &str) -> i64 {
    match class {
        "" => 0,
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        name => transaction
            .get(&Key::new(&Arc::from("scheduling.k8s.io/priorityclasses"), "", name))
            .and_then(|class| class["value"].as_i64())
            .unwrap_or(0),
    }
}

fn tolerate_defaults(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let known = spec.list("/tolerations").iter().any(|toleration| {
            toleration.text("/key") == key
                || (toleration.text("/key").is_empty() && toleration.text("/operator") == "Exists")
        });
        if !known {
            push(
                spec,
                "tolerations",
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
}

fn push(spec: &mut Value, list: &str, element: Value) {
    match &mut spec[list] {
        Value::Array(elements) => elements.push(element),
        other => *other = json!([element]),
    }
}

fn mount_token(spec: &mut Value) {
    let mounted =
        |container: &Value| container.list("/volumeMounts").iter().any(|mount| mount.text("/mountPath") == TOKEN_PATH);
    let missing = ["initContainers", "containers"]
        .iter()
        .any(|list| spec.list(&format!("/{list}")).iter().any(|container| !mounted(container)));
    if !missing || spec.list("/volumes").iter().any(|volume| volume.text("/name").starts_with("kube-api-access-")) {
        return;
    }
    let suffix: String = uuid::Uuid::new_v4().simple().to_string().chars().take(5).collect();
    let name = format!("kube-api-access-{suffix}");
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if !mounted(container) {
                push(container, "volumeMounts", json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
            }
        }
    }
    push(
        spec,
        "volumes",
        json!({"name": name, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}
        ]}}),
    );
}

/// Rules on a pod.
pub(super) fn validate(pod: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    validate_spec(&pod["spec"], "spec", &mut causes);
    if let Some(old) = old
        && frozen(&old["spec"], &pod["spec"]) != frozen(&pod["spec"], &pod["spec"])
    {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", detail));
    }
    causes
}

/// A spec without the parts that may change. The node may be set once: that is how a pod is bound.
fn frozen(spec: &Value, other: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(fields) = spec.as_object_mut() else { return spec };
    for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
        fields.remove(field);
    }
    if fields.get("nodeName").is_none() && other.get("nodeName").is_some() {
        fields.insert("nodeName".into(), other["nodeName"].clone());
    }
    for list in ["containers", "initContainers"] {
        for container in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container.as_object_mut().map(|container| container.remove("image"));
        }
    }
    spec
}

/// Rules on the spec of a pod or of a template.
pub(super) fn validate_spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    if spec.list("/containers").is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let volumes: Vec<&str> = spec.list("/volumes").iter().map(|volume| volume.text("/name")).collect();
    let mut seen = Vec::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in spec.list(&format!("/{list}")).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = container.text("/name");
            if name.is_empty() {
                causes.push(Cause::required(format!("{path}.name"), ""));
            } else if let Some(problem) = names::label_problem(name) {
                causes.push(Cause::invalid(format!("{path}.name"), &name.into(), problem));
            } else if seen.contains(&name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
            }
            seen.push(name);
            if container.text("/image").is_empty() {
                causes.push(Cause::required(format!("{path}.image"), ""));
            }
            for (index, mount) in container.list("/volumeMounts").iter().enumerate() {
                let volume = mount.text("/name");
                if !volumes.contains(&volume) {
                    let message = format!("Not found: \"{volume}\"");
                    let field = format!("{path}.volumeMounts[{index}].name");
                    causes.push(Cause { field, reason: "FieldValueNotFound", message });
                }
            }
            ports(container, &path, causes);
        }
    }
    let policies = ["Always", "OnFailure", "Never"].map(Value::from);
    if let Some(policy) = spec.get("restartPolicy").filter(|policy| !policies.contains(policy)) {
        causes.push(Cause::unsupported(format!("{path}.restartPolicy"), policy, &policies));
    }
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        let field = format!("{path}.terminationGracePeriodSeconds");
        causes.push(Cause::invalid(
            field,
            &spec["terminationGracePeriodSeconds"],
            "must be greater than or equal to 0",
        ));
    }
}

fn ports(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (index, port) in container.list("/ports").iter().enumerate() {
        let field = format!("{path}.ports[{index}].containerPort");
        match port["containerPort"].as_i64() {
            None => causes.push(Cause::required(field, "")),
            Some(1..=65_535) => {}
            Some(_) => {
                causes.push(Cause::invalid(field, &port["containerPort"], "must be between 1 and 65535, inclusive"))
            }
        }
    }
}

/// Rules on config maps and secrets.
pub(super) fn validate_data(value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in ["data", "binaryData"] {
        for (key, content) in value.get(field).and_then(Value::as_object).into_iter().flatten() {
            let fits = !key.is_empty()
                && key.len() <= 253
                && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if !fits {
                let detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
                causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), detail));
            }
            let encoded = value.text("/kind") == "Secret" || field == "binaryData";
            if encoded && BASE64.decode(content.as_str().unwrap_or_default()).is_err() {
                causes.push(Cause::invalid(
                    format!("{field}[{key}]"),
                    &"<secret contents redacted>".into(),
                    "illegal base64 data",
                ));
            }
        }
    }
    if let Some(old) = old {
        if old["immutable"] == true
            && (old.get("data"), old.get("binaryData")) != (value.get("data"), value.get("binaryData"))
        {
            causes.push(Cause::forbidden("data", "field is immutable when `immutable` is set"));
        }
        if value.text("/kind") == "Secret" && old.get("type") != value.get("type") {
            causes.push(Cause::invalid("type", &value["type"], "field is immutable"));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("ambit.local/app", "Always")]
    #[case("ambit.local/app:v1", "IfNotPresent")]
    #[case("localhost:5000/app", "Always")]
    #[case("host:latest", "Always")]
    #[case("a@sha256:0", "IfNotPresent")]
    fn the_pull_policy_follows_the_tag(#[case] image: &str, #[case] expected: &str) {
        let mut spec = json!({"containers": [{"name": "a", "image": image}]});
        complete_spec(&mut spec);
        assert_eq!(spec.text("/containers/0/imagePullPolicy"), expected);
    }

    #[test]
    fn the_token_is_mounted_once() {
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        mount_token(&mut spec);
        mount_token(&mut spec);
        assert_eq!(spec.list("/volumes").len(), 1);
        assert_eq!(spec.text("/containers/1/volumeMounts/0/mountPath"), TOKEN_PATH);
    }

    #[rstest]
    #[case(json!({"containers": []}), "spec.containers: Required value")]
    #[case(json!({"containers": [{"name": "A", "image": "x"}]}), "spec.containers[0].name: Invalid value: \"A\"")]
    #[case(json!({"containers": [{"name": "a"}]}), "spec.containers[0].image: Required value")]
    #[case(json!({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v"}]}]}), "spec.containers[0].volumeMounts[0].name: Not found: \"v\"")]
    #[case(json!({"restartPolicy": "Maybe", "containers": [{"name": "a", "image": "x"}]}), "spec.restartPolicy: Unsupported value: \"Maybe\"")]
    fn a_broken_pod_is_refused(#[case] spec: Value, #[case] expected: &str) {
        let causes = validate(&json!({"spec": spec}), None);
        assert!(causes.iter().any(|cause| cause.to_string().starts_with(expected)), "{causes:?}");
    }

    #[test]
    fn only_some_fields_of_a_pod_change() {
        let old = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = "y".into();
        new["spec"]["nodeName"] = "n1".into();
        assert_eq!(validate(&new, Some(&old)), []);
        new["spec"]["containers"][0]["args"] = json!(["z"]);
        assert_eq!(validate(&new, Some(&old)).len(), 1);
    }
}
