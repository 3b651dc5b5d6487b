//! The veth pair of a pod: made, found again, taken away.
//!
//! Every host end carries the same link-local gateway address, so that the kernel answers the pod's question for it;
//! routes to pods name the node's own address as source, or the kernel would choose the gateway's.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use linux::netlink::{Netlink, Route, Scope, VethEnd};
use linux::netns::NetNs;

use super::Error;
use super::protocol::Request;

/// What every pod's default route goes to.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Both ends of a pod's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) host_name: String,
    pub(super) host_mac: String,
    pub(super) pod_mac: String,
}

/// Connects the pod's namespace; the one of this process is the node's.
pub(super) fn connect(request: &Request, pod: &NetNs, address: Ipv4Addr) -> Result<Link, Error> {
    let node = NetNs::current()?;
    let mut here = Netlink::open(&node)?;
    let host_name = host_name(&request.container);
    let ends = (VethEnd { name: &host_name, mac: None }, VethEnd { name: &request.interface, mac: None });
    let index = match here.create_veth(&ends.0, &ends.1, pod, request.mtu) {
        // What an ADD that was cut off left behind has no pod: the runtime gives every try a new namespace.
        Err(error) if error.already_exists() => {
            remove(&mut here, &host_name)?;
            here.create_veth(&ends.0, &ends.1, pod, request.mtu)?
        }
        made => made?,
    };
    let made = connect_ends(request, &node, &mut here, index, pod, address);
    if made.is_err() {
        here.delete_link(index)?;
    }
    made
}

fn connect_ends(
    request: &Request,
    node: &NetNs,
    here: &mut Netlink,
    index: u32,
    pod: &NetNs,
    address: Ipv4Addr,
) -> Result<Link, Error> {
    let mut there = Netlink::open(pod)?;
    let loopback = there.link("lo")?;
    there.set_up(loopback.index)?;
    let inside = there.link(&request.interface)?;
    there.add_address(inside.index, single(address))?;
    there.set_up(inside.index)?;

    let host_name = host_name(&request.container);
    // The reverse path of a connection that was translated may be another interface.
    linux::sysctl::write(node, &format!("net/ipv4/conf/{host_name}/rp_filter"), "2")?;
    here.add_address(index, single(GATEWAY))?;
    here.set_up(index)?;
    let mut to_pod = Route::to(single(address)).dev(index).scope(Scope::Link);
    if let Some(source) = node_address(here)? {
        to_pod = to_pod.source(source.into());
    }
    here.add_route(&to_pod)?;

    let everywhere = IpNet::V4(Ipv4Net::default());
    there.add_route(&Route::to(everywhere).via(IpAddr::V4(GATEWAY)).dev(inside.index).onlink())?;
    let mac = |link: &linux::netlink::Link| link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    Ok(Link { host_mac: mac(&here.link(&host_name)?), pod_mac: mac(&inside), host_name })
}

/// Removes the pair, from whichever end is still there.
pub(super) fn disconnect(container: &str) -> Result<(), Error> {
    let mut here = Netlink::open(&NetNs::current()?)?;
    remove(&mut here, &host_name(container))
}

/// Whether the pod still has the interface and address, and the node the way to it.
pub(super) fn check(request: &Request, pod: &NetNs, address: Ipv4Addr) -> Result<(), Error> {
    let changed = |what: String| Error::Changed(request.container.clone(), what);
    let node = NetNs::current()?;
    let mut there = Netlink::open(pod)?;
    if !there.link(&request.interface)?.up {
        return Err(changed(format!("{} is down", request.interface)));
    }
    if !there.holds_address(address.into())? {
        return Err(changed(format!("it lost its address {address}")));
    }
    let mut here = Netlink::open(&node)?;
    let index = here.link(&host_name(&request.container))?.index;
    let routed = |route: &Route| route.destination == single(address) && route.interface == Some(index);
    if here.routes(MAIN_TABLE)?.iter().any(routed) {
        Ok(())
    } else {
        Err(changed(format!("the node has no route to {address}")))
    }
}

const MAIN_TABLE: u32 = 254;

fn remove(here: &mut Netlink, name: &str) -> Result<(), Error> {
    match here.link(name) {
        Ok(link) => Ok(here.delete_link(link.index)?),
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The node's own address: the first that is neither loopback nor link-local.
fn node_address(here: &mut Netlink) -> Result<Option<Ipv4Addr>, Error> {
    let addresses = here.addresses()?;
    let own = addresses.into_iter().filter_map(|(_, address)| match address.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    Ok(own.into_iter().find(|address| !address.is_loopback() && !address.is_link_local()))
}

fn single(address: Ipv4Addr) -> IpNet {
    IpNet::new_assert(address.into(), 32)
}

/// A name that follows from the container and fits the kernel's 15 characters.
fn host_name(container: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(container);
    digest.iter().take(5).fold("veth".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_fit_and_differ() {
        let (one, other) = (host_name("a"), host_name("b"));
        assert!(one.len() <= 15 && one.starts_with("veth"));
        assert_ne!(one, other);
    }
}
