//! What a machine shows of meshes: compare before and after.

use crate::process;
use std::{collections::BTreeSet, fmt, fs};

/// Links, mounts, files and processes that a mesh may leave behind in the machine's own namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// As it is now. `name` is the mesh's, so that others' meshes on the machine do not count; `binary` is the program's path.
    pub fn of(name: &str, binary: &str) -> Self {
        let mut found = BTreeSet::new();
        let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        found.extend(links.map(|link| format!("link {}", link.file_name().to_string_lossy())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        found.extend(
            places
                .filter(|place| place.contains("ambit") || place.contains("netns"))
                .map(|place| format!("mount {place}")),
        );
        let named = |folder: &str| {
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let files =
            [named("/run/netns"), named("/var/run/netns"), named("/opt/cni/bin"), named("/etc/cni/net.d")].concat();
        found.extend(files.iter().map(|path| format!("file {}", path.display())));
        let running = process::all().into_iter().filter(|one| is_of(&one.command, name, binary));
        found.extend(running.map(|one| format!("process {} {}", one.pid, one.command)));
        Self(found)
    }

    /// What is here and was not there.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// `ambit up --name NAME` and its kind; processes inside a world cannot outlive it without also being seen here as orphans of our binary.
fn is_of(command: &str, name: &str, binary: &str) -> bool {
    command.starts_with(binary) && command.split(' ').any(|word| word == name)
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
