//! How a resource type is declared: every field optional on read, left out when empty on write.

/// Declares structs whose fields all have Kubernetes' reading: absent means the default, and the default is not written.
///
/// A value whose default differs from its absence (replicas, an `emptyDir: {}`) is an `Option`.
///
/// Where the wire requires fields even when they say nothing, the struct is declared by `whole_object`.
macro_rules! object {
    ($( $(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? } )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[allow(missing_docs, reason = "the fields are the API's own, with its names and meaning")]
        pub struct $name {
            $( $(#[$field_meta])* #[serde(skip_serializing_if = "crate::json::is_default")] pub $field: $ty, )*
        }
    )* };
}

/// Declares structs like [`object`] whose fields are all written unless they say otherwise themselves.
macro_rules! whole_object {
    ($( $(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? } )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[allow(missing_docs, reason = "the fields are the API's own, with its names and meaning")]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }
    )* };
}

/// Says what a type is called on the wire: `resource!(Pod, "" / "v1", "pods", namespaced)`.
macro_rules! resource {
    ($name:ident, $group:literal / $version:literal, $plural:literal, $scope:ident) => {
        resource!($name as stringify!($name), $group / $version, $plural, $scope);
    };
    ($name:ident as $kind:expr, $group:literal / $version:literal, $plural:literal, $scope:ident) => {
        impl crate::Resource for $name {
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const KIND: &'static str = $kind;
            const PLURAL: &'static str = $plural;
            const NAMESPACED: bool = resource!(@ $scope);

            fn metadata(&self) -> &crate::ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut crate::ObjectMeta {
                &mut self.metadata
            }
        }
    };
    (@ namespaced) => {
        true
    };
    (@ cluster) => {
        false
    };
}

/// Declares a resource whose spec and status are kept as they were written.
macro_rules! opaque {
    ($( $(#[$meta:meta])* $name:ident as $kind:literal, $group:literal / $version:literal, $plural:literal, $scope:ident; )*) => { $(
        object! {
            $(#[$meta])*
            pub struct $name {
                metadata: crate::ObjectMeta,
                spec: serde_json::Value,
                status: serde_json::Value,
            }
        }
        resource!($name as $kind, $group / $version, $plural, $scope);
    )* };
}

pub(crate) use {object, opaque, resource, whole_object};
