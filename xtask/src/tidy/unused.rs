//! Dependencies that a crate lists and never names.

use super::{Finding, files::files, source};
use anyhow::Result;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

pub(super) fn check(root: &Path, metadata: &Value) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    for package in packages.filter(|package| package["source"].is_null()) {
        let Some(folder) = package["manifest_path"].as_str().and_then(|path| Path::new(path).parent()) else {
            continue;
        };
        let place = folder.strip_prefix(root).unwrap_or(folder).join("Cargo.toml").to_string_lossy().into_owned();
        let named = words(folder)?;
        for used in package["dependencies"].as_array().into_iter().flatten() {
            let name = used["rename"].as_str().or_else(|| used["name"].as_str()).unwrap_or_default();
            if !named.contains(&name.replace('-', "_")) {
                findings.push(Finding::new(&place, format!("lists {name}, which no file of the crate names")));
            }
        }
    }
    Ok(findings)
}

/// Every word of the code below a folder.
fn words(folder: &Path) -> Result<BTreeSet<String>> {
    let mut words = BTreeSet::new();
    for path in files(folder, "rs")? {
        let code = source::code(&fs::read_to_string(path)?);
        words.extend(source::words(&code).map(str::to_owned));
    }
    Ok(words)
}
