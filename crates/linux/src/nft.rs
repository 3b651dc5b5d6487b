//! nftables, spoken to the kernel directly: no `nft` program, no waiting for other users' rules to be listed.
//! A [`Table`] is a value: families, sets, chains and rules, built in code, shown as text, compared with `==`, and
//! applied whole in one transaction, so that no packet ever sees half of it. [`read`] gives the kernel's table back
//! in the same shape. Big sets can be changed element by element. Which rules make sense is the caller's business.

mod action;
mod decode;
mod encode;
mod expr;
mod field;
mod kernel;
mod key;
mod rule;
mod set;
mod show;
mod wire;

pub use decode::understood;
pub use field::{Field, FieldKind};
pub use kernel::{add_elements, delete, delete_elements, elements, read, replace_elements, tables};
pub use key::{Key, Protocol};
pub use rule::Rule;
pub use set::{Element, Set, SetRef, Value};

use crate::error::Result;
use crate::netns::NetNs;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the chain that jumped here; from a base chain, its policy.
    Return,
    /// On with the next rule.
    Continue,
    /// On in another chain, and back here after it.
    Jump(String),
    /// On in another chain, and not back.
    Goto(String),
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Deciding about packets and marking them.
    Filter,
    /// Rewriting addresses; sees the first packet of a connection only.
    Nat,
    /// Like filter on output, with a new look at the routes when a mark changed.
    Route,
}

/// Where in the packet's way a base chain sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Arrived, not routed.
    Prerouting,
    /// For this machine.
    Input,
    /// Passing through.
    Forward,
    /// From this machine.
    Output,
    /// About to leave.
    Postrouting,
}

/// What makes a chain a base chain: the kernel calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What it is for.
    pub kind: ChainKind,
    /// Where it sits.
    pub hook: Hook,
    /// Chains of the same hook run from the lowest number.
    pub priority: i32,
    /// Whether packets that no rule decided about are dropped.
    pub drop_by_default: bool,
}

/// Rules in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the table.
    pub name: String,
    /// How the kernel comes to it; chains without this are jumped to.
    pub base: Option<Base>,
    /// Tried from the first.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain to be jumped to.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), base: None, rules: Vec::new() }
    }

    /// A chain that the kernel calls; packets that no rule decided about pass.
    pub fn base(name: impl Into<String>, kind: ChainKind, hook: Hook, priority: i32) -> Self {
        let base = Base { kind, hook, priority, drop_by_default: false };
        Self { name: name.into(), base: Some(base), rules: Vec::new() }
    }

    /// Adds a rule at the end.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds rules at the end.
    #[must_use]
    pub fn rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }
}

/// A table with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// Its name; nobody else's table may have the same.
    pub name: String,
    /// Its named sets and maps.
    pub sets: Vec<Set>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

impl Table {
    /// An empty table.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self { family, name: name.into(), sets: Vec::new(), chains: Vec::new() }
    }

    /// Adds a chain.
    #[must_use]
    pub fn chain(mut self, chain: Chain) -> Self {
        self.chains.push(chain);
        self
    }

    /// Adds a set or map.
    #[must_use]
    pub fn set(mut self, set: Set) -> Self {
        self.sets.push(set);
        self
    }

    /// Makes the kernel's table of this name in `ns` exactly this one, in one transaction.
    pub fn apply(&self, ns: &NetNs) -> Result<()> {
        apply(ns, std::slice::from_ref(self))
    }
}

/// Makes the kernel's tables of these names in `ns` exactly these, all in one transaction.
pub fn apply(ns: &NetNs, tables: &[Table]) -> Result<()> {
    kernel::apply(ns, tables)
}

/// Tries whether this kernel and this process's rights allow what the mesh needs in `ns`: a redirection of both IP
/// versions, made and taken away.
pub fn probe(ns: &NetNs) -> Result<()> {
    let name = format!("ambit-probe-{}", std::process::id());
    let redirect = |v6| Rule::new().ip_version(v6).tcp().mark_not(1, 1).redirect(1);
    let chain = Chain::new("probe").rule(redirect(false)).rule(redirect(true));
    let base = Chain::base("prerouting", ChainKind::Nat, Hook::Prerouting, -100);
    Table::new(Family::Inet, name.as_str()).chain(base).chain(chain).apply(ns)?;
    delete(ns, Family::Inet, &name)
}
