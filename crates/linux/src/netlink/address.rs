//! Addresses of interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::{MacAddress, Netlink, family};
use crate::error::Result;

impl Netlink {
    /// Gives an interface an address. One that it has already is no error.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr().is_ipv6());
        message.header.prefix_len = address.prefix_len();
        message.header.index = index;
        message.header.scope = if address.addr().is_loopback() { AddressScope::Host } else { AddressScope::Universe };
        if address.addr().is_ipv6() {
            // Usable at once: nobody else can hold an address that we assign.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Local(address.addr()));
        message.attributes.push(AddressAttribute::Address(address.addr()));
        let added = self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add the address {address} to interface {index}")
        });
        match added {
            Err(error) if error.already_exists() => Ok(()),
            other => other,
        }
    }

    /// Takes an address from an interface; one that it does not have is no error.
    pub fn delete_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr().is_ipv6());
        message.header.prefix_len = address.prefix_len();
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(address.addr()));
        let deleted = self.change(RouteNetlinkMessage::DelAddress(message), 0, || {
            format!("delete the address {address} of interface {index}")
        });
        match deleted {
            Err(error) if error.errno() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => other,
        }
    }

    /// Tells the kernel for good which hardware address a neighbour has.
    pub fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: MacAddress) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address.is_ipv6());
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(address.into()));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("add the neighbour {address} at {mac} to interface {index}")
        })
    }

    /// All addresses with the interfaces that have them.
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpNet)>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump(request, || "list addresses".to_owned())?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => read(&message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Whether any interface has this address.
    pub fn holds_address(&mut self, address: IpAddr) -> Result<bool> {
        Ok(self.addresses()?.iter().any(|(_, net)| net.addr() == address))
    }
}

/// The interface's own address: Local where there is one (pairs of points differ in Address), else Address.
fn read(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    Some((message.header.index, IpNet::new(own.or(any)?, message.header.prefix_len).ok()?))
}
