//! Sets of field paths, in the shape of `fieldsV1`.
//!
//! A path is made of elements: `f:name` a field, `k:{…}` an element of a list by its keys, `v:…` an element of a set by its
//! value, `i:0` by its place. A node of the tree can be in the set itself and have members below it.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Deeper sets are refused.
const DEEPEST: usize = 128;

/// A set of paths below one point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// The point itself is in the set.
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, Self>,
}

/// The element for a field.
pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The element for a member of a set.
pub(super) fn value(value: &Value) -> String {
    format!("v:{value}")
}

/// The element for keys and their values, in the order of the keys.
pub(super) fn keys(pairs: impl IntoIterator<Item = (String, Value)>) -> String {
    let sorted: BTreeMap<String, Value> = pairs.into_iter().collect();
    let map: Map<String, Value> = sorted.into_iter().collect();
    format!("k:{}", Value::Object(map))
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Puts a set at a path element, unless it is empty.
    pub(super) fn attach(&mut self, element: String, set: Self) {
        if !set.is_empty() {
            self.children.insert(element, set);
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.member |= other.member;
        for (element, set) in &other.children {
            let merged = out.children.get(element).map_or_else(|| set.clone(), |own| own.union(set));
            out.children.insert(element.clone(), merged);
        }
        out
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.combine(other, |own, theirs| own && !theirs, |own| own.cloned())
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |own, theirs| own && theirs, |_| None)
    }

    fn combine(
        &self,
        other: &Self,
        member: impl Fn(bool, bool) -> bool + Copy,
        alone: impl Fn(Option<&Self>) -> Option<Self> + Copy,
    ) -> Self {
        let mut out = Self { member: member(self.member, other.member), children: BTreeMap::new() };
        for (element, own) in &self.children {
            let set = match other.children.get(element) {
                Some(theirs) => Some(own.combine(theirs, member, alone)),
                None => alone(Some(own)),
            };
            if let Some(set) = set {
                out.attach(element.clone(), set);
            }
        }
        out
    }

    /// Removes everything at and below a path of fields.
    pub(super) fn drop_path(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(&field(last));
            }
            [first, rest @ ..] => {
                if let Some(inner) = self.children.get_mut(&field(first)) {
                    inner.drop_path(rest);
                }
            }
        }
    }

    /// Every path in the set, written for people.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.to_owned());
        }
        for (element, set) in &self.children {
            set.collect_paths(&format!("{prefix}{}", shown(element)), paths);
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (element, set) in self.children.iter().filter(|(_, set)| !set.is_empty()) {
            map.insert(element.clone(), set.to_json());
        }
        Value::Object(map)
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let mut set = Self::read(value, 0)?;
        // An empty object at the root is the empty set, elsewhere it is a member.
        set.member = false;
        Some(set)
    }

    fn read(value: &Value, depth: usize) -> Option<Self> {
        let fields = value.as_object().filter(|_| depth < DEEPEST)?;
        let mut set = Self { member: fields.is_empty() || fields.contains_key("."), children: BTreeMap::new() };
        for (element, inner) in fields.iter().filter(|(element, _)| *element != ".") {
            set.children.insert(canonical(element)?, Self::read(inner, depth + 1)?);
        }
        Some(set)
    }
}

/// One way of writing each path element.
fn canonical(element: &str) -> Option<String> {
    match element.split_once(':')? {
        ("f" | "i", _) => Some(element.to_owned()),
        ("v", text) => Some(value(&serde_json::from_str(text).ok()?)),
        ("k", text) => match serde_json::from_str(text).ok()? {
            Value::Object(pairs) => Some(keys(pairs)),
            _ => None,
        },
        _ => None,
    }
}

fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", text)) => match serde_json::from_str(text) {
            Ok(Value::Object(pairs)) => {
                let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", pairs.join(","))
            }
            _ => format!("[{text}]"),
        },
        Some(("v", text)) => format!("[={text}]"),
        Some((_, text)) => format!("[{text}]"),
        None => element.to_owned(),
    }
}
