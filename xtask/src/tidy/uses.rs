//! Who may use whom: the workspace's arrows point down, and some crates of others have one home.

use super::{Finding, table};
use anyhow::Result;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Compares what `cargo metadata` says with the two tables of ARCHITECTURE.md.
pub(super) fn check(metadata: &Value, architecture: &str) -> Result<Vec<Finding>> {
    let packages = packages(metadata);
    let ours: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    let allowed = pairs(table::rows(architecture, "Crate")?);
    let homes = pairs(table::rows(architecture, "Crate of others")?);
    let mut findings = Vec::new();
    for (package, uses) in &packages {
        let place = format!("{package}/Cargo.toml");
        let Some(may_use) = allowed.get(package) else {
            findings.push(Finding::new(place, "is not in ARCHITECTURE.md's table of allowed uses"));
            continue;
        };
        for used in uses.iter().filter(|used| ours.contains(used.as_str())) {
            if !may_use.contains("everything") && !may_use.contains(used) {
                findings
                    .push(Finding::new(&place, format!("may not use {used} (ARCHITECTURE.md, table of allowed uses)")));
            }
        }
        for used in uses {
            if homes.get(used).is_some_and(|homes| !homes.contains(package)) {
                findings.push(Finding::new(&place, format!("may not name {used} (ARCHITECTURE.md, crates of others)")));
            }
        }
    }
    let gone = allowed.keys().filter(|name| !ours.contains(name.as_str()));
    findings.extend(
        gone.map(|name| Finding::new("ARCHITECTURE.md", format!("lists {name}, which is not in the workspace"))),
    );
    Ok(findings)
}

fn pairs(rows: Vec<Vec<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let pairs = rows.into_iter().filter_map(|row| {
        let (name, cell) = (row.first()?.clone(), row.get(1)?);
        Some((name, table::names(cell).map(str::to_owned).collect()))
    });
    pairs.collect()
}

/// Every workspace package and what it names outside its tests.
fn packages(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let ours = packages.filter(|package| package["id"].as_str().is_some_and(|id| members.contains(id)));
    let named = ours.filter_map(|package| {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let uses = dependencies.filter(|used| used["kind"].as_str() != Some("dev"));
        let uses = uses.filter_map(|used| used["name"].as_str().map(str::to_owned));
        Some((package["name"].as_str()?.to_owned(), uses.collect()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLES: &str = "| Crate | May use |\n|---|---|\n| `model` | – |\n| `cluster` | `model` |\n\n\
        | Crate of others | Named by |\n|---|---|\n| `kube` | `cluster` |\n";

    fn metadata(model_uses: &[(&str, Option<&str>)]) -> Value {
        let uses: Vec<_> = model_uses.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({
            "workspace_members": ["1", "2"],
            "packages": [
                {"id": "1", "name": "model", "dependencies": uses},
                {"id": "2", "name": "cluster", "dependencies": [{"name": "kube", "kind": null}, {"name": "model", "kind": null}]},
                {"id": "3", "name": "kube", "dependencies": []},
            ]
        })
    }

    fn told(model_uses: &[(&str, Option<&str>)]) -> Vec<String> {
        check(&metadata(model_uses), TABLES).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_point_down() {
        assert!(told(&[("serde", None)]).is_empty());
        assert!(told(&[("cluster", None)])[0].contains("model/Cargo.toml: may not use cluster"));
        assert!(told(&[("cluster", Some("dev"))]).is_empty(), "tests may look around");
    }

    #[test]
    fn a_crate_of_others_has_a_home() {
        assert!(told(&[("kube", None)])[0].contains("may not name kube"));
    }

    #[test]
    fn the_table_is_complete_and_current() {
        let page = TABLES.replace("| `model` | – |", "| `gone` | – |");
        let told: Vec<_> = check(&metadata(&[]), &page).unwrap().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.contains("model/Cargo.toml: is not in")), "{told:?}");
        assert!(told.iter().any(|line| line.contains("lists gone")), "{told:?}");
    }
}
