//! Tables as Go's tabwriter pads them, so that scripts which cut our output at columns cut upstream's at the same ones.

/// Rows of cells. The last cell of a row is never padded.
#[derive(Debug)]
pub(crate) struct Table {
    padding: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose columns are this far apart.
    pub(crate) fn new(padding: usize, headings: &[&str]) -> Self {
        Self { padding, rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row with as many cells as there are headings.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a row whose number of cells is known only when it is made.
    pub(crate) fn cells(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + self.padding
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < row.len() {
                    let gap = widths[column] - cell.chars().count();
                    text.extend(std::iter::repeat_n(' ', gap));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(1, &["A", "LONG HEADING", "C"]);
        table.row(["wide cell", "", "é"].map(str::to_owned));
        table.row(["x", "y", ""].map(str::to_owned));
        assert_eq!(table.render(), "A         LONG HEADING C\nwide cell              é\nx         y            \n");
    }
}
