//! Rules in words: each method adds the steps for one condition or action, in the order written.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Verdict;
use super::expr::{Ct, Expr, Meta, PayloadBase, Reg, Reject, Relation};
use super::field::{Field, FieldKind};
use super::set::{Element, Set, SetRef};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A part of the packet to look something up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// IPv4 source address.
    Ip4Source,
    /// IPv4 destination address.
    Ip4Destination,
    /// IPv6 source address.
    Ip6Source,
    /// IPv6 destination address.
    Ip6Destination,
    /// The transport protocol.
    Protocol,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// The packet's mark.
    Mark,
    /// The interface it came by.
    IifName,
}

impl Key {
    /// What kind of value a set with this key holds.
    pub fn kind(self) -> FieldKind {
        match self {
            Self::Ip4Source | Self::Ip4Destination => FieldKind::Ip4,
            Self::Ip6Source | Self::Ip6Destination => FieldKind::Ip6,
            Self::Protocol => FieldKind::Protocol,
            Self::SourcePort | Self::DestinationPort => FieldKind::Port,
            Self::Mark => FieldKind::Mark,
            Self::IifName => FieldKind::Name,
        }
    }

    pub(super) fn load(self, to: Reg) -> Expr {
        let payload = |base, offset, len| Expr::Payload { base, offset, len, to };
        match self {
            Self::Ip4Source => payload(PayloadBase::Network, 12, 4),
            Self::Ip4Destination => payload(PayloadBase::Network, 16, 4),
            Self::Ip6Source => payload(PayloadBase::Network, 8, 16),
            Self::Ip6Destination => payload(PayloadBase::Network, 24, 16),
            Self::SourcePort => payload(PayloadBase::Transport, 0, 2),
            Self::DestinationPort => payload(PayloadBase::Transport, 2, 2),
            Self::Protocol => Expr::Meta { key: Meta::L4Proto, to },
            Self::Mark => Expr::Meta { key: Meta::Mark, to },
            Self::IifName => Expr::Meta { key: Meta::IifName, to },
        }
    }

    /// The IP version that must be checked before bytes at this place mean this.
    fn version(self) -> Option<bool> {
        match self {
            Self::Ip4Source | Self::Ip4Destination => Some(false),
            Self::Ip6Source | Self::Ip6Destination => Some(true),
            _ => None,
        }
    }
}

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

    fn expr(mut self, expr: Expr) -> Self {
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

    fn version_of(self, keys: &[Key]) -> Self {
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

    fn load(mut self, keys: &[Key]) -> Self {
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

    /// Goes to one of these chains at random.
    #[must_use]
    pub fn goto_random(self, chains: &[String]) -> Self {
        let elements =
            chains.iter().zip(0..).map(|(chain, n)| Element::verdict([Field::Number(n)], Verdict::Goto(chain.clone())));
        let set = Set::verdicts("", [FieldKind::Number]).elements(elements);
        self.numgen(chains.len()).expr(Expr::VerdictMap { set: set.into(), key: R })
    }

    fn numgen(self, choices: usize) -> Self {
        let modulus = u32::try_from(choices).unwrap_or(u32::MAX);
        self.expr(Expr::Numgen { to: R, random: true, modulus })
    }

    /// Sets the bits of the packet's mark under the mask.
    #[must_use]
    pub fn set_mark(self, value: u32, mask: u32) -> Self {
        self.replace_bits(Key::Mark.load(R), value, mask).expr(Expr::MetaSet { key: Meta::Mark, from: R })
    }

    /// Sets the bits of the connection's mark under the mask.
    #[must_use]
    pub fn set_ct_mark(self, value: u32, mask: u32) -> Self {
        self.replace_bits(Expr::Ct { key: Ct::Mark, to: R }, value, mask).expr(Expr::CtSet { key: Ct::Mark, from: R })
    }

    fn replace_bits(self, load: Expr, value: u32, mask: u32) -> Self {
        if mask == u32::MAX {
            return self.expr(Expr::Immediate { to: R, value: value.to_ne_bytes().to_vec() });
        }
        let (keep, xor) = ((!mask).to_ne_bytes().to_vec(), value.to_ne_bytes().to_vec());
        self.expr(load).expr(Expr::Bitwise { from: R, to: R, mask: keep, xor })
    }

    /// Gives the packet its connection's mark.
    #[must_use]
    pub fn mark_from_ct(self) -> Self {
        self.expr(Expr::Ct { key: Ct::Mark, to: R }).expr(Expr::MetaSet { key: Meta::Mark, from: R })
    }

    /// Tracks the connection in another zone. Only before tracking, at priority -300.
    #[must_use]
    pub fn set_ct_zone(self, zone: u16) -> Self {
        self.expr(Expr::Immediate { to: R, value: zone.to_ne_bytes().to_vec() })
            .expr(Expr::CtSet { key: Ct::Zone, from: R })
    }

    /// Counts.
    #[must_use]
    pub fn counter(self) -> Self {
        self.expr(Expr::Counter)
    }

    /// Keeps connection tracking away from the packet.
    #[must_use]
    pub fn notrack(self) -> Self {
        self.expr(Expr::Notrack)
    }

    /// Decides about the packet.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.expr(Expr::Verdict(verdict))
    }

    /// Lets the packet pass.
    #[must_use]
    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    /// Drops the packet.
    #[must_use]
    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    /// Goes back to where this chain was jumped to from.
    #[must_use]
    pub fn back(self) -> Self {
        self.verdict(Verdict::Return)
    }

    /// Goes through another chain.
    #[must_use]
    pub fn jump(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Jump(chain.into()))
    }

    /// Goes over to another chain.
    #[must_use]
    pub fn goto(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Goto(chain.into()))
    }

    /// Refuses the packet with an ICMP message.
    #[must_use]
    pub fn reject(self) -> Self {
        self.expr(Expr::Reject(Reject::PortUnreachable))
    }

    /// Refuses a TCP packet with a reset.
    #[must_use]
    pub fn reject_with_reset(self) -> Self {
        self.expr(Expr::Reject(Reject::TcpReset))
    }

    /// Sends the connection to a port of this machine.
    #[must_use]
    pub fn redirect(self, port: u16) -> Self {
        self.expr(Expr::Immediate { to: R, value: port.to_be_bytes().to_vec() }).expr(Expr::Redirect { port: Some(R) })
    }

    /// Sends the connection elsewhere.
    #[must_use]
    pub fn dnat(self, to: SocketAddr) -> Self {
        let address = Field::from(to.ip()).bytes();
        let port = R.after(address.len());
        self.ip_version(to.is_ipv6())
            .expr(Expr::Immediate { to: R, value: address })
            .expr(Expr::Immediate { to: port, value: to.port().to_be_bytes().to_vec() })
            .expr(Expr::Nat { source: false, v6: to.is_ipv6(), address: Some(R), port: Some(port) })
    }

    /// Sends the connection to one of these addresses, all of one IP version, at random.
    #[must_use]
    pub fn dnat_random(self, to: &[SocketAddr]) -> Self {
        let v6 = to.iter().any(SocketAddr::is_ipv6);
        let address = if v6 { FieldKind::Ip6 } else { FieldKind::Ip4 };
        let elements = to
            .iter()
            .zip(0..)
            .map(|(to, n)| Element::map([Field::Number(n)], [to.ip().into(), Field::Port(to.port())]));
        let map = Set::map("", [FieldKind::Number], [address, FieldKind::Port]).elements(elements);
        self.ip_version(v6)
            .numgen(to.len())
            .expr(Expr::Map { set: map.into(), key: R, to: R })
            .expr(dnat_to_registers(v6))
    }

    /// Sends the connection where a map (to address and port) says; goes on when it says nothing.
    #[must_use]
    pub fn dnat_map(self, keys: &[Key], map: impl Into<SetRef>, v6: bool) -> Self {
        self.ip_version(v6).load(keys).expr(Expr::Map { set: map.into(), key: R, to: R }).expr(dnat_to_registers(v6))
    }

    /// Makes the connection come from this address.
    #[must_use]
    pub fn snat(self, from: IpAddr) -> Self {
        self.ip_version(from.is_ipv6())
            .expr(Expr::Immediate { to: R, value: Field::from(from).bytes() })
            .expr(Expr::Nat { source: true, v6: from.is_ipv6(), address: Some(R), port: None })
    }

    /// Makes the connection come from the address of the interface it leaves by.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.expr(Expr::Masquerade)
    }
}

/// Rewrites the destination to the address and port that a map left in the first registers.
fn dnat_to_registers(v6: bool) -> Expr {
    let port = R.after(if v6 { 16 } else { 4 });
    Expr::Nat { source: false, v6, address: Some(R), port: Some(port) }
}
