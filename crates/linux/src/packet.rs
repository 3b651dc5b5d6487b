//! Watching an interface: every frame that passes, whole, with its headers read. For looking at what is really on
//! the wire. Frames that this program cannot read come with their bytes all the same.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Doing, Result};
use crate::netlink::Netlink;
use crate::netns::NetNs;
use crate::watch::watch;

/// The longest frame: with segmentation offload a whole 64 KiB segment comes as one.
const LONGEST: usize = 68 * 1024;

/// Watches one interface.
#[derive(Debug)]
pub struct Sniffer {
    fd: AsyncFd<OwnedFd>,
}

impl Sniffer {
    /// Starts watching the interface called `name` in `ns`. Must be called within a tokio runtime.
    pub fn open(ns: &NetNs, name: &str) -> Result<Self> {
        let index = Netlink::open(ns)?.link(name)?.index;
        let doing = || format!("watch the interface {name} in {}", ns.id());
        let fd = ns.run(packet_socket)?.doing(doing)?;
        bind(&fd, index).doing(doing)?;
        Ok(Self { fd: watch(fd, Interest::READABLE).doing(doing)? })
    }

    /// Waits for the next frame.
    pub async fn next(&self) -> io::Result<Frame> {
        let mut bytes = vec![0; LONGEST];
        let read = self.fd.async_io(Interest::READABLE, |fd| {
            nix::sys::socket::recv(fd.as_raw_fd(), &mut bytes, nix::sys::socket::MsgFlags::empty())
                .map_err(io::Error::from)
        });
        let len = read.await?;
        bytes.truncate(len);
        Ok(Frame { bytes })
    }
}

const ALL_PROTOCOLS: u16 = (libc::ETH_P_ALL as u16).to_be();

fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: nothing arrives before the interface is chosen.
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ALL_PROTOCOLS,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address lives through the call and its size is passed along.
    match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One frame as it passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// A transport packet in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its protocol's number: 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// TCP's flags; 0 for others.
    pub flags: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

/// TCP's flag for opening a connection.
pub const SYN: u8 = 0x02;
/// TCP's flag for a reset.
pub const RST: u8 = 0x04;

impl Frame {
    /// The TCP or UDP packet in the frame, if that is what it is.
    pub fn segment(&self) -> Option<Segment<'_>> {
        let kind = u16::from_be_bytes(self.bytes.get(12..14)?.try_into().ok()?);
        let packet = self.bytes.get(14..)?;
        match i32::from(kind) {
            libc::ETH_P_IP => v4(packet),
            libc::ETH_P_IPV6 => v6(packet),
            _ => None,
        }
    }

    /// Whether these bytes are in the frame, in one piece.
    pub fn contains(&self, needle: &[u8]) -> bool {
        !needle.is_empty() && self.bytes.windows(needle.len()).any(|window| window == needle)
    }
}

impl Segment<'_> {
    /// Whether the payload begins like a TLS record.
    pub fn looks_like_tls(&self) -> bool {
        matches!(self.payload, [20..=23, 3, 0..=4, ..])
    }
}

fn v4(packet: &[u8]) -> Option<Segment<'_>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    // A length of 0 is a segment that the card would have cut; what follows the header is all of it.
    let end = if total == 0 { packet.len() } else { total.min(packet.len()) };
    transport(*packet.get(9)?, source.into(), destination.into(), packet.get(header..end)?)
}

/// Packets with extension headers are not looked into.
fn v6(packet: &[u8]) -> Option<Segment<'_>> {
    let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
    let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
    transport(*packet.get(6)?, source.into(), destination.into(), packet.get(40..)?)
}

fn transport(protocol: u8, source: IpAddr, destination: IpAddr, bytes: &[u8]) -> Option<Segment<'_>> {
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (header, flags) = match i32::from(protocol) {
        libc::IPPROTO_TCP => (usize::from(bytes.get(12)? >> 4) * 4, *bytes.get(13)?),
        libc::IPPROTO_UDP => (8, 0),
        _ => return None,
    };
    Some(Segment {
        protocol,
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
        flags,
        payload: bytes.get(header..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_frame(payload: &[u8]) -> Frame {
        let mut bytes = vec![0; 12];
        bytes.extend([0x08, 0x00]);
        let total = (20 + 20 + payload.len()) as u16;
        bytes.extend([0x45, 0]);
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([0x1f, 0x90, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, SYN, 0, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        Frame { bytes }
    }

    #[test]
    fn reads_tcp_over_ipv4() {
        let frame = tcp_frame(&[22, 3, 1, 0]);
        let segment = frame.segment().unwrap();
        assert_eq!(segment.source, "10.0.0.1:8080".parse().unwrap());
        assert_eq!(segment.destination, "10.0.0.2:80".parse().unwrap());
        assert_eq!(segment.flags, SYN);
        assert!(segment.looks_like_tls());
        assert!(frame.contains(&[22, 3, 1]));
        assert!(!frame.contains(b"secret"));
    }

    #[test]
    fn a_cut_frame_is_no_segment_and_no_panic() {
        let frame = tcp_frame(b"hello");
        for len in 0..54 {
            let cut = Frame { bytes: frame.bytes[..len].to_vec() };
            assert_eq!(cut.segment(), None, "{len} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_passes_is_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..128)) {
            let _ = Frame { bytes }.segment();
        }
    }
}
