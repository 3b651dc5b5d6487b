//! Which resources are served: the built-in kinds (`data/kinds.txt`) and the custom ones registered so far.
//!
//! A [`Catalog`] is immutable; registering a custom resource makes a new one.

use crate::schema::{Schema, builtin};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

const KINDS: &str = include_str!("../data/kinds.txt");

/// How a resource came to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    /// Answered, never stored.
    Review,
    /// Known by name only.
    Unserved,
    Custom,
}

/// A column that a custom resource adds to its table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) form: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: String,
}

/// Where a custom resource keeps what `scale` shows.
#[derive(Clone, Debug)]
pub(crate) struct ScalePaths {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// One version of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) schema: Arc<Schema>,
    pub(crate) subresources: Vec<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) deprecation: Option<String>,
}

/// A resource: a group and a plural name, with every version that is served, the preferred one first.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) origin: Origin,
    pub(crate) versions: Vec<Version>,
    /// Where its objects live; events of both groups are the same objects.
    pub(crate) storage: Arc<str>,
}

impl Resource {
    /// The verbs that apply to it.
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        match self.origin {
            Origin::Review | Origin::Unserved => &["create"],
            _ => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }
    }
}

/// One version of one resource.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) resource: Arc<Resource>,
    index: usize,
}

impl Kind {
    pub(crate) fn version(&self) -> &Version {
        &self.resource.versions[self.index]
    }

    /// `group/version`, or the version alone for the core group.
    pub(crate) fn api_version(&self) -> String {
        group_version(&self.resource.group, &self.version().name)
    }

    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.version().schema
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.resource.origin == Origin::Custom
    }

    pub(crate) fn has_subresource(&self, name: &str) -> bool {
        self.version().subresources.iter().any(|subresource| subresource == name)
    }

    /// Whether it is this built-in kind.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }
}

/// `group/version`, or the version alone for the core group.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Every resource that is served.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    resources: BTreeMap<(String, String), Arc<Resource>>,
}

impl Catalog {
    /// The built-in kinds alone.
    pub(crate) fn built_in() -> Self {
        static TABLE: OnceLock<Catalog> = OnceLock::new();
        TABLE.get_or_init(|| Self { resources: read_kinds(KINDS) }).clone()
    }

    /// The same with one resource more, or another in its place.
    pub(crate) fn with(&self, resource: Resource) -> Self {
        let mut resources = self.resources.clone();
        resources.insert((resource.group.clone(), resource.plural.clone()), Arc::new(resource));
        Self { resources }
    }

    /// The same without a resource.
    pub(crate) fn without(&self, group: &str, plural: &str) -> Self {
        let mut resources = self.resources.clone();
        resources.remove(&(group.to_owned(), plural.to_owned()));
        Self { resources }
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    pub(crate) fn resource(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&(group.to_owned(), plural.to_owned()))
    }

    /// One version of a resource.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Kind> {
        let resource = self.resource(group, plural)?;
        let index = resource.versions.iter().position(|served| served.name == version)?;
        Some(Kind { resource: Arc::clone(resource), index })
    }

    /// The preferred version of a built-in kind that is known to exist.
    pub(crate) fn preferred(&self, group: &str, plural: &str) -> Option<Kind> {
        self.resource(group, plural).map(|resource| Kind { resource: Arc::clone(resource), index: 0 })
    }

    /// The resource whose objects live at a storage key.
    pub(crate) fn stored_at(&self, storage: &str) -> Option<Kind> {
        let (group, plural) = storage.split_once('/')?;
        self.preferred(group, plural)
    }

    /// Groups in the order of discovery, each with its versions, the preferred one first.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for resource in self.resources.values() {
            let versions = groups.entry(&resource.group).or_default();
            for version in &resource.versions {
                if !versions.contains(&version.name.as_str()) {
                    versions.push(&version.name);
                }
            }
        }
        groups
            .into_iter()
            .map(|(group, mut versions)| {
                versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
                (group.to_owned(), versions.into_iter().map(str::to_owned).collect())
            })
            .collect()
    }
}

/// Kubernetes' order of versions: stable before beta before alpha, then the larger numbers; anything else last.
pub(crate) fn version_rank(version: &str) -> (u8, u32, u32) {
    let parse = |text: &str| -> Option<(u8, u32, u32)> {
        let rest = text.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        match &rest[digits..] {
            "" => Some((3, major, 0)),
            tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                (Some(minor), _) => Some((2, major, minor.parse().ok()?)),
                (_, Some(minor)) => Some((1, major, minor.parse().ok()?)),
                _ => None,
            },
        }
    };
    parse(version).unwrap_or((0, 0, 0))
}

fn read_kinds(text: &str) -> BTreeMap<(String, String), Arc<Resource>> {
    let list = |word: &str| -> Vec<String> {
        if word == "-" { Vec::new() } else { word.split(',').map(str::to_owned).collect() }
    };
    let mut resources = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [gv, kind, plural, singular, scope, short, categories, flags, subresources, block] = words[..] else {
            unreachable!("the table of kinds has ten columns: {line}");
        };
        let (group, version) = gv.split_once('/').unwrap_or(("", gv));
        let origin = match flags {
            "review" => Origin::Review,
            "unserved" => Origin::Unserved,
            _ => Origin::BuiltIn,
        };
        let schema = builtin::types().get(block).cloned().unwrap_or_else(|| Arc::new(Schema::free_form()));
        let storage = if plural == "events" { "/events".into() } else { format!("{group}/{plural}").into() };
        let version = Version {
            name: version.to_owned(),
            schema,
            subresources: list(subresources),
            columns: Vec::new(),
            scale: None,
            deprecation: None,
        };
        let resource = Resource {
            group: group.to_owned(),
            plural: plural.to_owned(),
            singular: singular.to_owned(),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            short_names: list(short),
            categories: list(categories),
            namespaced: scope == "namespaced",
            origin,
            versions: vec![version],
            storage,
        };
        resources.insert((group.to_owned(), plural.to_owned()), Arc::new(resource));
    }
    resources
}

/// Rewrites an object's version to the one it was asked for.
pub(crate) fn present(value: &mut Value, kind: &Kind) {
    if kind.is_custom() && kind.resource.versions.len() > 1 {
        value["apiVersion"] = kind.api_version().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_kinds_are_found_by_group_and_version() {
        let catalog = Catalog::built_in();
        let pods = catalog.find("", "v1", "pods").unwrap();
        assert!(pods.resource.namespaced && pods.has_subresource("log"));
        assert!(catalog.find("apps", "v1beta1", "deployments").is_none());
        assert_eq!(catalog.find("apps", "v1", "statefulsets").unwrap().resource.origin, Origin::Unserved);
    }

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = ["v1alpha1", "v2", "v1beta2", "foo", "v1", "v1beta10"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v2", "v1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
    }
}
