//! Interfaces: bridges, veth pairs, and what can be changed about any of them.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::Netlink;
use crate::error::{Error, Result};
use crate::netns::NetNs;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An interface as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, when it has one.
    pub mac: Option<MacAddress>,
    /// The largest packet it takes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// The index of the bridge it is a port of.
    pub master: Option<u32>,
    /// The index of its other end or of what it sits on; for veths counted in the peer's namespace.
    pub peer: Option<u32>,
}

/// One end of a veth pair to be.
#[derive(Debug, Clone)]
pub struct VethEnd<'a> {
    /// The interface's name there.
    pub name: &'a str,
    /// Its hardware address; random when absent.
    pub mac: Option<MacAddress>,
}

impl Netlink {
    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let answers =
            self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), || "list interfaces".to_owned())?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(read(message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// The interface called `name`.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| {
            Error::new(format!("find the interface {name}"), std::io::Error::from_raw_os_error(libc::ENODEV))
        })
    }

    /// Makes a bridge, switched off, and returns its index.
    pub fn create_bridge(&mut self, name: &str, mac: Option<MacAddress>) -> Result<u32> {
        let mut message = described(name, mac, None);
        let kind = vec![
            LinkInfo::Kind(InfoKind::Bridge),
            // No waiting for loops that cannot be: a port carries traffic at once.
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::ForwardDelay(0)])),
        ];
        message.attributes.push(LinkAttribute::LinkInfo(kind));
        self.create(message, || format!("create the bridge {name}"))?;
        Ok(self.link(name)?.index)
    }

    /// Makes a veth pair: `here` in this namespace, `there` directly in `peer_ns`. Both are switched off. Returns the
    /// index of `here`.
    pub fn create_veth(&mut self, here: &VethEnd<'_>, there: &VethEnd<'_>, peer_ns: &NetNs, mtu: u32) -> Result<u32> {
        let mut message = described(here.name, here.mac, Some(mtu));
        let mut peer = described(there.name, there.mac, Some(mtu));
        peer.attributes.push(LinkAttribute::NetNsFd(peer_ns.as_fd().as_raw_fd()));
        let kind = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))];
        message.attributes.push(LinkAttribute::LinkInfo(kind));
        self.create(message, || {
            format!("create the veth pair {} and {} (in {})", here.name, there.name, peer_ns.id())
        })?;
        Ok(self.link(here.name)?.index)
    }

    fn create(&mut self, message: LinkMessage, doing: impl Fn() -> String) -> Result<()> {
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, doing)
    }

    /// Switches an interface on.
    pub fn set_up(&mut self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set(index, message, || format!("switch interface {index} on"))
    }

    /// Switches an interface off.
    pub fn set_down(&mut self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.change_mask = LinkFlags::Up;
        self.set(index, message, || format!("switch interface {index} off"))
    }

    /// Makes an interface a port of a bridge, or of none.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Controller(master.unwrap_or(0)));
        self.set(index, message, || format!("make interface {index} a port of {master:?}"))
    }

    /// Renames an interface, which must be off.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.set(index, message, || format!("rename interface {index} to {name}"))
    }

    /// Removes an interface, and with a veth its peer. One that is gone is no error.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.change(RouteNetlinkMessage::DelLink(message), 0, || format!("delete interface {index}")) {
            Err(error) if error.not_found() => Ok(()),
            other => other,
        }
    }

    fn set(&mut self, index: u32, mut message: LinkMessage, doing: impl Fn() -> String) -> Result<()> {
        message.header.index = index;
        self.change(RouteNetlinkMessage::SetLink(message), 0, doing)
    }
}

fn described(name: &str, mac: Option<MacAddress>, mtu: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}

fn read(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        peer: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(MacAddress),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            _ => {}
        }
    }
    link
}
