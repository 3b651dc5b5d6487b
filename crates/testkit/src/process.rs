//! Processes by descent: those of one world, and nobody else's.

use nix::{sys::signal, unistd::Pid};
use std::{collections::BTreeMap, fs};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its words.
    pub command: String,
}

/// Every process that can be seen.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// A process and all that descend from it.
pub fn family(ancestor: i32) -> Vec<Process> {
    let all: BTreeMap<i32, Process> = all().into_iter().map(|process| (process.pid, process)).collect();
    let descends = |process: &Process| {
        let mut pid = process.pid;
        while pid != ancestor {
            match all.get(&pid) {
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        true
    };
    all.values().filter(|process| descends(process)).cloned().collect()
}

/// Ends a process on the spot, as a crash would.
pub fn kill(pid: i32) {
    // Already gone is what was wished for.
    let _ = signal::kill(Pid::from_raw(pid), signal::Signal::SIGKILL);
}

/// Whether it runs; one that has ended and not been waited for does not.
pub fn is_alive(pid: i32) -> bool {
    read(pid).is_some_and(|process| !process.command.is_empty())
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so what follows the last one counts.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&words).replace('\0', " ").trim().to_owned();
    Some(Process { pid, parent, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_of_its_own_family() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(family(own).iter().any(|process| process.pid == own));
        assert!(is_alive(own));
        assert!(!family(own).iter().any(|process| process.pid == 1));
    }
}
