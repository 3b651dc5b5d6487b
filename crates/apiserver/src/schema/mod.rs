//! What a kind's fields are: one shape for built-in kinds (from `data/types.txt`) and custom resources (structural schemas).
//!
//! A [`Schema`] is a tree shared by reference. The walks over it live beside it: [`prune`] drops and reports what is not
//! declared, [`defaults`] fills in, [`validate`] checks values, [`openapi`] prints it for clients,
//! [`wire`] reads the binary encoding. How lists and maps merge is
//! said here and done in `patch` and `apply`.

pub(crate) mod builtin;
pub(crate) mod defaults;
pub(crate) mod openapi;
pub(crate) mod prune;
pub(crate) mod structural;
pub(crate) mod validate;
pub(crate) mod wire;

use indexmap::IndexMap;
use serde_json::Value;
use std::sync::Arc;

/// The form of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
    Quantity,
}

/// How the elements of a list are told apart when two owners share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum List {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Objects told apart by these fields.
    Map(Vec<String>),
}

/// How a strategic merge patch treats a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// The field that tells objects apart; lists of scalars have none.
    pub(crate) key: Option<String>,
}

/// The fields of a value and the rules they keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    /// The block of `types.txt` this comes from.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) form: Form,
    pub(crate) format: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) properties: IndexMap<String, Arc<Self>>,
    pub(crate) additional: Option<Arc<Self>>,
    pub(crate) items: Option<Arc<Self>>,
    pub(crate) required: Vec<String>,
    pub(crate) default: Option<Value>,
    pub(crate) nullable: bool,
    pub(crate) preserve_unknown: bool,
    /// A whole object with apiVersion, kind and metadata of its own.
    pub(crate) embedded: bool,
    pub(crate) list: List,
    pub(crate) atomic_map: bool,
    pub(crate) merge: Option<Merge>,
    pub(crate) retain_keys: bool,
    pub(crate) limits: Limits,
    pub(crate) logic: Logic,
    /// How its fields are numbered in the binary encoding.
    pub(crate) wire: Vec<wire::Number>,
}

/// Bounds on a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) enumeration: Option<Vec<Value>>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) unique_items: bool,
    pub(crate) pattern: Option<regex::Regex>,
}

/// Rules made of other rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logic {
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
}

impl Schema {
    /// A value of this form about which nothing else is known.
    pub(crate) fn of(form: Form) -> Self {
        Self { form, ..Self::default() }
    }

    /// Whatever it is, it is kept.
    pub(crate) fn free_form() -> Self {
        Self { form: Form::Object, preserve_unknown: true, ..Self::default() }
    }

    /// The schema of a field of an object.
    pub(crate) fn field(&self, name: &str) -> Option<&Arc<Self>> {
        self.properties.get(name).or(self.additional.as_ref())
    }

    /// The default of a map key that an element leaves out.
    pub(crate) fn element_default(&self, key: &str) -> Option<&Value> {
        self.items.as_ref()?.properties.get(key)?.default.as_ref()
    }

    /// The schema at a dotted path, for tests and explanations.
    #[cfg(test)]
    pub(crate) fn at(&self, path: &str) -> &Self {
        path.split('.').fold(self, |schema, part| match part {
            "[]" => schema.items.as_deref().unwrap(),
            name => schema.field(name).unwrap(),
        })
    }
}
