//! What an API server must know of a kind.

use serde_json::Value;

/// A kind and what an API server must know of it.
#[derive(Debug)]
pub struct Kind {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Short name for people; may be empty.
    pub short_name: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether there is a status subresource.
    pub has_status: bool,
    /// Versions; one is stored.
    pub versions: &'static [Version],
    /// Columns of a table.
    pub columns: &'static [Column],
    /// What objects look like.
    pub schema: Schema,
}

/// A version of a kind. All versions of a kind have the same schema.
#[derive(Debug)]
pub struct Version {
    /// Name.
    pub name: &'static str,
    /// Whether it can be read and written.
    pub served: bool,
    /// Whether objects are kept in it.
    pub storage: bool,
    /// Whether it is there only for objects that were kept in it long ago.
    pub deprecated: bool,
}

impl Version {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, served: true, storage: false, deprecated: false }
    }

    pub(super) const fn stored(self) -> Self {
        Self { storage: true, ..self }
    }

    pub(super) const fn retired(self) -> Self {
        Self { served: false, deprecated: true, ..self }
    }
}

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `date`.
    pub type_: &'static str,
    /// Where the value is.
    pub path: &'static str,
    /// Above 0 only in wide tables.
    pub priority: u8,
}

impl Column {
    pub(super) const fn new(name: &'static str, type_: &'static str, path: &'static str) -> Self {
        Self { name, type_, path, priority: 0 }
    }

    pub(super) const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// What objects of a kind look like.
#[derive(Debug)]
pub enum Schema {
    /// As our types say.
    Typed {
        /// Schema of `spec`.
        spec: fn() -> Value,
        /// Schema of `status`.
        status: fn() -> Value,
    },
    /// An object with a spec and a status that are kept as written.
    AsWritten,
}

impl Kind {
    /// The groups of kinds that `kubectl get` knows by one name.
    pub(super) fn categories(&self) -> Vec<String> {
        if self.group == crate::gateway::GROUP {
            return vec!["gateway-api".to_owned()];
        }
        vec!["istio-io".to_owned(), self.group.replace('.', "-")]
    }

    /// What a server or a tool wants to see on the definition.
    pub(super) fn annotations(&self) -> &'static [(&'static str, &'static str)] {
        if self.group != crate::gateway::GROUP {
            return &[];
        }
        &[
            // A server refuses kinds in a k8s.io group that do not name their approval.
            ("api-approved.kubernetes.io", "https://github.com/kubernetes-sigs/gateway-api/pull/2997"),
            ("gateway.networking.k8s.io/bundle-version", "v1.6.0"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ]
    }
}
