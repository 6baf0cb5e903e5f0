//! The tables of the documentation name the tests that show what they say: neither may rot without the other.

use std::collections::BTreeSet;
use std::fs;

use crate::table;
use crate::{files_in, root, text};

/// What the first column of those tables is called.
const NUMBER: &str = "No.";

/// What stands in place of a test where something is left out on purpose.
const DECISION: &str = "*Decision*";

/// A document whose tables have a number in their first column and tests in their last.
struct Document {
    file: &'static str,
    /// What its numbers begin with.
    prefix: &'static str,
    columns: usize,
    /// The folder whose every test has to be in it.
    complete: &'static str,
}

const DOCUMENTS: [Document; 2] = [
    Document {
        file: "docs/conformance.md",
        prefix: "C-",
        columns: 5,
        complete: "tests/it/conformance",
    },
    Document {
        file: "docs/threats.md",
        prefix: "T-",
        columns: 4,
        complete: "tests/it/attacks",
    },
];

struct Row {
    number: String,
    cells: Vec<String>,
    shown_by: Vec<String>,
}

impl Document {
    fn rows(&self) -> Vec<Row> {
        let tables = table::tables(&text(self.file)).into_iter();
        tables
            .filter(|table| table.head[0] == NUMBER)
            .flat_map(|table| {
                assert_eq!(table.head.len(), self.columns, "{:?}", table.head);
                table.rows
            })
            .map(|cells| Row {
                number: cells[0].clone(),
                shown_by: cells[self.columns - 1]
                    .split("<br>")
                    .map(str::to_owned)
                    .collect(),
                cells,
            })
            .collect()
    }

    /// The tests that it names, as `path::name`.
    fn named(&self) -> BTreeSet<String> {
        let tests = self.rows().into_iter().flat_map(|row| row.shown_by);
        tests
            .filter(|test| test != DECISION)
            .map(|test| test.trim_matches('`').to_owned())
            .collect()
    }
}

/// The tests of a file, by any attribute that makes one.
fn tests_in(source: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    let pairs = lines.windows(2).filter(|pair| is_test(pair[0]));
    pairs
        .filter_map(|pair| {
            let function = pair[1].strip_prefix("async ").unwrap_or(pair[1]);
            Some(function.strip_prefix("fn ")?.split_once('(')?.0.to_owned())
        })
        .collect()
}

#[test]
fn rows_are_numbered_one_after_the_other_and_have_no_empty_cell() {
    for document in DOCUMENTS {
        let rows = document.rows();
        assert!(rows.len() > 100, "{} was read", document.file);
        for (index, row) in rows.iter().enumerate() {
            let digits = row.number.len() - document.prefix.len();
            let expected = format!("{}{:0digits$}", document.prefix, index + 1);
            assert_eq!(row.number, expected, "{}", document.file);
            for text in row.cells.iter().chain(&row.shown_by) {
                assert!(!text.trim().is_empty(), "{}: an empty cell", row.number);
            }
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        for row in document.rows() {
            if row.shown_by == [DECISION] {
                continue;
            }
            for test in &row.shown_by {
                let named = test
                    .strip_prefix('`')
                    .and_then(|test| test.strip_suffix('`')?.split_once("::"));
                let exists = named.is_some_and(|(path, name)| {
                    fs::read_to_string(root().join(path))
                        .is_ok_and(|source| tests_in(&source).contains(name))
                });
                if !exists {
                    missing.push(format!("{}: {test}", row.number));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_test_that_belongs_into_a_document_is_in_it() {
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let named = document.named();
        let mut tests = Vec::new();
        for file in files_in(document.complete) {
            let path = file.strip_prefix(root()).expect("inside").display();
            let source = fs::read_to_string(&file).expect("a source file");
            let names = tests_in(&source).into_iter();
            tests.extend(names.map(|name| format!("{path}::{name}")));
        }
        assert!(!tests.is_empty(), "no tests in {}", document.complete);
        tests.retain(|test| !named.contains(test));
        missing.extend(tests.into_iter().map(|test| (document.file, test)));
    }
    assert!(missing.is_empty(), "not in their document: {missing:#?}");
}
