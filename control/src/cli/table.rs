//! Plain tables: a head in capitals, columns two blanks apart, numbers to the right.

/// Which side of its column a cell leans to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A table under construction.
pub(super) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads; one that starts with `>` heads a column of numbers.
    pub(super) fn new(heads: &[&str]) -> Table {
        let sides = heads.iter().map(|h| if h.starts_with('>') { Side::Right } else { Side::Left }).collect();
        Table { sides, rows: vec![heads.iter().map(|h| h.trim_start_matches('>').to_owned()).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> =
            cells.into_iter().map(|c| if c.is_empty() { "-".to_owned() } else { c }).collect();
        row.resize(self.sides.len(), String::new());
        self.rows.push(row);
    }

    /// The text; `nothing` stands for a table without rows.
    pub(super) fn finish(self, nothing: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{nothing}\n");
        }
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), side) in row.iter().zip(&widths).zip(&self.sides) {
                match side {
                    Side::Left => line += &format!("{cell:<width$}  "),
                    Side::Right => line += &format!("{cell:>width$}  "),
                }
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// `key: value` lines with the values aligned.
pub(super) fn properties(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    let mut out = String::new();
    for (key, value) in lines {
        let value = if value.is_empty() { "-" } else { value };
        out += &format!("{:<width$} {value}\n", format!("{key}:"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_blanks() {
        let mut table = Table::new(&["NAME", ">COUNT", "NOTE"]);
        table.row(["a".into(), "12345678".into(), "x".into()]);
        table.row(["größer".into(), "1".into(), String::new()]);
        assert_eq!(
            table.finish(""),
            "NAME       COUNT  NOTE\n\
             a       12345678  x\n\
             größer         1  -\n"
        );
        assert_eq!(Table::new(&["A"]).finish("none"), "none\n");
    }
}
