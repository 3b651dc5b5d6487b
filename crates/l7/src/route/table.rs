//! The rules of one parent (a service, or a listener of a gateway) in the order in which they win, with an index by path.
//!
//! Gateway API's routes go by rank, whatever object they are from; a virtual service's rules follow in the order in which they
//! stand. A look-up costs what the request's path costs, not what the number of routes does.

use super::{
    Head,
    matcher::{Matcher, Path, Rank},
    rule::Rule,
};
use model::Str;
use std::{cmp::Reverse, collections::HashMap, sync::Arc};

/// What a host must be for a rule to count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Any,
    /// One or more labels before this, which begins with a dot.
    Below(Str),
    Exact(Str),
}

impl Host {
    pub(crate) fn new(text: &str) -> Self {
        match text.strip_prefix('*') {
            Some("") => Self::Any,
            Some(rest) => Self::Below(rest.to_ascii_lowercase().into()),
            None => Self::Exact(text.to_ascii_lowercase().into()),
        }
    }

    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Exact(name) => host == &**name,
        }
    }

    /// Exact before wildcard, longer before shorter.
    fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Exact(_) => (0, Reverse(0)),
            Self::Below(suffix) => (1, Reverse(suffix.len())),
            Self::Any => (2, Reverse(0)),
        }
    }

    /// What both allow, if anything: the more exact of the two.
    pub(crate) fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, other) | (other, Self::Any) => Some(other.clone()),
            (Self::Exact(name), other) | (other, Self::Exact(name)) => {
                other.matches(name).then(|| Self::Exact(name.clone()))
            }
            (Self::Below(one), Self::Below(two)) if one.ends_with(&**two) => Some(Self::Below(one.clone())),
            (Self::Below(one), Self::Below(two)) if two.ends_with(&**one) => Some(Self::Below(two.clone())),
            (Self::Below(_), Self::Below(_)) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) host: Host,
    pub(super) port: Option<u16>,
    pub(super) matcher: Matcher,
    pub(super) rule: Arc<Rule>,
    /// Position of its rule in its route, and of the match in its rule.
    pub(super) position: (usize, usize),
    /// In the order of the file rather than by rank.
    pub(super) in_order: bool,
}

/// The rules of one parent.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    exact: HashMap<Str, Vec<usize>>,
    segments: HashMap<Str, Vec<usize>>,
    /// Everything that is not found by path.
    rest: Vec<usize>,
}

/// A rule, and how many bytes of the path its prefix took.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The rule.
    pub rule: Arc<Rule>,
    /// What a rewriting of the prefix replaces.
    pub prefix: usize,
}

type Order<'a> = ((bool, (u8, Reverse<usize>)), Option<Rank>, i64, &'a str, &'a str, (usize, usize));

impl Table {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|one, two| order(one).cmp(&order(two)));
        let mut table = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            match &entry.matcher.path {
                Path::Exact(path) => table.exact.entry(path.clone()).or_default().push(index),
                Path::Segments(prefix) => table.segments.entry(prefix.clone()).or_default().push(index),
                _ => table.rest.push(index),
            }
        }
        table.entries = entries;
        table
    }

    /// Whether any rule speaks of a port.
    pub fn concerns(&self, port: u16) -> bool {
        self.entries.iter().any(|entry| entry.port.is_none_or(|own| own == port))
    }

    /// The rule that wins.
    pub fn select(&self, head: &Head<'_>) -> Option<Selected> {
        let mut best = self.exact.get(head.path).and_then(|list| self.first(list, head));
        let mut consider = |list: &[usize]| {
            let found = self.first(list, head);
            best = match (best, found) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            };
        };
        consider(&self.rest);
        if !self.segments.is_empty() {
            let ends = head.path.match_indices('/').map(|(at, _)| at).chain([head.path.len()]);
            for end in ends.filter(|end| *end > 0) {
                if let Some(list) = self.segments.get(&head.path[..end]) {
                    consider(list);
                }
            }
        }
        let entry = &self.entries[best?];
        Some(Selected { rule: entry.rule.clone(), prefix: entry.matcher.path.prefix() })
    }

    fn first(&self, list: &[usize], head: &Head<'_>) -> Option<usize> {
        list.iter().copied().find(|index| {
            let entry = &self.entries[*index];
            entry.port.is_none_or(|port| port == head.port)
                && entry.host.matches(head.host())
                && entry.matcher.matches(head)
        })
    }
}

fn order(entry: &Entry) -> Order<'_> {
    let origin = &entry.rule.origin;
    let rank = (!entry.in_order).then(|| entry.matcher.rank());
    ((entry.in_order, entry.host.rank()), rank, origin.created, &origin.namespace, &origin.name, entry.position)
}
