//! Running cargo from inside cargo: always in the repository's root, always with the committed lock file.

use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How to call cargo.
pub(crate) struct Cargo {
    root: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl Cargo {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), env: Vec::new() }
    }

    /// The same with one more variable set.
    pub(crate) fn with_env(&self, name: &'static str, value: &str) -> Self {
        Self { root: self.root.clone(), env: [self.env.as_slice(), &[(name, value.to_owned())]].concat() }
    }

    /// A command that has not been started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it; its output is shown as it comes.
    pub(crate) fn run(&self, args: &[&str]) -> Result<()> {
        eprintln!("$ cargo {}", args.join(" "));
        let status = self.command(args).status().context("starting cargo")?;
        if !status.success() {
            bail!("`cargo {}` failed", args.join(" "));
        }
        Ok(())
    }

    /// Runs it and returns what it printed.
    pub(crate) fn output(&self, args: &[&str]) -> Result<Vec<u8>> {
        let output = self.command(args).stderr(Stdio::inherit()).output().context("starting cargo")?;
        if !output.status.success() {
            bail!("`cargo {}` failed", args.join(" "));
        }
        Ok(output.stdout)
    }
}
