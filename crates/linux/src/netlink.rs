//! Links, addresses, routes and rules of one network namespace, asked for synchronously: every call is one request
//! and its answer. A socket stays in the namespace it was opened in. What should exist is the caller's business;
//! errors tell "there already" and "not there" apart (see [`crate::Error`]).

mod address;
mod link;
mod route;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::{Doing, Error, Result};
use crate::netns::NetNs;

pub use link::{Link, MacAddress, VethEnd};
pub use route::{Route, Rule, Scope};

/// A connection to the kernel about the links and routes of one namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a connection about `ns`.
    pub fn open(ns: &NetNs) -> Result<Self> {
        let doing = || format!("open a netlink socket in {}", ns.id());
        let socket = ns.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok::<_, std::io::Error>(socket)
        })?;
        let socket = socket.doing(doing)?;
        // Refuses to filter where the kernel would silently return everything; old kernels lack it.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a change and waits for the answer.
    fn change(&mut self, message: RouteNetlinkMessage, flags: u16, doing: impl Fn() -> String) -> Result<()> {
        self.talk(message, NLM_F_ACK | flags, &doing).map(drop)
    }

    /// Asks for a list.
    fn dump(&mut self, message: RouteNetlinkMessage, doing: impl Fn() -> String) -> Result<Vec<RouteNetlinkMessage>> {
        self.talk(message, NLM_F_DUMP, &doing)
    }

    fn talk(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        doing: &dyn Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).doing(doing)?;
        self.answer(doing)
    }

    fn answer(&self, doing: &dyn Fn() -> String) -> Result<Vec<RouteNetlinkMessage>> {
        let mut found = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full().doing(doing)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| Error::malformed(doing(), error.to_string()))?;
                let len = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
                rest = &rest[len..];
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Error(refusal) if refusal.code.is_some() => {
                        return Err(Error::new(doing(), refusal.to_io()));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    _ => {}
                }
            }
        }
    }
}

fn family(v6: bool) -> AddressFamily {
    if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}
