//! Which crates a build waited for longest, so that the graph stays lean: read from cargo's own timing report.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// How many are named.
const NAMED: usize = 10;
/// What takes less is not worth a line.
const FROM_SECONDS: f64 = 2.0;

/// Prints the slowest crates of the build that was run with `--timings` last; nothing when it built nothing that counts.
pub(crate) fn print(root: &Path) {
    let report = target(root).join("cargo-timings/cargo-timing.html");
    let slowest = read(&fs::read_to_string(report).unwrap_or_default());
    if slowest.is_empty() {
        return;
    }
    println!("slowest crates of this build (seconds of one core):");
    for (name, seconds) in slowest {
        println!("  {seconds:6.1}  {name}");
    }
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

/// The report holds the units as one JSON list.
fn read(report: &str) -> Vec<(String, f64)> {
    let list = report.split_once("UNIT_DATA = ").and_then(|(_, rest)| rest.split_once("];"));
    let list = list.map(|(list, _)| format!("{list}]")).unwrap_or_default();
    let units: Vec<Value> = serde_json::from_str(&list).unwrap_or_default();
    let mut sums = BTreeMap::<String, f64>::new();
    for unit in &units {
        if let (Some(name), Some(seconds)) = (unit["name"].as_str(), unit["duration"].as_f64()) {
            *sums.entry(name.to_owned()).or_default() += seconds;
        }
    }
    let mut slowest: Vec<_> = sums.into_iter().filter(|(_, seconds)| *seconds >= FROM_SECONDS).collect();
    slowest.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    slowest.truncate(NAMED);
    slowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_a_crate_are_summed() {
        let report = r#"x
const UNIT_DATA = [{"name": "kube", "duration": 3.0}, {"name": "kube", "duration": 4.0}, {"name": "bytes", "duration": 1.0},
{"name": "syn", "duration": 9.5}];
y"#;
        assert_eq!(read(report), [("syn".to_owned(), 9.5), ("kube".to_owned(), 7.0)]);
        assert!(read("nothing").is_empty());
    }
}
