//! Tables as text, close to what `nft list` prints: for people, documents and golden tests.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use super::expr::{Ct, Expr, Meta, PayloadBase, Reg, Reject, Relation};
use super::field::{Field, FieldKind};
use super::set::{Content, Element, Set, SetRef, Value};
use super::{Base, Chain, ChainKind, Family, Hook, Rule, Table, Verdict};

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        let sets = self.sets.iter().map(ToString::to_string);
        let parts: Vec<_> = sets.chain(self.chains.iter().map(ToString::to_string)).collect();
        writeln!(f, "{}}}", parts.join("\n"))
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.content == Content::Members { "set" } else { "map" };
        let kinds = |kinds: &[FieldKind]| kinds.iter().map(|kind| kind_name(*kind)).collect::<Vec<_>>().join(" . ");
        writeln!(f, "\t{word} {} {{", self.name)?;
        write!(f, "\t\ttype {}", kinds(&self.key))?;
        match &self.content {
            Content::Members => {}
            Content::Fields(values) => write!(f, " : {}", kinds(values))?,
            Content::Verdicts => f.write_str(" : verdict")?,
        }
        writeln!(f)?;
        if !self.elements.is_empty() {
            writeln!(f, "\t\telements = {}", braces(&self.elements))?;
        }
        writeln!(f, "\t}}")
    }
}

fn kind_name(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Ip4 => "ipv4_addr",
        FieldKind::Ip6 => "ipv6_addr",
        FieldKind::Protocol => "inet_proto",
        FieldKind::Port => "inet_service",
        FieldKind::Mark => "mark",
        FieldKind::Name => "ifname",
        FieldKind::Number => "integer",
    }
}

fn braces(elements: &[Element]) -> String {
    format!("{{ {} }}", elements.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn fields(fields: &[Field]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fields(&self.key))?;
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        match &self.value {
            Value::Member => Ok(()),
            Value::Fields(values) => write!(f, " : {}", fields(values)),
            Value::Verdict(verdict) => write!(f, " : {verdict}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Continue => f.write_str("continue"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = &self.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        let policy = if self.drop_by_default { "drop" } else { "accept" };
        write!(f, "type {kind} hook {hook} priority {}; policy {policy};", self.priority)
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rule(self))
    }
}

/// A rule on one line.
pub(super) fn rule(rule: &Rule) -> String {
    let mut line = Line::default();
    for expr in &rule.exprs {
        line.add(expr);
    }
    if let Some(comment) = &rule.comment {
        let _ = write!(line.text, " comment \"{comment}\"");
    }
    line.text.trim_start().to_owned()
}

/// What a register holds: how it is written, and as what kind of value it compares.
#[derive(Debug, Clone)]
struct Held {
    text: String,
    kind: FieldKind,
    /// The bytes, when they are a constant.
    constant: Vec<u8>,
}

/// A rule being written: what each register holds by now, and the transport protocol once known.
#[derive(Debug, Default)]
struct Line {
    text: String,
    held: BTreeMap<Reg, Held>,
    protocol: Option<String>,
}

impl Line {
    fn word(&mut self, word: impl Display) {
        let _ = write!(self.text, " {word}");
    }

    fn hold(&mut self, to: Reg, text: impl Into<String>, kind: FieldKind) {
        self.held.insert(to, Held { text: text.into(), kind, constant: Vec::new() });
    }

    fn held(&self, reg: Reg) -> Held {
        self.held.get(&reg).cloned().unwrap_or_else(|| Held {
            text: format!("reg {}", reg.0),
            kind: FieldKind::Number,
            constant: Vec::new(),
        })
    }

    /// Everything held from `reg` on, as one key.
    fn key(&self, reg: Reg) -> String {
        let mut parts = Vec::new();
        let mut at = reg;
        while let Some(held) = self.held.get(&at) {
            parts.push(held.text.clone());
            at = at.after(held.kind.padded_len());
        }
        parts.join(" . ")
    }

    fn add(&mut self, expr: &Expr) {
        match expr {
            Expr::Meta { key, to } => self.load_meta(*key, *to),
            Expr::Ct { key, to } => self.hold(*to, ct_name(*key), FieldKind::Mark),
            Expr::Payload { base, offset, len, to } => self.load_payload(*base, *offset, *len, *to),
            Expr::Immediate { to, value } => self.load_constant(*to, value),
            Expr::Numgen { to, random, modulus } => {
                let how = if *random { "random" } else { "inc" };
                self.held.clear();
                self.hold(*to, format!("numgen {how} mod {modulus}"), FieldKind::Number);
            }
            Expr::FibDestinationType { to } => self.hold(*to, "fib daddr type", FieldKind::Number),
            Expr::Bitwise { from, to, mask, xor } => self.bitwise(*from, *to, mask, xor),
            Expr::Cmp { relation, reg, value } => self.compare(*relation, *reg, value),
            Expr::MetaSet { key, from } => self.set(meta_name(*key), *from),
            Expr::CtSet { key, from } => self.set(ct_name(*key), *from),
            Expr::Lookup { set, key, not } => {
                let not = if *not { "!= " } else { "" };
                self.word(format!("{} {not}{}", self.key(*key), set_name(set)));
                self.held.clear();
            }
            Expr::Map { set, key, to } => {
                let text = format!("{} map {}", self.key(*key), set_name(set));
                self.held.clear();
                self.hold(*to, text, FieldKind::Number);
            }
            Expr::VerdictMap { set, key } => self.word(format!("{} vmap {}", self.key(*key), set_name(set))),
            Expr::Nat { .. } | Expr::Redirect { .. } => self.rewrite(expr),
            Expr::Masquerade => self.word("masquerade"),
            Expr::Verdict(verdict) => self.word(verdict),
            Expr::Counter => self.word("counter"),
            Expr::Reject(Reject::PortUnreachable) => self.word("reject"),
            Expr::Reject(Reject::TcpReset) => self.word("reject with tcp reset"),
            Expr::Notrack => self.word("notrack"),
            Expr::Unknown(name) => self.word(format!("<{name}>")),
        }
    }

    fn load_meta(&mut self, key: Meta, to: Reg) {
        let kind = match key {
            Meta::Mark => FieldKind::Mark,
            Meta::IifName | Meta::OifName => FieldKind::Name,
            Meta::SkUid => FieldKind::Number,
            Meta::NfProto | Meta::L4Proto => FieldKind::Protocol,
        };
        self.hold(to, meta_name(key), kind);
    }

    fn load_payload(&mut self, base: PayloadBase, offset: u32, len: u32, to: Reg) {
        let header = self.protocol.as_deref().unwrap_or("th");
        let (text, kind) = match (base, offset, len) {
            (PayloadBase::Network, 12, 4) => ("ip saddr".to_owned(), FieldKind::Ip4),
            (PayloadBase::Network, 16, 4) => ("ip daddr".to_owned(), FieldKind::Ip4),
            (PayloadBase::Network, 8, 16) => ("ip6 saddr".to_owned(), FieldKind::Ip6),
            (PayloadBase::Network, 24, 16) => ("ip6 daddr".to_owned(), FieldKind::Ip6),
            (PayloadBase::Transport, 0, 2) => (format!("{header} sport"), FieldKind::Port),
            (PayloadBase::Transport, 2, 2) => (format!("{header} dport"), FieldKind::Port),
            _ => (format!("@{base:?},{offset},{len}").to_lowercase(), FieldKind::Number),
        };
        self.hold(to, text, kind);
    }

    /// A constant's kind shows by its width, except where it is about to become a mark or zone.
    fn load_constant(&mut self, to: Reg, value: &[u8]) {
        let kind = match value.len() {
            2 => FieldKind::Port,
            16 => FieldKind::Ip6,
            _ => FieldKind::Ip4,
        };
        let text = kind.read(value).map_or_else(|| hex(value), |field| field.to_string());
        self.held.insert(to, Held { text, kind, constant: value.to_vec() });
    }

    fn bitwise(&mut self, from: Reg, to: Reg, mask: &[u8], xor: &[u8]) {
        let held = self.held(from);
        let text = match (held.kind, number(mask), number(xor)) {
            (FieldKind::Ip4 | FieldKind::Ip6, _, _) => {
                let bits: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
                format!("{}/{bits}", held.text)
            }
            (_, Some(mask), Some(0)) => format!("{} & {mask:#x}", held.text),
            (_, Some(mask), Some(xor)) => format!("{} & {mask:#x} ^ {xor:#x}", held.text),
            _ => format!("{} & {} ^ {}", held.text, hex(mask), hex(xor)),
        };
        self.hold(to, text, held.kind);
    }

    fn compare(&mut self, relation: Relation, reg: Reg, value: &[u8]) {
        let held = self.held(reg);
        let mut right = held.kind.read(value).map_or_else(|| hex(value), |field| field.to_string());
        if held.text == "meta nfproto" {
            right = if value == [libc::NFPROTO_IPV6 as u8] { "ipv6".to_owned() } else { "ipv4".to_owned() };
        }
        if held.text == "meta l4proto" && relation == Relation::Equal {
            self.protocol = Some(right.clone());
        }
        // A prefix is written on the right.
        let (left, prefix) = match held.text.split_once('/') {
            Some((left, bits)) => (left.to_owned(), format!("/{bits}")),
            None => (held.text, String::new()),
        };
        let sign = match relation {
            Relation::NotEqual => "!= ",
            Relation::Equal if left.contains('&') => "== ",
            Relation::Equal => "",
        };
        self.word(format!("{left} {sign}{right}{prefix}"));
    }

    fn set(&mut self, what: &str, from: Reg) {
        let held = self.held(from);
        let text = match (number(&held.constant), <[u8; 2]>::try_from(held.constant)) {
            (Some(mark), _) => format!("{mark:#x}"),
            (None, Ok(zone)) => u16::from_ne_bytes(zone).to_string(),
            (None, Err(_)) => held.text,
        };
        self.word(format!("{what} set {text}"));
    }

    fn rewrite(&mut self, expr: &Expr) {
        let (word, address, port) = match expr {
            Expr::Nat { source: true, address, port, .. } => ("snat to", *address, *port),
            Expr::Nat { address, port, .. } => ("dnat to", *address, *port),
            Expr::Redirect { port } => ("redirect to", None, *port),
            _ => return,
        };
        let mut target = address.map(|reg| self.held(reg)).map_or_else(String::new, |held| match held.kind {
            FieldKind::Ip6 => format!("[{}]", held.text),
            _ => held.text,
        });
        if let Some(port) = port.and_then(|reg| self.held.get(&reg)) {
            target = format!("{target}:{}", port.text);
        }
        self.word(format!("{word} {target}"));
    }
}

fn meta_name(key: Meta) -> &'static str {
    match key {
        Meta::Mark => "meta mark",
        Meta::IifName => "iifname",
        Meta::OifName => "oifname",
        Meta::SkUid => "meta skuid",
        Meta::NfProto => "meta nfproto",
        Meta::L4Proto => "meta l4proto",
    }
}

fn ct_name(key: Ct) -> &'static str {
    match key {
        Ct::State => "ct state",
        Ct::Mark => "ct mark",
        Ct::Zone => "ct zone",
    }
}

fn set_name(set: &SetRef) -> String {
    match set {
        SetRef::Named(name) => format!("@{name}"),
        SetRef::Anonymous(set) => braces(&set.elements),
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
