//! Sets, maps and verdict maps.

use super::Verdict;
use super::field::{Field, FieldKind};

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Being there is all (sets).
    Member,
    /// Other values (maps).
    Fields(Vec<Field>),
    /// What becomes of the packet (verdict maps).
    Verdict(Verdict),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// What is looked up.
    pub key: Vec<Field>,
    /// What is found.
    pub value: Value,
    /// A remark kept with it.
    pub comment: Option<String>,
}

impl Element {
    /// A member of a set.
    pub fn member(key: impl Into<Vec<Field>>) -> Self {
        Self { key: key.into(), value: Value::Member, comment: None }
    }

    /// An entry of a map.
    pub fn map(key: impl Into<Vec<Field>>, value: impl Into<Vec<Field>>) -> Self {
        Self { key: key.into(), value: Value::Fields(value.into()), comment: None }
    }

    /// An entry of a verdict map.
    pub fn verdict(key: impl Into<Vec<Field>>, verdict: Verdict) -> Self {
        Self { key: key.into(), value: Value::Verdict(verdict), comment: None }
    }

    /// Keeps a remark with it.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

/// What the keys of a set lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Members,
    Fields(Vec<FieldKind>),
    Verdicts,
}

/// A set, map or verdict map. Elements are kept in order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub(super) name: String,
    pub(super) key: Vec<FieldKind>,
    pub(super) content: Content,
    pub(super) elements: Vec<Element>,
}

impl Set {
    /// A set of keys.
    pub fn new(name: impl Into<String>, key: impl Into<Vec<FieldKind>>) -> Self {
        Self { name: name.into(), key: key.into(), content: Content::Members, elements: Vec::new() }
    }

    /// A map from keys to values.
    pub fn map(name: impl Into<String>, key: impl Into<Vec<FieldKind>>, value: impl Into<Vec<FieldKind>>) -> Self {
        Self { content: Content::Fields(value.into()), ..Self::new(name, key) }
    }

    /// A map from keys to verdicts.
    pub fn verdicts(name: impl Into<String>, key: impl Into<Vec<FieldKind>>) -> Self {
        Self { content: Content::Verdicts, ..Self::new(name, key) }
    }

    /// Adds elements.
    #[must_use]
    pub fn elements(mut self, elements: impl IntoIterator<Item = Element>) -> Self {
        self.elements.extend(elements);
        self.elements.sort();
        self
    }

    /// Its name in the table; empty for one that lives in a rule.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its elements, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Element> {
        self.elements.iter()
    }
}

/// The set that a rule looks into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetRef {
    /// One of the table's.
    Named(String),
    /// One of the rule's own, which cannot be changed.
    Anonymous(Box<Set>),
}

impl From<&str> for SetRef {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl From<String> for SetRef {
    fn from(name: String) -> Self {
        Self::Named(name)
    }
}

impl From<Set> for SetRef {
    /// The set's name is forgotten.
    fn from(mut set: Set) -> Self {
        set.name.clear();
        Self::Anonymous(Box::new(set))
    }
}
