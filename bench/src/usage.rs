//! What processes use, as the kernel counts it: processor time and memory.

use anyhow::{Context, Result};
use std::{collections::BTreeMap, fs};
use testkit::World;

/// Unit of times in `/proc/PID/stat`: Linux shows user space hundredths of a second on every machine we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of the processes of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) processes: usize,
    /// Resident, of the largest; kB.
    pub(crate) resident: u64,
    /// What of it no other process shares; kB.
    pub(crate) private: u64,
}

/// Processor time that these have used since they started.
pub(crate) fn processor_seconds(pids: &[i32]) -> Result<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let stat = stat.with_context(|| format!("node proxy {pid} has ended during the measurement"))?;
        ticks += spent(&stat).with_context(|| format!("reading the processor time in {stat:?}"))?;
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// User and system time of a line of `/proc/PID/stat`; the name in parentheses may hold anything, so fields count from its end.
fn spent(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Memory of every role of a world.
pub(crate) fn memory(world: &World) -> Result<BTreeMap<String, Memory>> {
    let mut roles: BTreeMap<String, Memory> = BTreeMap::new();
    for process in world.processes("")? {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        let (Some(resident), Some(private)) = (field(&status, "VmRSS"), field(&status, "RssAnon")) else { continue };
        let role = roles.entry(role(&process.command)).or_default();
        role.processes += 1;
        if resident > role.resident {
            (role.resident, role.private) = (resident, private);
        }
    }
    Ok(roles)
}

/// A line of `/proc/PID/status` that counts kB.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The words by which the program was told its role: those up to the first option, at most two.
fn role(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let told: Vec<&str> = words.take_while(|word| !word.starts_with('-')).take(2).collect();
    if told.is_empty() { program.rsplit('/').next().unwrap_or_default().to_owned() } else { told.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("1 (a b) c) S 1 1 1 0 -1 4 5 6 7 8 120 30 0 0 20 0", Some(150))]
    #[case("1 (a) S 1", None)]
    #[case("", None)]
    fn processor_time(#[case] stat: &str, #[case] ticks: Option<u64>) {
        assert_eq!(spent(stat), ticks);
    }

    #[test]
    fn own_processor_time_is_read() {
        assert!(processor_seconds(&[i32::try_from(std::process::id()).unwrap()]).unwrap() >= 0.0);
    }

    #[test]
    fn memory_is_read() {
        let status = "Name:\tambit\nVmRSS:\t   12345 kB\nRssAnon:\t 700 kB\n";
        assert_eq!((field(status, "VmRSS"), field(status, "RssAnon")), (Some(12_345), Some(700)));
        assert_eq!(field(status, "VmHWM"), None);
    }

    #[rstest::rstest]
    #[case("/opt/ambit/bin/ambit proxy ztunnel", "proxy ztunnel")]
    #[case("/opt/ambit/bin/ambit host node --name n1", "host node")]
    #[case("/opt/ambit/bin/ambit apiserver --pki x", "apiserver")]
    #[case("/pause", "pause")]
    fn roles(#[case] command: &str, #[case] name: &str) {
        assert_eq!(role(command), name);
    }
}
