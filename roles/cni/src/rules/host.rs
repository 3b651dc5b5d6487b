//! What is put into the node's own network namespace: connections of the node itself to enrolled pods come from a
//! known address, by which the pods' rules let health probes through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linux::netns::NetNs;
use linux::nft::{self, Chain, ChainKind, Element, Family, Field, FieldKind, Hook, Key, Rule, Set, Table};

use super::{NAT, PodRulesError};

const SET_V4: &str = "istio-inpod-probes-v4";
const SET_V6: &str = "istio-inpod-probes-v6";

/// Before the usual 100: another plugin's masquerading would take the connection otherwise.
const PRIORITY: i32 = 95;

/// The node's own rules.
#[derive(Debug, Clone)]
pub struct HostRules {
    /// The node's namespace.
    pub ns: NetNs,
    /// What probes come from, IPv4.
    pub probe_v4: Ipv4Addr,
    /// What probes come from, IPv6.
    pub probe_v6: Ipv6Addr,
}

impl HostRules {
    pub(super) fn table(&self, members: &[(IpAddr, String)]) -> Table {
        let of = |v6: bool| {
            members
                .iter()
                .filter(move |(ip, _)| ip.is_ipv6() == v6)
                .map(|(ip, uid)| element(*ip, uid))
                .collect::<Vec<_>>()
        };
        let snat = |key, set: &str, to: IpAddr| Rule::new().has_socket().tcp().in_set(&[key], set).snat(to);
        Table::new(Family::Inet, NAT)
            .set(Set::new(SET_V4, [FieldKind::Ip4]).elements(of(false)))
            .set(Set::new(SET_V6, [FieldKind::Ip6]).elements(of(true)))
            .chain(
                Chain::base("postrouting", ChainKind::Nat, Hook::Postrouting, PRIORITY)
                    .rule(Rule::new().counter().jump("istio-postrouting")),
            )
            .chain(
                Chain::new("istio-postrouting")
                    .rule(snat(Key::Ip4Destination, SET_V4, self.probe_v4.into()))
                    .rule(snat(Key::Ip6Destination, SET_V6, self.probe_v6.into())),
            )
    }

    /// Makes the rules, with exactly these pods.
    pub fn reset(&self, members: &[(IpAddr, String)]) -> Result<(), PodRulesError> {
        let wanted = self.table(members);
        if nft::read(&self.ns, Family::Inet, NAT)?.as_ref() == Some(&wanted) {
            return Ok(());
        }
        wanted.apply(&self.ns)?;
        Ok(())
    }

    /// Lets probes to a pod's address through. The address may have been another pod's before.
    pub fn add(&self, ip: IpAddr, uid: &str) -> Result<(), PodRulesError> {
        let wanted = element(ip, uid);
        match self.find(ip)? {
            Some(found) if found == wanted => return Ok(()),
            Some(found) => self.delete(ip, &found)?,
            None => {}
        }
        nft::add_elements(&self.ns, Family::Inet, NAT, set_of(ip), &[wanted])?;
        Ok(())
    }

    /// Forgets a pod's address, unless it is another pod's by now.
    pub fn remove(&self, ip: IpAddr, uid: &str) -> Result<(), PodRulesError> {
        match self.find(ip)? {
            Some(found) if found.comment.as_deref() == Some(uid) => self.delete(ip, &found),
            _ => Ok(()),
        }
    }

    fn find(&self, ip: IpAddr) -> Result<Option<Element>, PodRulesError> {
        let elements = nft::elements(&self.ns, Family::Inet, NAT, set_of(ip))?;
        Ok(elements.into_iter().find(|element| element.key == [Field::from(ip)]))
    }

    fn delete(&self, ip: IpAddr, element: &Element) -> Result<(), PodRulesError> {
        nft::delete_elements(&self.ns, Family::Inet, NAT, set_of(ip), std::slice::from_ref(element))?;
        Ok(())
    }

    /// Takes the rules away.
    pub fn uninstall(&self) -> Result<(), PodRulesError> {
        Ok(nft::delete(&self.ns, Family::Inet, NAT)?)
    }
}

fn set_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv6() { SET_V6 } else { SET_V4 }
}

fn element(ip: IpAddr, uid: &str) -> Element {
    Element::member([Field::from(ip)]).comment(uid)
}
