//! `cargo xtask tidy`: the rules of the house that no compiler checks.
//!
//! Every rule returns its findings; all of them are told at once. Rules about crates read their tables from ARCHITECTURE.md, so
//! that the page and the check cannot drift apart.

mod contract;
mod docs;
mod files;
mod source;
mod supply;
mod table;
mod unused;
mod uses;

use crate::cargo::Cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{fmt, fs, path::Path};

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    place: String,
    what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

pub(crate) fn run(root: &Path, cargo: &Cargo) -> Result<()> {
    let metadata = cargo.output(&["metadata", "--format-version", "1", "--locked"])?;
    let metadata: Value = serde_json::from_slice(&metadata).context("reading what `cargo metadata` printed")?;
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).context("reading ARCHITECTURE.md")?;
    let mut findings = uses::check(&metadata, &architecture)?;
    let tree = String::from_utf8(cargo.output(supply::TREE)?).context("reading what `cargo tree` printed")?;
    findings.extend(supply::check(root, &tree)?);
    findings.extend(unused::check(root, &metadata)?);
    findings.extend(files::check(root)?);
    findings.extend(docs::check(root)?);
    findings.extend(contract::check(root)?);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} rules of the house are broken", findings.len());
    }
    Ok(())
}
