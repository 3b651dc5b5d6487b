//! What a client can find out about the resources that are served.

use crate::catalog::{Catalog, Kind, Resource, Version, group_version};
use serde_json::{Value, json};
use std::sync::Arc;

/// The media type of discovery in one document.
pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/version`.
pub(crate) fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": format!("v1.34.0+ambit-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" })})
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

fn group(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(name, version), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

/// `/apis`.
pub(crate) fn groups(catalog: &Catalog) -> Value {
    let groups: Vec<Value> = catalog
        .groups()
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| group(name, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/{group}`.
pub(crate) fn one_group(catalog: &Catalog, name: &str) -> Option<Value> {
    let (name, versions) = catalog.groups().into_iter().find(|(group, _)| group == name && !group.is_empty())?;
    let mut group = group(&name, &versions);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn in_version<'a>(catalog: &'a Catalog, group: &'a str, version: &'a str) -> impl Iterator<Item = Kind> + 'a {
    catalog
        .resources()
        .filter(move |resource| resource.group == group)
        .filter_map(move |resource| catalog.find(group, version, &resource.plural))
}

/// `/apis/{group}/{version}`.
pub(crate) fn resources(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for kind in in_version(catalog, group, version) {
        let resource = &kind.resource;
        let mut entry = json!({"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs()});
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        list.push(entry);
        for subresource in &kind.version().subresources {
            let part = Subresource::of(resource, subresource);
            let mut entry = json!({"name": format!("{}/{subresource}", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": part.kind, "verbs": part.verbs});
            if let Some((group, version)) = part.elsewhere {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            list.push(entry);
        }
    }
    (!list.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": list})
    })
}

/// The kind and verbs of a subresource.
struct Subresource {
    kind: String,
    verbs: &'static [&'static str],
    elsewhere: Option<(&'static str, &'static str)>,
}

impl Subresource {
    fn of(resource: &Arc<Resource>, name: &str) -> Self {
        let of = |kind: &str, verbs, elsewhere| Self { kind: kind.to_owned(), verbs, elsewhere };
        match name {
            "scale" => of("Scale", &["get", "patch", "update"], Some(("autoscaling", "v1"))),
            "token" => of("TokenRequest", &["create"], Some(("authentication.k8s.io", "v1"))),
            "eviction" => of("Eviction", &["create"], Some(("policy", "v1"))),
            "binding" => of("Binding", &["create"], None),
            "log" => of("Pod", &["get"], None),
            "exec" => of("PodExecOptions", &["create", "get"], None),
            "attach" => of("PodAttachOptions", &["create", "get"], None),
            "portforward" => of("PodPortForwardOptions", &["create", "get"], None),
            "finalize" => of("Namespace", &["update"], None),
            _ => of(&resource.kind, &["get", "patch", "update"], None),
        }
    }
}

/// Everything in one document (`apidiscovery.k8s.io/v2`): the core group alone, or all the others.
pub(crate) fn aggregated(catalog: &Catalog, core: bool) -> Value {
    let items: Vec<Value> = catalog
        .groups()
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        in_version(catalog, name, version).map(|kind| described(&kind)).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if name.is_empty() {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": name, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn described(kind: &Kind) -> Value {
    let (resource, version): (&Arc<Resource>, &Version) = (&kind.resource, kind.version());
    let own = |name: &str| json!({"group": resource.group, "version": version.name, "kind": name});
    let mut entry = json!({"resource": resource.plural, "singularResource": resource.singular,
        "responseKind": own(&resource.kind), "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": resource.verbs()});
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let parts: Vec<Value> = version
        .subresources
        .iter()
        .map(|name| {
            let part = Subresource::of(resource, name);
            let response = match part.elsewhere {
                Some((group, version)) => json!({"group": group, "version": version, "kind": part.kind}),
                None => own(&part.kind),
            };
            json!({"subresource": name, "responseKind": response, "verbs": part.verbs})
        })
        .collect();
    if !parts.is_empty() {
        entry["subresources"] = parts.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_by_every_way_of_asking() {
        let catalog = Catalog::built_in();
        let list = resources(&catalog, "", "v1").unwrap();
        let pods = list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "pods").unwrap();
        assert_eq!(pods["shortNames"], json!(["po"]));
        let all = aggregated(&catalog, true);
        assert!(all.to_string().contains(r#""resource":"pods""#));
        assert!(resources(&catalog, "nobody", "v1").is_none());
    }
}
