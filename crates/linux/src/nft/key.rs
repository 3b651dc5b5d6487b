//! Parts of packets that rules compare and look up by.

use super::expr::{Expr, Meta, PayloadBase, Reg};
use super::field::FieldKind;

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
    pub(super) fn version(self) -> Option<bool> {
        match self {
            Self::Ip4Source | Self::Ip4Destination => Some(false),
            Self::Ip6Source | Self::Ip6Destination => Some(true),
            _ => None,
        }
    }
}
