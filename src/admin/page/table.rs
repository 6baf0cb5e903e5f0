//! Tables, which are lists on a narrow screen.

use maud::{Markup, html};

/// A table under its heading.
pub(super) struct Table<'a, const COLUMNS: usize> {
    pub name: &'static str,
    /// The text beside the name.
    pub note: &'a str,
    pub columns: [Column; COLUMNS],
    /// The first cell names the row.
    pub rows: Vec<[Markup; COLUMNS]>,
    /// The text in place of a table without rows.
    pub empty: &'static str,
}

/// A column with its heading; the kind of its content decides how it is aligned.
#[derive(Debug)]
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
}

impl Column {
    fn name(&self) -> &'static str {
        match self {
            Self::Text(name) | Self::Number(name) => name,
        }
    }

    fn class(&self) -> Option<&'static str> {
        match self {
            Self::Text(_) => None,
            Self::Number(_) => Some("number"),
        }
    }
}

impl<const COLUMNS: usize> Table<'_, COLUMNS> {
    /// The roles are what the elements mean anyway: the style sheet displays them as blocks on a narrow screen, and some browsers
    /// then take the meaning from them. The names of columns are beside the values there, hence `data-column`.
    pub(super) fn render(&self) -> Markup {
        let heading = html! { h2 { (self.name) " " span.more { (self.note) } } };
        if self.rows.is_empty() {
            return html! { section { (heading) p.empty { (self.empty) } } };
        }
        html! {
            section {
                table role="table" {
                    caption { (heading) }
                    thead role="rowgroup" {
                        tr role="row" {
                            @for column in &self.columns {
                                th scope="col" role="columnheader" class=[column.class()] { (column.name()) }
                            }
                        }
                    }
                    tbody role="rowgroup" {
                        @for row in &self.rows {
                            tr role="row" { (self.cells(row)) }
                        }
                    }
                }
            }
        }
    }

    fn cells(&self, row: &[Markup; COLUMNS]) -> Markup {
        html! {
            @for (place, (column, cell)) in self.columns.iter().zip(row).enumerate() {
                @if place == 0 {
                    th scope="row" role="rowheader" { (cell) }
                } @else {
                    td role="cell" class=[column.class()] data-column=(column.name()) { div { (cell) } }
                }
            }
        }
    }
}
