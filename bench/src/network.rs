//! Kernel settings that would otherwise measure something else: the same in every namespace of the world, nowhere else.

use anyhow::{Result, bail};
use linux::{netns::NetNs, sysctl};
use testkit::World;

/// Congestion controls that do not pace, best first; pacing (BBR) distorts what virtual links show.
const CONTROLS: [&str; 2] = ["cubic", "reno"];
const CONTROL: &str = "net.ipv4.tcp_congestion_control";
/// Seconds that a closed connection stays in the connection table: tens of thousands a second would fill it.
const LINGER: (&str, &str) = ("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "1");

/// What was set.
#[derive(Debug)]
pub(crate) struct Evened {
    pub(crate) control: &'static str,
    pub(crate) namespaces: usize,
}

/// Sets everything in each network namespace of a world.
pub(crate) fn even_out(world: &World) -> Result<Evened> {
    let namespaces = namespaces(world)?;
    for namespace in &namespaces {
        // A node that tracks no connections has no such setting, and needs none.
        let _absent = sysctl::write(namespace, LINGER.0, LINGER.1);
    }
    let everywhere = |control: &&str| namespaces.iter().all(|one| sysctl::write(one, CONTROL, control).is_ok());
    match CONTROLS.into_iter().find(everywhere) {
        Some(control) => Ok(Evened { control, namespaces: namespaces.len() }),
        None => bail!("none of {CONTROLS:?} can be set as {CONTROL} in the namespaces of {}", world.name),
    }
}

/// Those of the world's processes, without the machine's own.
fn namespaces(world: &World) -> Result<Vec<NetNs>> {
    let own = NetNs::current()?;
    let mut found: Vec<NetNs> = Vec::new();
    for process in world.processes("")? {
        // A process that has just ended has none.
        let Ok(namespace) = NetNs::of_process(u32::try_from(process.pid)?) else { continue };
        if namespace.id() != own.id() && found.iter().all(|one| one.id() != namespace.id()) {
            found.push(namespace);
        }
    }
    Ok(found)
}
