//! From tables, sets and rules to messages.

use super::expr::{Ct, Expr, Meta, PayloadBase, Reg, Reject, Relation};
use super::field::{join, joined_len, joined_type};
use super::set::{Content, Element, Set, SetRef, Value};
use super::wire::{Attrs, Message};
use super::{Base, Chain, ChainKind, Family, Hook, Rule, Table, Verdict};

/// How many elements go into one message: far below the 64 KiB that an attribute can hold.
const ELEMENTS_PER_MESSAGE: usize = 256;

/// `NFT_DATA_VERDICT`: what a verdict map's keys lead to.
pub(super) const VERDICT_TYPE: u32 = 0xffff_ff00;

pub(super) const SET_ANONYMOUS: u32 = 0x1;
const SET_CONSTANT: u32 = 0x2;
pub(super) const SET_MAP: u32 = 0x8;

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;

/// One message to send, with what it is about for error messages.
pub(super) struct Step<'a> {
    pub(super) message: Message,
    pub(super) flags: u16,
    pub(super) attrs: Attrs,
    pub(super) about: About<'a>,
}

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    Table,
    Chain(&'a str),
    Set(&'a str),
    Rule(&'a str, &'a Rule),
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Inet => libc::NFPROTO_INET as u8,
            Self::Ip => libc::NFPROTO_IPV4 as u8,
            Self::Ip6 => libc::NFPROTO_IPV6 as u8,
        }
    }
}

/// Everything that makes a table anew: what was there before goes in the same transaction.
pub(super) fn table(table: &Table) -> Vec<Step<'_>> {
    let step = |message, flags| {
        let mut attrs = Attrs::default();
        attrs.str(1, &table.name);
        Step { message, flags, attrs, about: About::Table }
    };
    // The first makes sure that the second finds something to delete.
    let mut steps = vec![step(Message::NewTable, CREATE), step(Message::DelTable, 0), step(Message::NewTable, CREATE)];
    // Chains before the verdicts that lead to them, sets before the rules that look into them.
    steps.extend(table.chains.iter().map(|it| chain(&table.name, it)));
    let mut ids = 1..;
    for set in &table.sets {
        steps.push(new_set(&table.name, set, &set.name, 0, ids.next().unwrap_or_default()));
        steps.extend(set_elements(Message::NewSetElem, &table.name, &set.name, None, &set.elements));
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            add_rule(table, chain, rule, &mut ids, &mut steps);
        }
    }
    steps
}

/// The message that deletes a table.
pub(super) fn delete_table(name: &str) -> Step<'_> {
    let mut attrs = Attrs::default();
    attrs.str(1, name);
    Step { message: Message::DelTable, flags: 0, attrs, about: About::Table }
}

fn chain<'a>(table: &str, chain: &'a Chain) -> Step<'a> {
    let mut attrs = Attrs::default();
    attrs.str(1, table).str(3, &chain.name);
    if let Some(base) = &chain.base {
        base_chain(&mut attrs, base);
    }
    Step { message: Message::NewChain, flags: CREATE, attrs, about: About::Chain(&chain.name) }
}

fn base_chain(attrs: &mut Attrs, base: &Base) {
    let kind = match base.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    };
    let hook = match base.hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    };
    attrs.nested(4, |attrs| {
        attrs.u32(1, hook).u32(2, base.priority.cast_unsigned());
    });
    attrs.u32(5, u32::from(!base.drop_by_default)).str(7, kind);
}

fn add_rule<'a>(
    table: &'a Table,
    chain: &'a Chain,
    rule: &'a Rule,
    ids: &mut impl Iterator<Item = u32>,
    steps: &mut Vec<Step<'a>>,
) {
    let mut list = Attrs::default();
    for expr in &rule.exprs {
        let own_set = own_set(expr).map(|set| {
            let (name, id) = (if set.content == Content::Members { "__set%d" } else { "__map%d" }, ids.next());
            let id = id.unwrap_or_default();
            steps.push(new_set(&table.name, set, name, SET_ANONYMOUS | SET_CONSTANT, id));
            steps.extend(set_elements(Message::NewSetElem, &table.name, name, Some(id), &set.elements));
            (name, id)
        });
        list.nested(1, |attrs| encode(attrs, expr, table.family, own_set));
    }
    let mut attrs = Attrs::default();
    attrs.str(1, &table.name).str(2, &chain.name).nested(4, |attrs| attrs.0.append(&mut list.0));
    if let Some(comment) = &rule.comment {
        attrs.bytes(7, &comment_bytes(comment));
    }
    let about = About::Rule(&chain.name, rule);
    steps.push(Step { message: Message::NewRule, flags: CREATE | APPEND, attrs, about });
}

fn own_set(expr: &Expr) -> Option<&Set> {
    match expr {
        Expr::Lookup { set, .. } | Expr::Map { set, .. } | Expr::VerdictMap { set, .. } => match set {
            SetRef::Anonymous(set) => Some(set),
            SetRef::Named(_) => None,
        },
        _ => None,
    }
}

fn new_set<'a>(table: &str, set: &'a Set, name: &str, flags: u32, id: u32) -> Step<'a> {
    let mut attrs = Attrs::default();
    let map = if set.content == Content::Members { 0 } else { SET_MAP };
    attrs.str(1, table).str(2, name).u32(3, flags | map);
    attrs.u32(4, joined_type(&set.key)).u32(5, joined_len(&set.key) as u32);
    match &set.content {
        Content::Members => {}
        Content::Fields(kinds) => {
            attrs.u32(6, joined_type(kinds)).u32(7, joined_len(kinds) as u32);
        }
        Content::Verdicts => {
            attrs.u32(6, VERDICT_TYPE);
        }
    }
    attrs.u32(10, id);
    Step { message: Message::NewSet, flags: CREATE, attrs, about: About::Set(&set.name) }
}

/// The messages that add elements to a set, or delete them.
pub(super) fn set_elements<'a>(
    message: Message,
    table: &str,
    set: &'a str,
    id: Option<u32>,
    elements: &[Element],
) -> Vec<Step<'a>> {
    let step = |elements: &[Element]| {
        let mut attrs = Attrs::default();
        attrs.str(1, table).str(2, set);
        attrs.nested(3, |attrs| {
            for one in elements {
                attrs.nested(1, |attrs| element(attrs, one));
            }
        });
        if let Some(id) = id {
            attrs.u32(4, id);
        }
        let flags = if message == Message::NewSetElem { CREATE } else { 0 };
        Step { message, flags, attrs, about: About::Set(set) }
    };
    elements.chunks(ELEMENTS_PER_MESSAGE).map(step).collect()
}

/// The message that empties a set.
pub(super) fn flush_set<'a>(table: &str, set: &'a str) -> Step<'a> {
    let mut attrs = Attrs::default();
    attrs.str(1, table).str(2, set);
    Step { message: Message::DelSetElem, flags: 0, attrs, about: About::Set(set) }
}

fn element(attrs: &mut Attrs, element: &Element) {
    attrs.nested(1, |attrs| {
        attrs.bytes(1, &join(&element.key));
    });
    match &element.value {
        Value::Member => {}
        Value::Fields(fields) => {
            attrs.nested(2, |attrs| {
                attrs.bytes(1, &join(fields));
            });
        }
        Value::Verdict(it) => {
            attrs.nested(2, |attrs| verdict(attrs, it));
        }
    }
    if let Some(comment) = &element.comment {
        attrs.bytes(6, &comment_bytes(comment));
    }
}

/// A remark as the `nft` program keeps it: kind 0, length, text with terminator. Cut to what fits.
fn comment_bytes(comment: &str) -> Vec<u8> {
    const LONGEST: usize = 127;
    let end = (0..=comment.len().min(LONGEST)).rev().find(|end| comment.is_char_boundary(*end)).unwrap_or(0);
    let text = comment.as_bytes().get(..end).unwrap_or_default();
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend(text);
    bytes.push(0);
    bytes
}

fn verdict(attrs: &mut Attrs, verdict: &Verdict) {
    let (code, chain): (i32, Option<&str>) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Continue => (-1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    attrs.nested(2, |attrs| {
        attrs.u32(1, code.cast_unsigned());
        if let Some(chain) = chain {
            attrs.str(2, chain);
        }
    });
}

impl Reg {
    /// The kernel counts four-byte registers from 8; 0 is the verdict.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

impl Meta {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::IifName => 6,
            Self::OifName => 7,
            Self::SkUid => 10,
            Self::NfProto => 15,
            Self::L4Proto => 16,
        }
    }
}

impl Ct {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::State => 0,
            Self::Mark => 3,
            Self::Zone => 17,
        }
    }
}

impl PayloadBase {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Network => 1,
            Self::Transport => 2,
        }
    }
}

/// The set of the rule's own that a step looks into: its placeholder name and number in the transaction.
type OwnSet = Option<(&'static str, u32)>;

fn encode(attrs: &mut Attrs, expr: &Expr, family: Family, own_set: OwnSet) {
    let mut data = Attrs::default();
    let name = match expr {
        Expr::Lookup { .. } | Expr::Map { .. } | Expr::VerdictMap { .. } => lookup(&mut data, expr, own_set),
        Expr::Nat { .. } | Expr::Redirect { .. } | Expr::Masquerade | Expr::Reject(_) => {
            action(&mut data, expr, family)
        }
        _ => plain(&mut data, expr),
    };
    attrs.str(1, name).nested(2, |attrs| attrs.0.append(&mut data.0));
}

fn plain<'a>(data: &mut Attrs, expr: &'a Expr) -> &'a str {
    match expr {
        Expr::Meta { key, to } => (data.u32(1, to.number()).u32(2, key.number()), "meta").1,
        Expr::MetaSet { key, from } => (data.u32(2, key.number()).u32(3, from.number()), "meta").1,
        Expr::Ct { key, to } => (data.u32(1, to.number()).u32(2, key.number()), "ct").1,
        Expr::CtSet { key, from } => (data.u32(2, key.number()).u32(4, from.number()), "ct").1,
        Expr::Payload { base, offset, len, to } => {
            (data.u32(1, to.number()).u32(2, base.number()).u32(3, *offset).u32(4, *len), "payload").1
        }
        Expr::Cmp { relation, reg, value } => {
            data.u32(1, reg.number()).u32(2, u32::from(*relation == Relation::NotEqual));
            (bytes(data, 3, value), "cmp").1
        }
        Expr::Bitwise { from, to, mask, xor } => {
            data.u32(1, from.number()).u32(2, to.number()).u32(3, mask.len() as u32);
            bytes(data, 4, mask);
            (bytes(data, 5, xor), "bitwise").1
        }
        Expr::Immediate { to, value } => {
            data.u32(1, to.number());
            (bytes(data, 2, value), "immediate").1
        }
        Expr::Verdict(it) => {
            data.u32(1, 0);
            (data.nested(2, |attrs| verdict(attrs, it)), "immediate").1
        }
        Expr::Numgen { to, random, modulus } => {
            (data.u32(1, to.number()).u32(2, *modulus).u32(3, u32::from(*random)), "numgen").1
        }
        // Result: type of address; of the destination.
        Expr::FibDestinationType { to } => (data.u32(1, to.number()).u32(2, 3).u32(3, 2), "fib").1,
        Expr::Counter => "counter",
        Expr::Notrack => "notrack",
        Expr::Unknown(name) => name,
        _ => "",
    }
}

fn bytes(data: &mut Attrs, kind: u16, value: &[u8]) {
    data.nested(kind, |attrs| {
        attrs.bytes(1, value);
    });
}

fn lookup(data: &mut Attrs, expr: &Expr, own_set: OwnSet) -> &'static str {
    let (set, key, to, not) = match expr {
        Expr::Lookup { set, key, not } => (set, key, None, *not),
        Expr::Map { set, key, to } => (set, key, Some(to.number()), false),
        Expr::VerdictMap { set, key } => (set, key, Some(0), false),
        _ => return "",
    };
    match (set, own_set) {
        (SetRef::Named(name), _) => data.str(1, name),
        (SetRef::Anonymous(_), Some((name, id))) => data.str(1, name).u32(4, id),
        (SetRef::Anonymous(_), None) => data,
    };
    data.u32(2, key.number());
    if let Some(to) = to {
        data.u32(3, to);
    }
    if not {
        data.u32(5, 1);
    }
    "lookup"
}

fn action(data: &mut Attrs, expr: &Expr, family: Family) -> &'static str {
    match expr {
        Expr::Nat { source, v6, address, port } => {
            let version = if *v6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
            data.u32(1, u32::from(!source)).u32(2, version as u32);
            if let Some(address) = address {
                data.u32(3, address.number());
            }
            if let Some(port) = port {
                data.u32(5, port.number());
            }
            "nat"
        }
        Expr::Redirect { port } => {
            if let Some(port) = port {
                data.u32(1, port.number());
            }
            "redir"
        }
        Expr::Reject(how) => {
            // In a table for both versions the kernel translates; otherwise the code is the version's own.
            let (kind, code) = match (how, family) {
                (Reject::TcpReset, _) => (1, 0),
                (Reject::PortUnreachable, Family::Inet) => (2, 1),
                (Reject::PortUnreachable, Family::Ip) => (0, 3),
                (Reject::PortUnreachable, Family::Ip6) => (0, 4),
            };
            data.u32(1, kind).u8(2, code);
            "reject"
        }
        _ => "masq",
    }
}
