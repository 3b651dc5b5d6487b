//! What rules are made of, as the kernel runs it: small steps that load something into a register, compare, look up,
//! or act. Written by [`super::Rule`], read back from the kernel, and rendered as text.

use super::Verdict;
use super::set::SetRef;

/// One of sixteen registers of four bytes. Wider values take several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Reg(pub(super) u8);

impl Reg {
    /// The first one.
    pub(super) const FIRST: Self = Self(0);

    /// The register after a value of `len` bytes in this one.
    pub(super) fn after(self, len: usize) -> Self {
        Self(self.0.saturating_add(len.div_ceil(4) as u8))
    }
}

/// What the kernel knows about a packet besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    /// Its mark.
    Mark,
    /// The interface it came by.
    IifName,
    /// The interface it leaves by.
    OifName,
    /// The user who owns the sending socket; there is none for packets that pass through.
    SkUid,
    /// IPv4 or IPv6.
    NfProto,
    /// The transport protocol.
    L4Proto,
}

/// What connection tracking knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ct {
    /// New, established, …, as bits.
    State,
    /// The connection's mark.
    Mark,
    /// The zone that keeps equal addresses apart.
    Zone,
}

/// Where in the packet to count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadBase {
    /// The IP header.
    Network,
    /// The TCP or UDP header.
    Transport,
}

/// How two values must relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Equal.
    Equal,
    /// Different.
    NotEqual,
}

/// How a refusal is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reject {
    /// With an ICMP message: nobody listens there.
    PortUnreachable,
    /// With a TCP reset.
    TcpReset,
}

/// A step of a rule. A comparison that fails ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    /// Loads what is known about the packet.
    Meta { key: Meta, to: Reg },
    /// Changes what is known about the packet.
    MetaSet { key: Meta, from: Reg },
    /// Loads what is known about the connection.
    Ct { key: Ct, to: Reg },
    /// Changes what is known about the connection.
    CtSet { key: Ct, from: Reg },
    /// Loads bytes of the packet.
    Payload { base: PayloadBase, offset: u32, len: u32, to: Reg },
    /// Compares.
    Cmp { relation: Relation, reg: Reg, value: Vec<u8> },
    /// `to = (from & mask) ^ xor`.
    Bitwise { from: Reg, to: Reg, mask: Vec<u8>, xor: Vec<u8> },
    /// Loads a constant.
    Immediate { to: Reg, value: Vec<u8> },
    /// Decides about the packet.
    Verdict(Verdict),
    /// Goes on if the key is (or with `not`: is not) in the set.
    Lookup { set: SetRef, key: Reg, not: bool },
    /// Loads what the key leads to; ends the rule if it is not there.
    Map { set: SetRef, key: Reg, to: Reg },
    /// Decides as the key says; goes on if it is not there.
    VerdictMap { set: SetRef, key: Reg },
    /// Rewrites the source or destination.
    Nat { source: bool, v6: bool, address: Option<Reg>, port: Option<Reg> },
    /// Rewrites the destination to this machine.
    Redirect { port: Option<Reg> },
    /// Rewrites the source to the address of the interface it leaves by.
    Masquerade,
    /// Loads a number below `modulus`: the next or a random one.
    Numgen { to: Reg, random: bool, modulus: u32 },
    /// Loads what kind of address the destination is (1 elsewhere, 2 this machine's, …).
    FibDestinationType { to: Reg },
    /// Counts packets and bytes.
    Counter,
    /// Refuses.
    Reject(Reject),
    /// Keeps connection tracking away.
    Notrack,
    /// A step that this program never writes: by name.
    Unknown(String),
}
