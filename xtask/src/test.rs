//! `cargo xtask test`: every test of the repository, and one line of counts at the end.
//!
//! The mesh tests (`mesh` is part of their names) start the real binary in network namespaces of their own and need root; they are
//! left out only when that is asked for.

use crate::{cargo::Cargo, slowest};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Leave out the tests that need root
    #[arg(long)]
    no_mesh: bool,
    /// Only tests whose name holds this
    filter: Option<String>,
}

pub(crate) fn run(root: &Path, cargo: &Cargo, args: &Args) -> Result<()> {
    if !args.no_mesh && !is_root() {
        bail!(
            "the mesh tests make network namespaces, which takes root: run `sudo -E cargo xtask test`, \
             or `cargo xtask test --no-mesh` for the others"
        );
    }
    let mut counts = Counts::default();
    // Always the whole workspace: a choice of packages is a choice of features, and other features build everything anew.
    let kinds: [&[&str]; 3] = [&["--lib", "--bins", "--timings"], &["--doc"], &["--test", "*"]];
    let mut complete = true;
    for kind in kinds {
        let mut words = [&["test", "--workspace", "--no-fail-fast"], kind].concat();
        words.extend(args.filter.as_deref());
        if kind.contains(&"--test") {
            // One after the other: a mesh test is a whole mesh, and two cores are little.
            words.extend(["--", "--test-threads=1"]);
            words.extend(args.no_mesh.then_some("--skip=mesh"));
        }
        complete &= suite(cargo, &words, &mut counts)?;
    }
    slowest::print(root);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if !complete || counts.failed > 0 {
        bail!("some tests failed; the runners' lines above name them");
    }
    Ok(())
}

/// Tests that ended well and badly.
#[derive(Default, Debug, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Reads a runner's line, such as `test result: ok. 3 passed; 0 failed; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let mut words = result.split([' ', ';']).filter(|word| !word.is_empty()).peekable();
        while let Some(word) = words.next() {
            let Ok(count) = word.parse::<u64>() else { continue };
            match words.peek() {
                Some(&"passed") => self.passed += count,
                Some(&"failed") => self.failed += count,
                _ => {}
            }
        }
    }
}

/// Runs one `cargo test`, shows what it prints and counts along. False if something could not be built or failed.
fn suite(cargo: &Cargo, words: &[&str], counts: &mut Counts) -> Result<bool> {
    eprintln!("$ cargo {}", words.join(" "));
    let mut running = cargo.command(words).stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = running.stdout.take().context("reading what cargo prints")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("reading what cargo prints")?;
        println!("{line}");
        counts.add(&line);
    }
    Ok(running.wait().context("waiting for cargo")?.success())
}

/// The effective user, from the kernel's own table: no library is worth a dependency here.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_lines_are_summed() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { passed: 4, failed: 2 });
    }
}
