//! Kinds that make pods, and RBAC objects.

use super::pods;
use crate::object::Object;
use crate::status::Cause;
use serde_json::{Value, json};

/// Defaults that depend on other fields.
pub(super) fn complete(plural: &str, value: &mut Value) {
    let Some(spec) = value.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    if let Some(pod) = spec.pointer_mut("/template/spec") {
        pods::complete_spec(pod);
    }
    let (strategy, defaults) = match plural {
        "deployments" => ("strategy", json!({"maxSurge": "25%", "maxUnavailable": "25%"})),
        "daemonsets" => ("updateStrategy", json!({"maxSurge": 0, "maxUnavailable": 1})),
        _ => return,
    };
    let strategy = &mut spec[strategy];
    if strategy.text("/type") == "RollingUpdate" {
        let rolling = strategy.section("rollingUpdate");
        for (field, value) in defaults.as_object().into_iter().flatten() {
            rolling.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// The group of a binding's subjects follows from their kind.
pub(super) fn complete_subjects(binding: &mut Value) {
    for subject in binding.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(subject.text("/kind"), "User" | "Group") && subject.get("apiGroup").is_none() {
            subject["apiGroup"] = "rbac.authorization.k8s.io".into();
        }
    }
}

/// Rules on deployments, replica sets and daemon sets.
pub(super) fn validate(value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let selector = &value["spec"]["selector"];
    let labels = value.pointer("/spec/template/metadata/labels");
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", ""));
    } else if selector.pointer("/matchLabels").is_none_or(|labels| labels == &json!({}))
        && selector.list("/matchExpressions").is_empty()
    {
        causes.push(Cause::invalid("spec.selector", selector, "empty selector is invalid for deployment"));
    } else {
        let wanted = selector.pointer("/matchLabels").and_then(Value::as_object);
        let matches =
            wanted.into_iter().flatten().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
        if !matches {
            let shown = labels.map_or_else(|| "null".to_owned(), Value::to_string);
            causes.push(Cause::invalid(
                "spec.template.metadata.labels",
                &shown.into(),
                "`selector` does not match template `labels`",
            ));
        }
    }
    if let Some(old) = old.filter(|old| old["spec"]["selector"] != *selector) {
        let _ = old;
        causes.push(Cause::invalid("spec.selector", &selector.to_string().into(), "field is immutable"));
    }
    if value.pointer("/spec/replicas").and_then(Value::as_i64).is_some_and(|replicas| replicas < 0) {
        causes.push(Cause::invalid("spec.replicas", &value["spec"]["replicas"], "must be greater than or equal to 0"));
    }
    pods::validate_spec(&value["spec"]["template"]["spec"], "spec.template.spec", &mut causes);
    let policy = &value["spec"]["template"]["spec"]["restartPolicy"];
    if policy.is_string() && policy != "Always" {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Always".into()]));
    }
    causes
}

/// Rules on roles and bindings.
pub(super) fn validate_rbac(value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if value.text("/kind").ends_with("Binding") {
        let kinds = ["ClusterRole", "Role"].map(Value::from);
        if !kinds.contains(&value["roleRef"]["kind"]) {
            causes.push(Cause::unsupported("roleRef.kind", &value["roleRef"]["kind"], &kinds));
        }
        if value.text("/roleRef/name").is_empty() {
            causes.push(Cause::required("roleRef.name", ""));
        }
        if old.is_some_and(|old| old["roleRef"] != value["roleRef"]) {
            causes.push(Cause::invalid("roleRef", &value["roleRef"], "cannot change roleRef"));
        }
        for (index, subject) in value.list("/subjects").iter().enumerate() {
            if subject.text("/name").is_empty() {
                causes.push(Cause::required(format!("subjects[{index}].name"), ""));
            }
        }
    } else {
        for (index, rule) in value.list("/rules").iter().enumerate() {
            if rule.list("/verbs").is_empty() {
                causes.push(Cause::required(format!("rules[{index}].verbs"), "verbs must contain at least one value"));
            }
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn deployment(selector: Value) -> Value {
        json!({"spec": {"selector": selector, "template": {"metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "a", "image": "x"}]}}}})
    }

    #[rstest]
    #[case(json!({"matchLabels": {"app": "a"}}), None)]
    #[case(json!({"matchLabels": {"app": "b"}}), Some("`selector` does not match template `labels`"))]
    #[case(json!({}), Some("empty selector"))]
    #[case(Value::Null, Some("Required value"))]
    fn a_selector_selects_its_own_template(#[case] selector: Value, #[case] expected: Option<&str>) {
        let causes = validate(&deployment(selector), None);
        match expected {
            None => assert_eq!(causes, []),
            Some(text) => assert!(causes[0].message.contains(text), "{causes:?}"),
        }
    }

    #[test]
    fn a_selector_never_changes() {
        let old = deployment(json!({"matchLabels": {"app": "b"}}));
        let causes = validate(&deployment(json!({"matchLabels": {"app": "a"}})), Some(&old));
        assert!(causes[0].message.contains("field is immutable"));
    }
}
