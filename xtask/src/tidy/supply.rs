//! What comes from others: every dependency has a reason written down, a licence we can live with, and is not one we refused.

use super::Finding;
use anyhow::{Context, Result};
use std::{collections::BTreeSet, fs, path::Path};

/// Licences that may be linked into an Apache-2.0 binary; an expression needs one choice made of these alone.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Refused, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("native-tls", "one TLS stack: rustls with aws-lc-rs"),
    ("openssl", "one TLS stack: rustls with aws-lc-rs"),
    ("openssl-sys", "one TLS stack: rustls with aws-lc-rs"),
    ("ring", "one cryptography: aws-lc-rs"),
    ("serde_yaml", "unmaintained; YAML is read by api::yaml"),
    ("rustables", "its licence is GPL-3.0"),
    ("git2", "links a C library that nothing here needs"),
    ("chrono", "time is jiff's"),
];

/// What `cargo tree` has to print for [`check`]: what is really built, which the lock file alone does not say.
pub(super) const TREE: &[&str] =
    &["tree", "--workspace", "--locked", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}\t{l}"];

pub(super) fn check(root: &Path, tree: &str) -> Result<Vec<Finding>> {
    let reasons = fs::read_to_string(root.join("docs/dependencies.md")).context("reading docs/dependencies.md")?;
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("reading Cargo.toml")?;
    let mut findings = unexplained(&manifest, &reasons);
    let packages: BTreeSet<(&str, &str)> = tree.lines().filter_map(|line| line.split_once('\t')).collect();
    for (package, licence) in packages {
        let name = package.split(' ').next().unwrap_or(package);
        let licence = licence.trim_end_matches(" (*)");
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            findings.push(Finding::new("Cargo.lock", format!("{name} is refused: {why}")));
        }
        if !acceptable(licence) {
            findings.push(Finding::new("Cargo.lock", format!("the licence of {name} is {licence:?}")));
        }
    }
    Ok(findings)
}

/// Dependencies of the workspace that docs/dependencies.md gives no line to.
fn unexplained(manifest: &str, reasons: &str) -> Vec<Finding> {
    let explained: BTreeSet<&str> =
        reasons.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`')).collect();
    let table = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let lines = table.take_while(|line| !line.starts_with('['));
    let theirs = lines.filter(|line| !line.starts_with('#') && line.contains('=') && !line.contains("path = "));
    let names = theirs.filter_map(|line| Some(line.split('=').next()?.trim()));
    let missing = names.filter(|name| !explained.contains(name));
    missing
        .map(|name| Finding::new("docs/dependencies.md", format!("has no line for {name}: say what it is for")))
        .collect()
}

/// Whether an SPDX expression leaves a choice of accepted licences: any side of `OR`, every side of `AND`.
fn acceptable(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    any_side(expression.trim())
}

fn any_side(expression: &str) -> bool {
    sides(expression, " OR ").into_iter().any(|side| {
        sides(side, " AND ").into_iter().all(|part| {
            let part = part.trim();
            let inner = part.strip_prefix('(').and_then(|part| part.strip_suffix(')'));
            inner.map_or_else(|| LICENCES.contains(&part), any_side)
        })
    })
}

/// Splits at a word outside parentheses.
fn sides<'a>(expression: &'a str, word: &str) -> Vec<&'a str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 && at >= start && expression[at..].starts_with(word) => {
                found.push(expression[start..at].trim());
                start = at + word.len();
            }
            _ => {}
        }
    }
    found.push(expression[start..].trim());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "ISC AND (Apache-2.0 OR ISC)",
            "GPL-3.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(acceptable(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "", "(GPL-2.0 OR MIT) AND MPL-2.0"] {
            assert!(!acceptable(bad), "{bad}");
        }
    }

    #[test]
    fn every_dependency_has_a_line() {
        let manifest = "[workspace.dependencies]\n# ours\nmodel = { path = \"x\" }\n\nserde = \"1\"\nbytes = { version = \"1\" }\n\n[profile.dev]\nx = 1\n";
        let told = unexplained(manifest, "| `serde` | reading |\n");
        assert_eq!(told, [Finding::new("docs/dependencies.md", "has no line for bytes: say what it is for")]);
    }
}
