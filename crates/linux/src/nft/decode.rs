//! From the kernel's answers back to tables, sets and rules. What this program never writes becomes
//! [`Expr::Unknown`], so that a rule changed by somebody else compares as different and never as an error.

use super::encode::{SET_ANONYMOUS, SET_MAP, VERDICT_TYPE};
use super::expr::{Ct, Expr, Meta, PayloadBase, Reg, Reject, Relation};
use super::field::{split, split_type};
use super::set::{Content, Element, Set, SetRef, Value};
use super::wire::{Reader, text};
use super::{Base, Chain, ChainKind, Family, Hook, Rule, Verdict};

impl Family {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Inet, Self::Ip, Self::Ip6].into_iter().find(|family| family.number() == number)
    }
}

/// A chain without its rules.
pub(super) fn chain(attrs: Reader<'_>) -> Option<Chain> {
    let base = attrs.nested(4).and_then(|hook| base(attrs, hook));
    Some(Chain { name: attrs.str(3)?, base, rules: Vec::new() })
}

fn base(attrs: Reader<'_>, hook: Reader<'_>) -> Option<Base> {
    let kind = match attrs.str(7)?.as_str() {
        "filter" => ChainKind::Filter,
        "nat" => ChainKind::Nat,
        "route" => ChainKind::Route,
        _ => return None,
    };
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    Some(Base {
        kind,
        hook: *hooks.get(hook.u32(1)? as usize)?,
        priority: hook.u32(2)?.cast_signed(),
        drop_by_default: attrs.u32(5) == Some(0),
    })
}

/// A set without its elements, and whether it belongs to a rule.
pub(super) fn set(attrs: Reader<'_>) -> Option<(Set, bool)> {
    let flags = attrs.u32(3).unwrap_or(0);
    let content = match attrs.u32(6) {
        _ if flags & SET_MAP == 0 => Content::Members,
        Some(VERDICT_TYPE) => Content::Verdicts,
        Some(kinds) => Content::Fields(split_type(kinds)?),
        None => return None,
    };
    let set = Set { name: attrs.str(2)?, key: split_type(attrs.u32(4)?)?, content, elements: Vec::new() };
    Some((set, flags & SET_ANONYMOUS != 0))
}

/// The elements in one answer about `set`.
pub(super) fn elements(set: &Set, attrs: Reader<'_>) -> Vec<Element> {
    let list = attrs.nested(3).into_iter().flatten();
    list.filter_map(|(_, one)| element(set, Reader(one))).collect()
}

fn element(set: &Set, attrs: Reader<'_>) -> Option<Element> {
    let key = split(&set.key, attrs.nested(1)?.find(1)?)?;
    let value = match &set.content {
        Content::Members => Value::Member,
        Content::Fields(kinds) => Value::Fields(split(kinds, attrs.nested(2)?.find(1)?)?),
        Content::Verdicts => Value::Verdict(verdict(attrs.nested(2)?.nested(2)?)?),
    };
    Some(Element { key, value, comment: attrs.find(6).and_then(comment) })
}

/// The remark among a rule's or element's user data.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == 0 {
            return text(value);
        }
        data = rest.get(usize::from(*len)..)?;
    }
    None
}

fn verdict(attrs: Reader<'_>) -> Option<Verdict> {
    Some(match attrs.u32(1)?.cast_signed() {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        -3 => Verdict::Jump(attrs.str(2)?),
        -4 => Verdict::Goto(attrs.str(2)?),
        -5 => Verdict::Return,
        _ => return None,
    })
}

/// A rule with the chain it is in. `own_sets` are the sets that belong to rules.
pub(super) fn rule(attrs: Reader<'_>, own_sets: &[Set]) -> Option<(String, Rule)> {
    let list = attrs.nested(4).into_iter().flatten();
    let exprs = list.map(|(_, one)| expr(Reader(one), own_sets)).collect();
    Some((attrs.str(2)?, Rule { exprs, comment: attrs.find(7).and_then(comment) }))
}

fn expr(attrs: Reader<'_>, own_sets: &[Set]) -> Expr {
    let name = attrs.str(1).unwrap_or_default();
    let data = attrs.nested(2).unwrap_or(Reader(&[]));
    let known = match name.as_str() {
        "meta" => meta(data),
        "ct" => ct(data),
        "payload" => payload(data),
        "cmp" => compare(data),
        "bitwise" => bitwise(data),
        "immediate" => immediate(data),
        "lookup" => lookup(data, own_sets),
        "nat" => nat(data),
        "redir" => Some(Expr::Redirect { port: data.u32(1).and_then(register) }),
        "masq" => Some(Expr::Masquerade),
        "numgen" => numgen(data),
        "fib" if data.u32(2) == Some(3) && data.u32(3) == Some(2) => to(data).map(|to| Expr::FibDestinationType { to }),
        "counter" => Some(Expr::Counter),
        "reject" => reject(data),
        "notrack" => Some(Expr::Notrack),
        _ => None,
    };
    known.unwrap_or(Expr::Unknown(name))
}

/// The kernel names registers at multiples of sixteen bytes by their old numbers, 1 to 4.
fn register(number: u32) -> Option<Reg> {
    match number {
        1..=4 => Some(Reg((number as u8 - 1) * 4)),
        8..=23 => Some(Reg(number as u8 - 8)),
        _ => None,
    }
}

fn to(data: Reader<'_>) -> Option<Reg> {
    register(data.u32(1)?)
}

fn value(data: Reader<'_>, kind: u16) -> Option<Vec<u8>> {
    data.nested(kind)?.find(1).map(<[u8]>::to_vec)
}

fn meta(data: Reader<'_>) -> Option<Expr> {
    let all = [Meta::Mark, Meta::IifName, Meta::OifName, Meta::SkUid, Meta::NfProto, Meta::L4Proto];
    let number = data.u32(2)?;
    let key = all.into_iter().find(|key| key.number() == number)?;
    match data.u32(3) {
        Some(from) => Some(Expr::MetaSet { key, from: register(from)? }),
        None => Some(Expr::Meta { key, to: to(data)? }),
    }
}

fn ct(data: Reader<'_>) -> Option<Expr> {
    let number = data.u32(2)?;
    let key = [Ct::State, Ct::Mark, Ct::Zone].into_iter().find(|key| key.number() == number)?;
    match data.u32(4) {
        Some(from) => Some(Expr::CtSet { key, from: register(from)? }),
        None => Some(Expr::Ct { key, to: to(data)? }),
    }
}

fn payload(data: Reader<'_>) -> Option<Expr> {
    let number = data.u32(2)?;
    let base = [PayloadBase::Network, PayloadBase::Transport].into_iter().find(|base| base.number() == number)?;
    Some(Expr::Payload { base, offset: data.u32(3)?, len: data.u32(4)?, to: to(data)? })
}

fn compare(data: Reader<'_>) -> Option<Expr> {
    let relation = match data.u32(2)? {
        0 => Relation::Equal,
        1 => Relation::NotEqual,
        _ => return None,
    };
    Some(Expr::Cmp { relation, reg: to(data)?, value: value(data, 3)? })
}

fn bitwise(data: Reader<'_>) -> Option<Expr> {
    Some(Expr::Bitwise { from: to(data)?, to: register(data.u32(2)?)?, mask: value(data, 4)?, xor: value(data, 5)? })
}

fn immediate(data: Reader<'_>) -> Option<Expr> {
    match data.u32(1)? {
        0 => verdict(data.nested(2)?.nested(2)?).map(Expr::Verdict),
        to => Some(Expr::Immediate { to: register(to)?, value: value(data, 2)? }),
    }
}

fn lookup(data: Reader<'_>, own_sets: &[Set]) -> Option<Expr> {
    let name = data.str(1)?;
    let set = match own_sets.iter().find(|set| set.name == name) {
        Some(set) => SetRef::from(set.clone()),
        None => SetRef::Named(name),
    };
    let key = register(data.u32(2)?)?;
    Some(match data.u32(3) {
        None => Expr::Lookup { set, key, not: data.u32(5) == Some(1) },
        Some(0) => Expr::VerdictMap { set, key },
        Some(to) => Expr::Map { set, key, to: register(to)? },
    })
}

fn nat(data: Reader<'_>) -> Option<Expr> {
    Some(Expr::Nat {
        source: data.u32(1)? == 0,
        v6: data.u32(2)? == libc::NFPROTO_IPV6 as u32,
        address: data.u32(3).and_then(register),
        port: data.u32(5).and_then(register),
    })
}

fn numgen(data: Reader<'_>) -> Option<Expr> {
    if data.u32(4).unwrap_or(0) != 0 {
        return None;
    }
    Some(Expr::Numgen { to: to(data)?, random: data.u32(3)? == 1, modulus: data.u32(2)? })
}

fn reject(data: Reader<'_>) -> Option<Expr> {
    match (data.u32(1)?, data.find(2).and_then(|code| code.first().copied())) {
        (1, _) => Some(Expr::Reject(Reject::TcpReset)),
        (2, Some(1)) | (0, Some(3 | 4)) => Some(Expr::Reject(Reject::PortUnreachable)),
        _ => None,
    }
}

/// Reads bytes as the kernel's answers about rules, chains and sets, and says how many were understood. For trying
/// bytes from anywhere: nothing is trusted, so nothing can go wrong.
pub fn understood(bytes: &[u8]) -> usize {
    let of_answer = |answer: super::wire::Answer<'_>| {
        let (_, attrs) = answer.nf_tables()?;
        let elements = set(attrs).map(|(set, _)| elements(&set, attrs).len());
        let known = [chain(attrs).is_some(), rule(attrs, &[]).is_some(), elements.is_some()];
        Some(known.into_iter().filter(|known| *known).count())
    };
    super::wire::answers(bytes).filter_map(of_answer).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::wire::{Attrs, answers};
    use proptest::prelude::*;

    /// Attributes that nest, with kinds that mean something and lengths that may lie.
    fn attributes() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop::collection::vec(any::<u8>(), 0..24);
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop::collection::vec((0u16..12, inner), 0..6).prop_map(|list| {
                let mut attrs = Attrs::default();
                for (kind, value) in list {
                    attrs.bytes(kind, &value);
                }
                attrs.0
            })
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_panic(bytes in attributes(), cut in 0usize..64) {
            let bytes = &bytes[..bytes.len().saturating_sub(cut % 7)];
            let reader = Reader(bytes);
            let _ = (chain(reader), rule(reader, &[]), expr(reader, &[]), comment(bytes));
            if let Some((set, _)) = set(reader) {
                let _ = elements(&set, reader);
            }
            let _ = (answers(bytes).count(), understood(bytes));
        }
    }
}
