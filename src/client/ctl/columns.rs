//! Rows of cells as lines of the same columns.

/// The gap between two columns.
const GAP: &str = "  ";

/// One line for each row: all columns flush right, and no narrower than `min_width`, but the last one, which is a text
/// of any length.
pub(crate) fn lines<const COLUMNS: usize>(
    rows: &[[String; COLUMNS]],
    min_width: usize,
) -> Vec<String> {
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max();
        widest.unwrap_or_default().max(min_width)
    });
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column + 1 == COLUMNS { cell.clone() } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join(GAP)
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_flush_right_before_a_text() {
        let rows = [["n", "of", "text"], ["10", "", "a b"]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(&rows, 0), [" n  of  text", "10      a b"]);
        assert_eq!(lines(&rows, 3), ["  n   of  text", " 10       a b"]);
        assert_eq!(lines::<2>(&[], 3), [""; 0]);
    }
}
