//! Values that packets are compared with, and how wide and how ordered the kernel keeps each kind.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// An IPv4 address.
    Ip4,
    /// An IPv6 address.
    Ip6,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
    /// A packet or connection mark.
    Mark,
    /// An interface's name.
    Name,
    /// A plain number, such as one drawn by `numgen` or a user id.
    Number,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// An IPv4 address.
    Ip4(Ipv4Addr),
    /// An IPv6 address.
    Ip6(Ipv6Addr),
    /// A transport protocol's number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// A packet or connection mark.
    Mark(u32),
    /// An interface's name.
    Name(String),
    /// A plain number.
    Number(u32),
}

impl From<IpAddr> for Field {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::Ip4(ip),
            IpAddr::V6(ip) => Self::Ip6(ip),
        }
    }
}

/// The width of an interface name, its end padded with zeroes.
const NAME_LEN: usize = 16;

impl FieldKind {
    /// Bytes of a value.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Ip4 | Self::Mark | Self::Number => 4,
            Self::Ip6 | Self::Name => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// Bytes of a value within a longer key, where each begins at a multiple of four.
    pub(super) fn padded_len(self) -> usize {
        self.len().next_multiple_of(4)
    }

    /// The number that the `nft` program knows the kind by. The kernel only hands it through.
    pub(super) fn nft_type(self) -> u32 {
        match self {
            Self::Ip4 => 7,
            Self::Ip6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Name => 41,
            Self::Number => 4,
        }
    }

    pub(super) fn from_nft_type(number: u32) -> Option<Self> {
        let all = [Self::Ip4, Self::Ip6, Self::Protocol, Self::Port, Self::Mark, Self::Name, Self::Number];
        all.into_iter().find(|kind| kind.nft_type() == number)
    }

    /// The value in `bytes`, which may be longer by padding.
    pub(super) fn read(self, bytes: &[u8]) -> Option<Field> {
        let bytes = bytes.get(..self.len())?;
        Some(match self {
            Self::Ip4 => Field::Ip4(<[u8; 4]>::try_from(bytes).ok()?.into()),
            Self::Ip6 => Field::Ip6(<[u8; 16]>::try_from(bytes).ok()?.into()),
            Self::Protocol => Field::Protocol(*bytes.first()?),
            Self::Port => Field::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
            Self::Mark => Field::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Self::Number => Field::Number(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Self::Name => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                Field::Name(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
            }
        })
    }
}

impl Field {
    /// What kind of value this is.
    pub fn kind(&self) -> FieldKind {
        match self {
            Self::Ip4(_) => FieldKind::Ip4,
            Self::Ip6(_) => FieldKind::Ip6,
            Self::Protocol(_) => FieldKind::Protocol,
            Self::Port(_) => FieldKind::Port,
            Self::Mark(_) => FieldKind::Mark,
            Self::Name(_) => FieldKind::Name,
            Self::Number(_) => FieldKind::Number,
        }
    }

    /// As the kernel keeps it: what comes from packets in network order, what the kernel made in its own.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ip4(ip) => ip.octets().to_vec(),
            Self::Ip6(ip) => ip.octets().to_vec(),
            Self::Protocol(number) => vec![*number],
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Mark(number) | Self::Number(number) => number.to_ne_bytes().to_vec(),
            Self::Name(name) => {
                let mut bytes = name.as_bytes().to_vec();
                // The last byte is the terminator: longer names do not exist.
                bytes.truncate(NAME_LEN - 1);
                bytes.resize(NAME_LEN, 0);
                bytes
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip4(ip) => write!(f, "{ip}"),
            Self::Ip6(ip) => write!(f, "{ip}"),
            Self::Protocol(6) => f.write_str("tcp"),
            Self::Protocol(17) => f.write_str("udp"),
            Self::Protocol(number) => write!(f, "{number}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Mark(mark) => write!(f, "{mark:#x}"),
            Self::Name(name) => write!(f, "\"{name}\""),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Several values as one key: each padded to a multiple of four. A single value is not padded.
pub(super) fn join(fields: &[Field]) -> Vec<u8> {
    if let [only] = fields {
        return only.bytes();
    }
    let mut joined = Vec::new();
    for field in fields {
        joined.extend(field.bytes());
        joined.resize(joined.len().next_multiple_of(4), 0);
    }
    joined
}

/// The values in a key made by [`join`].
pub(super) fn split(kinds: &[FieldKind], mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    for kind in kinds {
        fields.push(kind.read(bytes)?);
        bytes = bytes.get(kind.padded_len().min(bytes.len())..)?;
    }
    Some(fields)
}

/// Bytes of a key of these kinds.
pub(super) fn joined_len(kinds: &[FieldKind]) -> usize {
    match kinds {
        [only] => only.len(),
        several => several.iter().map(|kind| kind.padded_len()).sum(),
    }
}

/// Types of several values in one number, six bits each, the last lowest.
pub(super) fn joined_type(kinds: &[FieldKind]) -> u32 {
    kinds.iter().fold(0, |all, kind| (all << 6) | kind.nft_type())
}

/// The kinds in a number made by [`joined_type`].
pub(super) fn split_type(mut number: u32) -> Option<Vec<FieldKind>> {
    let mut kinds = Vec::new();
    while number != 0 {
        kinds.push(FieldKind::from_nft_type(number & 0x3f)?);
        number >>= 6;
    }
    kinds.reverse();
    Some(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_there_and_back() {
        let fields = vec![
            Field::Ip4(Ipv4Addr::new(10, 0, 0, 1)),
            Field::Protocol(6),
            Field::Port(80),
            Field::Name("eth0".to_owned()),
            Field::Mark(0x539),
        ];
        let kinds: Vec<_> = fields.iter().map(Field::kind).collect();
        let bytes = join(&fields);
        assert_eq!(bytes.len(), joined_len(&kinds));
        assert_eq!(bytes[..12], [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(split(&kinds, &bytes), Some(fields));
        assert_eq!(split_type(joined_type(&kinds)), Some(kinds));
    }

    #[test]
    fn short_keys_are_refused() {
        assert_eq!(split(&[FieldKind::Ip4, FieldKind::Port], &[1, 2, 3, 4, 0]), None);
        assert_eq!(split(&[FieldKind::Ip6], &[0; 4]), None);
    }
}
