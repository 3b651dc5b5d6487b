//! What the server adds to objects and demands of them, kind by kind.
//!
//! [`complete`], [`first_status`] and [`validate`] are pure; [`admit`] looks at other objects in the same transaction.

mod mesh;
pub(crate) mod names;
mod pods;
mod services;
mod workloads;

use crate::api::Api;
use crate::authz;
use crate::catalog::{Kind, Origin};
use crate::crd;
use crate::object::Object;
use crate::status::{Cause, Result, Status};
use crate::store::{Key, Transaction};
use crate::verbs::Context;
use serde_json::{Value, json};
use std::sync::Arc;

/// Defaults that depend on other fields and so are not in the schema.
pub(crate) fn complete(kind: &Kind, value: &mut Value) {
    match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        _ if kind.is_custom() => {}
        ("", "pods") => {
            if let Some(spec) = value.get_mut("spec") {
                pods::complete_spec(spec);
            }
        }
        ("", "services") => services::complete(value),
        ("", "secrets") => pods::encode_secret(value),
        ("", "namespaces") => {
            if value.get("spec").is_none() {
                value["spec"] = json!({});
            }
            let name = value.name().to_owned();
            if !name.is_empty() {
                let labels = value.metadata_mut().entry("labels").or_insert_with(|| json!({}));
                labels["kubernetes.io/metadata.name"] = name.into();
            }
        }
        ("apps", "deployments" | "replicasets" | "daemonsets") => workloads::complete(&kind.resource.plural, value),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => workloads::complete_subjects(value),
        ("apiextensions.k8s.io", "customresourcedefinitions") => crd::complete(value),
        _ => {}
    }
}

/// The status that a new object starts with.
pub(crate) fn first_status(kind: &Kind, value: &mut Value) {
    let status = match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        // Kubelets register their node with what it has.
        ("", "nodes") if !kind.is_custom() => return,
        _ if !kind.has_subresource("status") => return,
        ("", "pods") => json!({"phase": "Pending", "qosClass": pods::quality(value)}),
        ("", "namespaces") => {
            value["spec"]["finalizers"] = json!(["kubernetes"]);
            json!({"phase": "Active"})
        }
        ("", "services") => json!({"loadBalancer": {}}),
        ("apps", "deployments") => json!({}),
        ("apps", "replicasets") => json!({"replicas": 0}),
        ("apps", "daemonsets") => {
            json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => return,
        _ => {
            // A default status in the schema of a custom resource is meant to be seen.
            match kind.schema().properties.get("status").and_then(|status| status.default.clone()) {
                Some(status) => status,
                None => {
                    value.as_object_mut().map(|fields| fields.remove("status"));
                    return;
                }
            }
        }
    };
    value["status"] = status;
}

/// Kinds whose `metadata.generation` counts changes of what is wanted.
pub(crate) fn counts_generations(kind: &Kind) -> bool {
    kind.is_custom()
        || kind.is("", "pods")
        || matches!(
            kind.resource.group.as_str(),
            "apps"
                | "networking.k8s.io"
                | "policy"
                | "admissionregistration.k8s.io"
                | "apiextensions.k8s.io"
                | "discovery.k8s.io"
        ) && !kind.is("apps", "controllerrevisions")
}

/// What a client should know about a kind that is kept and not acted on.
pub(crate) fn warnings(kind: &Kind) -> Vec<String> {
    let name = &kind.resource.kind;
    let mut warnings: Vec<String> = kind.version().deprecation.clone().into_iter().collect();
    match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        ("networking.k8s.io", "networkpolicies") => {
            warnings
                .push(format!("{name} objects are stored here but not enforced: traffic they forbid is not stopped"));
        }
        ("admissionregistration.k8s.io", _) => {
            warnings.push(format!("{name} objects are stored here but the webhooks are not called"));
        }
        ("autoscaling", _) => warnings.push(format!("{name} objects are stored here but nothing is scaled by them")),
        _ => {}
    }
    warnings
}

/// Rules on the metadata of every object.
pub(crate) fn validate_metadata(kind: &Kind, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if value.name().is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(problem) = names::problem(kind, value.name()) {
        causes.push(Cause::invalid("metadata.name", &value.name().into(), problem));
    }
    for (key, label) in value.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten() {
        if let Some(problem) = names::label_key_problem(key) {
            causes.push(Cause::invalid("metadata.labels", &key.as_str().into(), problem));
        }
        if let Some(problem) = names::label_value_problem(label.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("metadata.labels", label, problem));
        }
    }
    let mut size = 0;
    for (key, annotation) in value.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten() {
        if let Some(problem) = names::label_key_problem(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.as_str().into(), problem));
        }
        size += key.len() + annotation.as_str().map_or(0, str::len);
    }
    if size > 256 * 1024 {
        causes.push(Cause::too_long("metadata.annotations", 262_144));
    }
    for finalizer in value.list("/metadata/finalizers") {
        let text = finalizer.as_str().unwrap_or_default();
        if let Some(problem) = names::label_key_problem(text) {
            causes.push(Cause::invalid("metadata.finalizers", finalizer, problem));
        }
    }
    for (index, owner) in value.list("/metadata/ownerReferences").iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.text(&format!("/{field}")).is_empty() {
                causes.push(Cause::required(format!("metadata.ownerReferences[{index}].{field}"), ""));
            }
        }
    }
    causes
}

/// Rules on the content of built-in objects, and of those that the mesh is made of.
pub(crate) fn validate(kind: &Kind, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        _ if kind.is_custom() => mesh::validate(value, old),
        ("", "pods") => pods::validate(value, old),
        ("", "services") => services::validate(value, old),
        ("", "configmaps" | "secrets") => pods::validate_data(value, old),
        ("apps", "deployments" | "replicasets" | "daemonsets") => workloads::validate(value, old),
        ("rbac.authorization.k8s.io", _) => workloads::validate_rbac(value, old),
        ("discovery.k8s.io", "endpointslices") => services::validate_slice(value, old),
        ("apiextensions.k8s.io", "customresourcedefinitions") => crd::validate(value, old),
        _ => Vec::new(),
    }
}

/// Rules that depend on other objects, and what is given out: addresses, accounts, conditions.
pub(crate) fn admit(
    api: &Api,
    transaction: &Transaction<'_>,
    context: &Context,
    value: &mut Value,
    old: Option<&Value>,
) -> Result<()> {
    let kind = &context.kind;
    if old.is_none() {
        live_namespace(transaction, context, value)?;
    }
    if kind.is_custom() {
        return Ok(());
    }
    match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        ("", "pods") if old.is_none() => pods::admit(transaction, context, value),
        ("", "services") => services::admit(transaction, context, value, old, api.service_range),
        ("rbac.authorization.k8s.io", plural) => match &context.user {
            Some(user) => match authz::check_escalation(&api.store, user, &context.namespace, value) {
                Some(why) => Err(Status::forbidden("rbac.authorization.k8s.io", plural, value.name(), why)),
                None => Ok(()),
            },
            None => Ok(()),
        },
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            crd::judge(&api.catalog(), value);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// New objects need a namespace that exists and stays.
fn live_namespace(transaction: &Transaction<'_>, context: &Context, value: &Value) -> Result<()> {
    if !context.kind.resource.namespaced || context.kind.resource.origin == Origin::Review {
        return Ok(());
    }
    let name = &context.namespace;
    let resource = &context.kind.resource;
    let key = Key::new(&Arc::from("/namespaces"), "", name);
    match transaction.get(&key) {
        None => Err(Status::not_found("", "namespaces", name)),
        Some(namespace) if namespace.is_terminating() => Err(Status::forbidden(
            &resource.group,
            &resource.plural,
            value.name(),
            format!("unable to create new content in namespace {name} because it is being terminated"),
        )),
        Some(_) => Ok(()),
    }
}
