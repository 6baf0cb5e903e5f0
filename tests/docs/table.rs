//! Tables of Markdown, as the documents have them: a head, a line of dashes, and rows of as many cells.

/// One table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The names of its columns.
    pub head: Vec<String>,
    /// Its rows, each as wide as the head.
    pub rows: Vec<Vec<String>>,
}

/// All tables of a page.
///
/// # Panics
/// If a line with bars is in no table, or not as wide as its head.
pub fn tables(page: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with('|') {
            continue;
        }
        let head = cells(line);
        let dashes = lines.next().unwrap_or_default();
        assert_eq!(
            dashes,
            format!("|{}", "---|".repeat(head.len())),
            "under {line}"
        );
        let mut rows = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
            let row = cells(line);
            assert_eq!(row.len(), head.len(), "{line}");
            rows.push(row);
        }
        tables.push(Table { head, rows });
    }
    tables
}

fn cells(line: &str) -> Vec<String> {
    // A bar in a cell is written `\|`.
    let line = line.replace("\\|", "\u{0}");
    let inside = line
        .strip_prefix("| ")
        .and_then(|line| line.strip_suffix(" |"))
        .unwrap_or_else(|| panic!("not a row: {line}"));
    let cells = inside.split(" | ");
    cells.map(|cell| cell.replace('\u{0}', "|")).collect()
}

#[test]
fn a_page_is_read_table_by_table() {
    let page = "text\n\n| a | b |\n|---|---|\n| 1 | x \\| y |\n| 2 |  |\n\nmore\n\n| c |\n|---|\n";
    let table = |head: &[&str], rows: &[&[&str]]| Table {
        head: head.iter().map(ToString::to_string).collect(),
        rows: rows
            .iter()
            .map(|row| row.iter().map(ToString::to_string).collect())
            .collect(),
    };
    assert_eq!(
        tables(page),
        [
            table(&["a", "b"], &[&["1", "x | y"], &["2", ""]]),
            table(&["c"], &[])
        ]
    );
}
