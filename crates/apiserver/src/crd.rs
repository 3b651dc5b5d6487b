//! Custom resource definitions: from the object to a served resource.
//!
//! A definition with a broken schema is refused; one that was stored by an earlier release and cannot be read any more says so
//! in its conditions and is not served. Nothing else is touched by either.

use crate::api::Api;
use crate::catalog::{Catalog, Column, Origin, Resource, ScalePaths, Version, version_rank};
use crate::object::{Object, timestamp};
use crate::schema::structural;
use crate::status::Cause;
use crate::table::Path;
use serde_json::{Value, json};
use std::sync::Arc;

/// Names that follow from others.
pub(crate) fn complete(definition: &mut Value) {
    let kind = definition.text("/spec/names/kind").to_owned();
    let Some(names) = definition.pointer_mut("/spec/names").filter(|names| names.is_object()) else { return };
    if names.text("/singular").is_empty() {
        names["singular"] = kind.to_lowercase().into();
    }
    if names.text("/listKind").is_empty() {
        names["listKind"] = format!("{kind}List").into();
    }
}

/// Rules on the definition.
pub(crate) fn validate(definition: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in ["group", "scope", "names/kind", "names/plural"] {
        if definition.text(&format!("/spec/{field}")).is_empty() {
            causes.push(Cause::required(format!("spec.{}", field.replace('/', ".")), ""));
        }
    }
    let expected = format!("{}.{}", definition.text("/spec/names/plural"), definition.text("/spec/group"));
    if definition.name() != expected {
        causes.push(Cause::invalid(
            "metadata.name",
            &definition.name().into(),
            format!("must be spec.names.plural+\".\"+spec.group ({expected})"),
        ));
    }
    let scopes = ["Cluster", "Namespaced"].map(Value::from);
    if !definition.text("/spec/scope").is_empty() && !scopes.contains(&definition["spec"]["scope"]) {
        causes.push(Cause::unsupported("spec.scope", &definition["spec"]["scope"], &scopes));
    }
    let versions = definition.list("/spec/versions");
    if versions.is_empty() {
        causes.push(Cause::required("spec.versions", "must have at least one version"));
    } else if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        causes.push(Cause::invalid(
            "spec.versions",
            &"".into(),
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        if version.text("/name").is_empty() {
            causes.push(Cause::required(format!("spec.versions[{index}].name"), ""));
        }
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            causes.push(Cause::required(
                format!("spec.versions[{index}].schema.openAPIV3Schema"),
                "schemas are required",
            ));
        }
    }
    if causes.is_empty()
        && let Err(problem) = resource(definition)
    {
        let (field, message) = problem.split_once(": ").unwrap_or(("spec", &problem));
        causes.push(Cause { field: field.to_owned(), reason: "FieldValueInvalid", message: message.to_owned() });
    }
    if let Some(old) = old {
        for field in ["group", "scope"] {
            if old["spec"][field] != definition["spec"][field] {
                causes.push(Cause::invalid(format!("spec.{field}"), &definition["spec"][field], "field is immutable"));
            }
        }
    }
    causes
}

/// Writes into the status whether the definition can be served, and why not.
pub(crate) fn judge(catalog: &Catalog, definition: &mut Value) {
    let problem = resource(definition).err();
    let clash = clash(catalog, definition);
    let names = definition["spec"]["names"].clone();
    let stored: Vec<Value> = definition
        .list("/spec/versions")
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    let accepted = match &clash {
        None => condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some(clash) => condition("NamesAccepted", false, "PluralConflict", clash),
    };
    let established = match (&clash, &problem) {
        (Some(_), _) => condition("Established", false, "NotAccepted", "not all names are accepted"),
        (None, Some(_)) => condition(
            "Established",
            false,
            "NonStructuralSchema",
            "the schema cannot be served, see NonStructuralSchema",
        ),
        (None, None) => condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted"),
    };
    let mut conditions = vec![accepted, established];
    if let Some(problem) = problem {
        conditions.push(condition("NonStructuralSchema", true, "Violations", &problem));
    }
    for new in &mut conditions {
        let old = definition.list("/status/conditions").iter().find(|old| old["type"] == new["type"]);
        if let Some(old) = old.filter(|old| old["status"] == new["status"]) {
            new["lastTransitionTime"] = old["lastTransitionTime"].clone();
        }
    }
    definition["status"] = json!({"acceptedNames": names, "conditions": conditions, "storedVersions": stored});
}

fn condition(form: &str, holds: bool, reason: &str, message: &str) -> Value {
    json!({"type": form, "status": if holds { "True" } else { "False" }, "reason": reason, "message": message,
        "lastTransitionTime": timestamp()})
}

/// Names that another resource of the group has already.
fn clash(catalog: &Catalog, definition: &Value) -> Option<String> {
    let (group, plural) = (definition.text("/spec/group"), definition.text("/spec/names/plural"));
    if let Some(built_in) = catalog.resource(group, plural).filter(|known| known.origin != Origin::Custom) {
        return Some(format!("\"{}\" is built in", built_in.plural));
    }
    let kind = definition.text("/spec/names/kind");
    catalog
        .resources()
        .find(|known| known.group == group && known.plural != plural && known.kind == kind)
        .map(|known| format!("kind \"{kind}\" is already in use by {}", known.plural))
}

/// The resource that a definition describes; the first problem of its schemas otherwise.
pub(crate) fn resource(definition: &Value) -> Result<Resource, String> {
    let text = |pointer: &str| definition.text(pointer).to_owned();
    let texts = |pointer: &str| -> Vec<String> {
        definition.list(pointer).iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
    };
    let mut versions = Vec::new();
    for (index, version) in definition.list("/spec/versions").iter().enumerate() {
        if version["served"] == true {
            versions.push(read_version(version, &format!("spec.versions[{index}]"))?);
        }
    }
    versions.sort_by_key(|version| std::cmp::Reverse(version_rank(&version.name)));
    let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
    Ok(Resource {
        storage: format!("{group}/{plural}").into(),
        singular: text("/spec/names/singular"),
        kind: text("/spec/names/kind"),
        list_kind: text("/spec/names/listKind"),
        short_names: texts("/spec/names/shortNames"),
        categories: texts("/spec/names/categories"),
        namespaced: definition.text("/spec/scope") == "Namespaced",
        origin: Origin::Custom,
        group,
        plural,
        versions,
    })
}

fn read_version(version: &Value, path: &str) -> Result<Version, String> {
    let schema = version.pointer("/schema/openAPIV3Schema").ok_or_else(|| format!("{path}.schema: Required value"))?;
    let schema = structural::parse(schema).map_err(|error| format!("{path}.schema.{error}"))?;
    let mut columns = Vec::new();
    for (index, column) in version.list("/additionalPrinterColumns").iter().enumerate() {
        let place = column.text("/jsonPath").to_owned();
        Path::parse(&place).map_err(|error| format!("{path}.additionalPrinterColumns[{index}].jsonPath: {error}"))?;
        columns.push(Column {
            name: column.text("/name").to_owned(),
            form: column.text("/type").to_owned(),
            format: column.text("/format").to_owned(),
            description: column.text("/description").to_owned(),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: place,
        });
    }
    let scale = version.pointer("/subresources/scale").map(|scale| ScalePaths {
        spec: scale.text("/specReplicasPath").to_owned(),
        status: scale.text("/statusReplicasPath").to_owned(),
        selector: Some(scale.text("/labelSelectorPath").to_owned()).filter(|path| !path.is_empty()),
    });
    let mut subresources = Vec::new();
    if version.pointer("/subresources/status").is_some() {
        subresources.push("status".to_owned());
    }
    if scale.is_some() {
        subresources.push("scale".to_owned());
    }
    let deprecation = (version["deprecated"] == true).then(|| match version.text("/deprecationWarning") {
        "" => format!("version {} is deprecated", version.text("/name")),
        warning => warning.to_owned(),
    });
    Ok(Version {
        name: version.text("/name").to_owned(),
        schema: Arc::new(schema),
        subresources,
        columns,
        scale,
        deprecation,
    })
}

/// Serves what a definition says from now on, or no longer.
pub(crate) fn registered(api: &Api, old: Option<&Value>, new: Option<&Value>) {
    if let Some(new) = new.filter(|new| established(new)) {
        match resource(new) {
            Ok(resource) if resource.versions.is_empty() => {
                api.change_catalog(|catalog| catalog.without(&resource.group, &resource.plural));
            }
            Ok(resource) => api.change_catalog(|catalog| catalog.with(resource)),
            Err(problem) => tracing::warn!(definition = new.name(), problem, "a custom resource cannot be served"),
        }
        return;
    }
    let gone = new.or(old);
    if let Some(gone) = gone {
        let (group, plural) = (gone.text("/spec/group"), gone.text("/spec/names/plural"));
        if api.catalog().resource(group, plural).is_some_and(|known| known.origin == Origin::Custom) {
            api.change_catalog(|catalog| catalog.without(group, plural));
        }
    }
}

fn established(definition: &Value) -> bool {
    definition
        .list("/status/conditions")
        .iter()
        .any(|condition| condition.text("/type") == "Established" && condition.text("/status") == "True")
}
