//! The PROXY protocol header, version 2, that a sandwiched application reads ahead of a connection (ztunnel.md §4.9).

use model::Identity;
use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// Type of the field that carries the client's SPIFFE identity.
const AUTHORITY_FIELD: u8 = 0xD0;

/// The header for one connection. Addresses of different families are both written as IPv6.
pub(crate) fn header(source: SocketAddr, destination: SocketAddr, identity: Option<&Identity>) -> Vec<u8> {
    let (family, mut body) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (TCP_OVER_IPV4, [from.octets(), to.octets()].concat()),
        (from, to) => (TCP_OVER_IPV6, [as_ipv6(from), as_ipv6(to)].concat()),
    };
    body.extend(source.port().to_be_bytes());
    body.extend(destination.port().to_be_bytes());
    if let Some(identity) = identity {
        let text = identity.to_string();
        // An identity that is longer than the field's length can say is left out rather than cut.
        if let Ok(length) = u16::try_from(text.len()).map(u16::to_be_bytes) {
            body.push(AUTHORITY_FIELD);
            body.extend(length);
            body.extend(text.bytes());
        }
    }
    let mut header = Vec::with_capacity(16 + body.len());
    header.extend(SIGNATURE);
    header.extend([VERSION_2_PROXY, family]);
    header.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend(body);
    header
}

fn as_ipv6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_header_with_an_identity() {
        let identity = "spiffe://td/ns/a/sa/b".parse().unwrap();
        let header = header("10.0.0.1:256".parse().unwrap(), "10.0.0.2:80".parse().unwrap(), Some(&identity));
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x24".to_vec();
        expected.extend([10, 0, 0, 1, 10, 0, 0, 2, 1, 0, 0, 80, 0xD0, 0, 21]);
        expected.extend(b"spiffe://td/ns/a/sa/b");
        assert_eq!(header, expected);
    }

    #[test]
    fn mixed_families_are_written_as_ipv6() {
        let header = header("10.0.0.1:1".parse().unwrap(), "[fd00::1]:80".parse().unwrap(), None);
        assert_eq!(&header[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(&header[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    }
}
