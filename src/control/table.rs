//! Tables for people: columns as wide as what is in them, and cut where a line would be wider than it may be.

use crate::base::text::Masked;

/// The widest line, in characters; narrower terminals have narrower ones.
pub const WIDTH: usize = 100;

/// The blanks between two columns.
const GAP: usize = 2;
/// Width that columns keep which may be cut.
const LEAST: usize = 8;
/// Mark where something was cut off.
const ELLIPSIS: char = '…';
/// Mark of an empty cell.
const NOTHING: &str = "-";

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    kind: Kind,
}

/// The kind of a column's content, which determines how it is aligned and cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Words: may lose their end.
    Words,
    /// A path: may lose its beginning, since its end tells one file from another.
    Path,
    /// A word or an id: whole.
    Word,
    /// A number: whole, at the right.
    Number,
}

/// Rows under titles. A column in which no row has anything is left out.
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[String; N]>,
}

impl Column {
    /// A column of texts that may lose their end.
    pub const fn words(title: &'static str) -> Self {
        Self::new(title, Kind::Words)
    }

    /// A column of paths, which may lose their beginning.
    pub const fn path(title: &'static str) -> Self {
        Self::new(title, Kind::Path)
    }

    /// A column of short texts, which stay whole.
    pub const fn word(title: &'static str) -> Self {
        Self::new(title, Kind::Word)
    }

    /// A column of numbers, with their units.
    pub const fn number(title: &'static str) -> Self {
        Self::new(title, Kind::Number)
    }

    const fn new(title: &'static str, kind: Kind) -> Self {
        Self { title, kind }
    }
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub fn new(columns: [Column; N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; an empty text is nothing.
    pub fn push(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| Masked(&cell).to_string()));
    }

    /// The table's lines, none of them wider than this.
    pub fn render(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let titles = self.columns.each_ref().map(|column| column.title);
        self.push_line(&mut text, titles, &widths, width);
        for row in &self.rows {
            self.push_line(
                &mut text,
                row.each_ref().map(String::as_str),
                &widths,
                width,
            );
        }
        text
    }

    /// The width of each column; none for one that is left out.
    fn widths(&self, width: usize) -> [Option<usize>; N] {
        let mut widths: [Option<usize>; N] = std::array::from_fn(|number| {
            let cells = self.rows.iter().map(|row| length(&row[number]));
            let widest = cells.max().filter(|widest| *widest > 0)?;
            Some(widest.max(length(self.columns[number].title)))
        });
        let shown = widths.iter().flatten().count();
        let room = width.saturating_sub(shown.saturating_sub(1) * GAP);
        while widths.iter().flatten().sum::<usize>() > room {
            let may_be_cut = widths
                .iter_mut()
                .zip(&self.columns)
                .filter(|(_, column)| matches!(column.kind, Kind::Words | Kind::Path))
                .filter_map(|(width, _)| width.as_mut())
                .filter(|width| **width > LEAST);
            match may_be_cut.max_by_key(|width| **width) {
                Some(widest) => *widest -= 1,
                // The lines are cut as a whole.
                None => break,
            }
        }
        widths
    }

    fn push_line(
        &self,
        text: &mut String,
        cells: [&str; N],
        widths: &[Option<usize>; N],
        room: usize,
    ) {
        let mut line = String::new();
        for ((cell, column), width) in cells.into_iter().zip(&self.columns).zip(widths) {
            let Some(width) = *width else { continue };
            if !line.is_empty() {
                line.extend(std::iter::repeat_n(' ', GAP));
            }
            let cell = match cell {
                "" => NOTHING.to_owned(),
                path if column.kind == Kind::Path => without_beginning(path, width),
                other => without_end(other, width),
            };
            let padding = std::iter::repeat_n(' ', width.saturating_sub(length(&cell)));
            match column.kind {
                Kind::Number => line.extend(padding.chain(cell.chars())),
                Kind::Words | Kind::Path | Kind::Word => line.extend(cell.chars().chain(padding)),
            }
        }
        text.push_str(without_end(line.trim_end(), room).trim_end());
        text.push('\n');
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// At most `width` characters of the beginning.
fn without_end(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain([ELLIPSIS]).collect()
}

/// At most `width` characters of the end.
fn without_beginning(text: &str, width: usize) -> String {
    let all = length(text);
    if all <= width {
        return text.to_owned();
    }
    let kept = text.chars().skip(all - width.saturating_sub(1));
    [ELLIPSIS].into_iter().chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(rows: &[[&str; 4]]) -> Table<4> {
        let mut table = Table::new([
            Column::number("ID"),
            Column::words("USER"),
            Column::path("PATH"),
            Column::word("STATE"),
        ]);
        for row in rows {
            table.push(row.map(str::to_owned));
        }
        table
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let table = table(&[["7", "alice", "/a", "idle"], ["1234", "", "", "data port"]]);
        assert_eq!(
            table.render(WIDTH),
            "  ID  USER   PATH  STATE\n   7  alice  /a    idle\n1234  -      -     data port\n"
        );
    }

    #[test]
    fn a_column_without_anything_is_left_out() {
        let table = table(&[["7", "", "/a", "idle"]]);
        assert_eq!(table.render(WIDTH), "ID  PATH  STATE\n 7  /a    idle\n");
    }

    #[test]
    fn the_widest_columns_are_cut_first_users_at_their_end_and_paths_at_their_beginning() {
        let table = table(&[[
            "7",
            "alice.of.wonderland",
            "/very/long/path/file.txt",
            "idle",
        ]]);
        assert_eq!(
            table.render(42),
            "ID  USER             PATH            STATE\n 7  alice.of.wonde…  …path/file.txt  idle\n"
        );
    }

    #[test]
    fn what_does_not_print_is_masked() {
        let table = table(&[["7", "\u{1b}[2J\nx\u{202e}", "/a", "idle"]]);
        assert_eq!(
            table.render(WIDTH),
            "ID  USER     PATH  STATE\n 7  ?[2J?x?  /a    idle\n"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_it_may_be(
            rows in proptest::collection::vec(proptest::array::uniform4("\\PC{0,40}"), 0..5),
            width in 10_usize..=WIDTH,
        ) {
            let mut table = table(&[]);
            for row in rows {
                table.push(row);
            }
            for line in table.render(width).lines() {
                prop_assert!(length(line) <= width, "{line}");
            }
        }
    }
}
