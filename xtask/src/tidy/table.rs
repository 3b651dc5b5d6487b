//! Tables in Markdown, as far as our own pages use them.

use anyhow::{Result, bail};

/// The rows of the table whose first heading is `heading`, cells without their backticks.
pub(super) fn rows(page: &str, heading: &str) -> Result<Vec<Vec<String>>> {
    let mut lines = page.lines().skip_while(|line| cells(line).first().is_none_or(|first| first != heading));
    if lines.next().is_none() {
        bail!("ARCHITECTURE.md has no table whose first column is {heading:?}");
    }
    Ok(lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect())
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map_or_else(Vec::new, |inner| inner.split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect())
}

/// The names in a cell: separated by commas, a dash for none.
pub(super) fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "–")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_by_its_heading() {
        let page = "| Other | x |\n|---|---|\n| a | b |\n\n| Crate | May use |\n|---|---|\n| `model` | – |\n| `xds` | `model`, `proto` |\n\nText";
        let rows = rows(page, "Crate").unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(names(&rows[0][1]).count(), 0);
        assert_eq!(names(&rows[1][1]).collect::<Vec<_>>(), ["model", "proto"]);
        assert!(super::rows(page, "Missing").is_err());
    }
}
