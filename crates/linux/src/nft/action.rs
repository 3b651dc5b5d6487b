//! Rules in words, second half: what to do with packets that met the conditions.

use std::net::{IpAddr, SocketAddr};

use super::Verdict;
use super::expr::{Ct, Expr, Meta, Reg, Reject};
use super::field::{Field, FieldKind};
use super::key::Key;
use super::rule::Rule;
use super::set::{Element, Set, SetRef};

const R: Reg = Reg::FIRST;

impl Rule {
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
