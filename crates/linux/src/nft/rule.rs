//! Rules in words: each method adds the steps for one condition or action, in the order written. Actions are in
//! `action`.

use ipnet::IpNet;

use super::expr::{Ct, Expr, Meta, Reg, Relation};
use super::field::Field;
use super::key::{Key, Protocol};
use super::set::SetRef;

/// A rule: conditions, then what to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    pub(super) exprs: Vec<Expr>,
    pub(super) comment: Option<String>,
}

const R: Reg = Reg::FIRST;

impl Rule {
    /// A rule that every packet passes.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn expr(mut self, expr: Expr) -> Self {
        self.exprs.push(expr);
        self
    }

    /// Keeps a remark with the rule.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn compare(self, load: Expr, relation: Relation, value: &Field) -> Self {
        self.expr(load).expr(Expr::Cmp { relation, reg: R, value: value.bytes() })
    }

    fn masked(self, load: Expr, relation: Relation, value: u32, mask: u32) -> Self {
        let (mask, xor) = (mask.to_ne_bytes().to_vec(), vec![0; 4]);
        self.expr(load).expr(Expr::Bitwise { from: R, to: R, mask, xor }).expr(Expr::Cmp {
            relation,
            reg: R,
            value: value.to_ne_bytes().to_vec(),
        })
    }

    /// IPv6 packets, or IPv4 ones. Rules that name an address check it by themselves.
    #[must_use]
    pub fn ip_version(self, v6: bool) -> Self {
        let number = if v6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
        let checked = Self::new().compare(
            Expr::Meta { key: Meta::NfProto, to: R },
            Relation::Equal,
            &Field::Protocol(number as u8),
        );
        // Once is enough.
        let known = self.exprs.windows(checked.exprs.len()).any(|steps| steps == checked.exprs);
        if known { self } else { checked.exprs.into_iter().fold(self, Self::expr) }
    }

    pub(super) fn version_of(self, keys: &[Key]) -> Self {
        match keys.iter().find_map(|key| key.version()) {
            Some(v6) => self.ip_version(v6),
            None => self,
        }
    }

    /// Packets of this transport protocol. Must come before any port.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.compare(Key::Protocol.load(R), Relation::Equal, &Field::Protocol(protocol.number()))
    }

    /// TCP packets.
    #[must_use]
    pub fn tcp(self) -> Self {
        self.protocol(Protocol::Tcp)
    }

    /// UDP packets.
    #[must_use]
    pub fn udp(self) -> Self {
        self.protocol(Protocol::Udp)
    }

    /// Packets of this net's IP version, from it.
    #[must_use]
    pub fn saddr(self, net: impl Into<IpNet>) -> Self {
        self.address(Relation::Equal, net.into(), Key::Ip4Source, Key::Ip6Source)
    }

    /// Packets of this net's IP version, not from it.
    #[must_use]
    pub fn saddr_not(self, net: impl Into<IpNet>) -> Self {
        self.address(Relation::NotEqual, net.into(), Key::Ip4Source, Key::Ip6Source)
    }

    /// Packets of this net's IP version, to it.
    #[must_use]
    pub fn daddr(self, net: impl Into<IpNet>) -> Self {
        self.address(Relation::Equal, net.into(), Key::Ip4Destination, Key::Ip6Destination)
    }

    /// Packets of this net's IP version, not to it.
    #[must_use]
    pub fn daddr_not(self, net: impl Into<IpNet>) -> Self {
        self.address(Relation::NotEqual, net.into(), Key::Ip4Destination, Key::Ip6Destination)
    }

    fn address(self, relation: Relation, net: IpNet, v4: Key, v6: Key) -> Self {
        let key = if net.addr().is_ipv6() { v6 } else { v4 };
        let rule = self.version_of(&[key]);
        let value = Field::from(net.network());
        if net.prefix_len() == net.max_prefix_len() {
            return rule.compare(key.load(R), relation, &value);
        }
        let mask = Field::from(net.netmask()).bytes();
        let xor = vec![0; mask.len()];
        rule.expr(key.load(R)).expr(Expr::Bitwise { from: R, to: R, mask, xor }).expr(Expr::Cmp {
            relation,
            reg: R,
            value: value.bytes(),
        })
    }

    /// Packets from this port.
    #[must_use]
    pub fn sport(self, port: u16) -> Self {
        self.compare(Key::SourcePort.load(R), Relation::Equal, &Field::Port(port))
    }

    /// Packets to this port.
    #[must_use]
    pub fn dport(self, port: u16) -> Self {
        self.compare(Key::DestinationPort.load(R), Relation::Equal, &Field::Port(port))
    }

    /// Packets to other ports.
    #[must_use]
    pub fn dport_not(self, port: u16) -> Self {
        self.compare(Key::DestinationPort.load(R), Relation::NotEqual, &Field::Port(port))
    }

    /// Packets whose mark, under the mask, is this.
    #[must_use]
    pub fn mark(self, value: u32, mask: u32) -> Self {
        self.masked(Key::Mark.load(R), Relation::Equal, value, mask)
    }

    /// Packets whose mark, under the mask, is something else.
    #[must_use]
    pub fn mark_not(self, value: u32, mask: u32) -> Self {
        self.masked(Key::Mark.load(R), Relation::NotEqual, value, mask)
    }

    /// Packets of connections whose mark, under the mask, is this.
    #[must_use]
    pub fn ct_mark(self, value: u32, mask: u32) -> Self {
        self.masked(Expr::Ct { key: Ct::Mark, to: R }, Relation::Equal, value, mask)
    }

    /// Packets that came by this interface.
    #[must_use]
    pub fn iif(self, name: &str) -> Self {
        self.compare(Key::IifName.load(R), Relation::Equal, &Field::Name(name.to_owned()))
    }

    /// Packets that leave by this interface.
    #[must_use]
    pub fn oif(self, name: &str) -> Self {
        self.compare(Expr::Meta { key: Meta::OifName, to: R }, Relation::Equal, &Field::Name(name.to_owned()))
    }

    /// Packets that leave by another interface.
    #[must_use]
    pub fn oif_not(self, name: &str) -> Self {
        self.compare(Expr::Meta { key: Meta::OifName, to: R }, Relation::NotEqual, &Field::Name(name.to_owned()))
    }

    /// Packets from a socket of this user. Packets that pass through have no socket and do not match.
    #[must_use]
    pub fn skuid(self, uid: u32) -> Self {
        self.compare(Expr::Meta { key: Meta::SkUid, to: R }, Relation::Equal, &Field::Number(uid))
    }

    /// Packets from a socket of this machine, whoever owns it; not packets that pass through.
    #[must_use]
    pub fn has_socket(self) -> Self {
        // Loading the owner ends the rule when there is no socket; no user has the highest number.
        self.compare(Expr::Meta { key: Meta::SkUid, to: R }, Relation::NotEqual, &Field::Number(u32::MAX))
    }

    /// Packets to an address of this machine.
    #[must_use]
    pub fn daddr_local(self) -> Self {
        const LOCAL: u32 = libc::RTN_LOCAL as u32;
        self.compare(Expr::FibDestinationType { to: R }, Relation::Equal, &Field::Number(LOCAL))
    }

    /// Packets whose parts are together in a set.
    #[must_use]
    pub fn in_set(self, keys: &[Key], set: impl Into<SetRef>) -> Self {
        self.version_of(keys).load(keys).expr(Expr::Lookup { set: set.into(), key: R, not: false })
    }

    /// Packets whose parts are not together in a set.
    #[must_use]
    pub fn not_in_set(self, keys: &[Key], set: impl Into<SetRef>) -> Self {
        self.version_of(keys).load(keys).expr(Expr::Lookup { set: set.into(), key: R, not: true })
    }

    pub(super) fn load(mut self, keys: &[Key]) -> Self {
        let mut to = R;
        for key in keys {
            self.exprs.push(key.load(to));
            to = to.after(key.kind().padded_len());
        }
        self
    }

    /// Does what the verdict map says about these parts; goes on when it says nothing.
    #[must_use]
    pub fn vmap(self, keys: &[Key], set: impl Into<SetRef>) -> Self {
        self.version_of(keys).load(keys).expr(Expr::VerdictMap { set: set.into(), key: R })
    }
}
