//! Pages under `docs/contract` name a test for every row: each of those tests must exist.

use super::{Finding, files::files};
use anyhow::Result;
use std::{collections::HashSet, fs, path::Path};

const FOLDER: &str = "docs/contract";

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let folder = root.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut functions = HashSet::new();
    for path in files(root, "rs")? {
        functions.extend(defined(&fs::read_to_string(&path)?));
    }
    let mut findings = Vec::new();
    for path in files(&folder, "md")? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        for (number, line) in fs::read_to_string(&path)?.lines().enumerate() {
            for test in named(line).filter(|test| !functions.contains(*test)) {
                let place = format!("{name}:{}", number + 1);
                findings.push(Finding::new(place, format!("there is no test `{test}`")));
            }
        }
    }
    Ok(findings)
}

/// Names of functions and of a table's named cases that a source defines.
fn defined(source: &str) -> Vec<String> {
    let after = ["fn ", "#[case::"].into_iter().flat_map(|mark| source.split(mark).skip(1));
    after
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The tests in the last cell of a table's row: what stands between backticks there and reads like a function's name.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let row = line.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|'));
    let last = row.and_then(|row| row.rsplit('|').next()).unwrap_or_default();
    let names = last.split('`').skip(1).step_by(2);
    names.filter(|name| {
        name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_those_of_the_last_cell() {
        let line = "| X1 | `not_this_one` | ztunnel `one_test`, `another_test`; `Type::name` |";
        assert_eq!(named(line).collect::<Vec<_>>(), ["one_test", "another_test"]);
        assert_eq!(named("`prose_is_free`").count(), 0);
    }

    #[test]
    fn functions_and_cases_are_found() {
        let source = "pub(super) fn one() {}\n#[case::a_case(1)]\nasync fn two<T>() {}";
        assert_eq!(defined(source), ["one", "two", "a_case"]);
    }
}
