//! Rules for every Rust file: it says what it is for, it is short, it names things by what they are.

use super::{Finding, source};
use anyhow::Result;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file without its tests.
const MAX_LINES: usize = 400;
/// Lines of a file of tests.
const MAX_TEST_LINES: usize = 800;
/// Names that hide a missing idea.
const BANNED: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager", "wrapper"];
/// Written by a program.
const GENERATED: &str = "crates/proto/src/generated/";
/// The one crate that may hold `unsafe`.
const UNSAFE_HOME: &str = "crates/linux/";

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files(root, "rs")? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if !name.starts_with(GENERATED) {
            findings.extend(file(&name, &fs::read_to_string(&path)?));
        }
    }
    Ok(findings)
}

/// Every file with this ending that is ours.
pub(super) fn files(root: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let hidden = entry.file_name().to_string_lossy().starts_with('.') || entry.file_name() == "target";
            if kind.is_dir() && !hidden {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|held| held == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn file(name: &str, text: &str) -> Vec<Finding> {
    let code = source::code(text);
    let mut findings = Vec::new();
    let mut tell = |place: String, what: String| findings.push(Finding::new(place, what));
    if !text.starts_with("//!") {
        tell(name.to_owned(), "does not begin with `//!`: say what the file is for".to_owned());
    }
    let is_tests = name.ends_with("/tests.rs") || name.contains("/tests/");
    let (lines, limit) =
        if is_tests { (text.lines().count(), MAX_TEST_LINES) } else { (source::lines_without_tests(text), MAX_LINES) };
    if lines > limit {
        tell(name.to_owned(), format!("has {lines} lines, more than {limit}: cut it where it has two subjects"));
    }
    let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if BANNED.contains(&&*stem) {
        tell(name.to_owned(), format!("the name {stem:?} does not say what is in it"));
    }
    for (number, (line, written)) in code.lines().zip(text.lines()).enumerate() {
        let place = || format!("{name}:{}", number + 1);
        if source::words(line).any(|word| word == "unsafe") && !name.starts_with(UNSAFE_HOME) {
            tell(place(), "`unsafe` lives in crates/linux only".to_owned());
        }
        if let Some(word) = declared(line).filter(|word| hides_an_idea(word)) {
            tell(place(), format!("the name {word:?} does not say what it is"));
        }
        if ["TO\u{44}O", "FIX\u{4d}E", "XX\u{58}"].iter().any(|mark| source::words(written).any(|word| word == *mark)) {
            tell(place(), "finish it or open an issue: no marks are left in the code".to_owned());
        }
    }
    findings
}

/// The name that a line declares.
fn declared(line: &str) -> Option<&str> {
    let mut words = source::words(line).filter(|word| !word.is_empty());
    words.find(|word| matches!(*word, "mod" | "struct" | "enum" | "trait" | "type"))?;
    words.next()
}

/// Whether a banned word is one of the name's words.
fn hides_an_idea(name: &str) -> bool {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c.is_uppercase() || c == '_' {
            words.push(String::new());
        }
        if let Some(last) = words.last_mut() {
            last.extend(c.to_lowercase().filter(|c| *c != '_'));
        }
    }
    words.iter().any(|word| BANNED.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, text: &str) -> Vec<String> {
        file(name, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_is_silent() {
        assert!(
            told("crates/x/src/lib.rs", "//! What.\nmod route;\nstruct Unmanaged; // unsafe here is a word\n")
                .is_empty()
        );
    }

    #[test]
    fn each_rule_speaks() {
        assert!(told("a.rs", "mod x;\n")[0].contains("does not begin"));
        assert!(told("a.rs", "//! W\nunsafe { }\n")[0].starts_with("a.rs:2: `unsafe`"));
        assert!(told("crates/linux/a.rs", "//! W\nunsafe { }\n").is_empty());
        assert!(told("a.rs", "//! W\npub struct PodManager;\n")[0].contains("PodManager"));
        assert!(told("src/util.rs", "//! W\n")[0].contains("util"));
        assert!(told("a.rs", &format!("//! W\n{}", "x();\n".repeat(401)))[0].contains("402 lines"));
        assert!(told("a.rs", "//! W\n// TO\u{44}O later\n")[0].contains("finish it"));
    }
}
